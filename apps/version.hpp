#pragma once

#include <string>

namespace lazy {

/// What `lazy --version` prints and a report records, one fact a line: version and commit (where
/// the sources were a git checkout when CMake last configured), compiler, flags and build type.
/// Ends without a newline.
std::string version_text();

/// Single facts of it.
std::string build_commit();
std::string build_compiler();
std::string build_flags();

}  // namespace lazy
