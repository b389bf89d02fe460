#include "apps/version.hpp"

namespace lazy {

std::string version_text() {
  return "lazy " LAZY_VERSION " (commit " LAZY_COMMIT
         ")\n"
         "compiler: " LAZY_COMPILER
         "\n"
         "flags: " LAZY_FLAGS
         "\n"
         "build type: " LAZY_BUILD_TYPE;
}

std::string build_commit() {
  return LAZY_COMMIT;
}
std::string build_compiler() {
  return LAZY_COMPILER;
}
std::string build_flags() {
  return LAZY_FLAGS;
}

}  // namespace lazy
