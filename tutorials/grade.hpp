#pragma once
// How an exercise is graded: one line a property, with a hint where it does not hold.

#include <cstdio>
#include <string>

namespace lazy::tutorial {

class Grade {
 public:
  void check(bool is_right, const std::string& property, const std::string& hint) {
    ++checks_;
    right_ += is_right;
    if (is_right)
      std::printf("right  %s\n", property.c_str());
    else
      std::printf("WRONG  %s\n       %s\n", property.c_str(), hint.c_str());
  }

  /// What `main` returns: 0 if everything was right.
  int result() const {
    std::printf("%d of %d right%s\n", right_, checks_,
                right_ == checks_ ? "" : ": edit exercise.hpp and grade it again");
    return right_ == checks_ ? 0 : 1;
  }

 private:
  int checks_ = 0, right_ = 0;
};

}  // namespace lazy::tutorial
