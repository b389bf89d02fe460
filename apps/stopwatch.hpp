#pragma once
// How `lazy bench` measures time: medians of turns, and everybody takes turns, so that a machine
// that slows down slows down for all.

#include <chrono>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace lazy {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Milliseconds of one call: `both` is forward and backward in one go, `backward` its second half.
struct Times {
  static constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();
  double forward = not_measured, both = not_measured, backward = not_measured;
};

/// Part by part; what nobody measured stays NaN.
Times medians(const std::vector<Times>& times);

/// Calls `once` until `least_seconds` are over, at least once: the median of what it returns. The
/// call before that does not count: others had the caches and the memory in the meantime.
Times turn(double least_seconds, const std::function<Times()>& once);

/// Medians over `rounds`: in every round each contender has one turn, in order. A contender that
/// throws drops out: `give_up(index, what it said)` is called and its times are NaN.
std::vector<Times> interleaved(int rounds, const std::vector<std::function<Times()>>& contenders,
                               const std::function<void(std::size_t, const std::string&)>& give_up);

}  // namespace lazy
