#include "apps/stopwatch.hpp"

#include <stdexcept>
#include <thread>

#include "apps/comparison_report.hpp"

namespace lazy {
namespace {

// Threads that have just worked keep a core busy for a moment while they wait for more.
constexpr auto pause_between_turns = std::chrono::milliseconds(10);

}  // namespace

Times medians(const std::vector<Times>& times) {
  const auto of = [&](double Times::*part) {
    std::vector<double> values;
    for (const Times& t : times) values.push_back(t.*part);
    return median(values);
  };
  return {of(&Times::forward), of(&Times::both), of(&Times::backward)};
}

Times turn(double least_seconds, const std::function<Times()>& once) {
  once();
  std::vector<Times> times;
  const Stopwatch watch;
  do times.push_back(once());
  while (watch.seconds() < least_seconds);
  return medians(times);
}

std::vector<Times> interleaved(
    int rounds, const std::vector<std::function<Times()>>& contenders,
    const std::function<void(std::size_t, const std::string&)>& give_up) {
  std::vector<std::vector<Times>> times(contenders.size());
  std::vector<bool> out(contenders.size(), false);
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      if (out[i]) continue;
      std::this_thread::sleep_for(pause_between_turns);
      try {
        times[i].push_back(contenders[i]());
      } catch (const std::runtime_error& error) {
        out[i] = true;
        times[i].clear();
        give_up(i, error.what());
      }
    }
  std::vector<Times> result;
  for (const auto& of_one : times) result.push_back(medians(of_one));
  return result;
}

}  // namespace lazy
