#pragma once
// A line of the source, known to whoever is called from it: a parameter `Where where =
// Where::current()` is the caller's line. (std::source_location is missing from clang 14.)

namespace lazy::emulated {

struct Where {
  const char* file = "";
  unsigned line = 0;

  static constexpr Where current(const char* file = __builtin_FILE(),
                                 unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace lazy::emulated
