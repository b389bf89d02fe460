// The bug museum: mistakes that were really made in earlier programs for this method, each switched
// on in this folder's own loop, and the tests that notice.

#include "apps/svg.hpp"
#include "checks.hpp"
#include "tutorials/tutorial.hpp"

using namespace lazy::tutorial;
using namespace museum;

namespace {

struct Exhibit {
  Bug bug;
  const char *number, *mistake;
};

constexpr Exhibit exhibits[] = {
    {Bug::none, "", "nothing is wrong"},
    {Bug::strides_of_another_tensor, "T1", "dout read with the strides of another tensor"},
    {Bug::dead_entries_dropped, "T4", "dead entries lose their -P delta"},
    {Bug::positive_tau_leaks, "T5", "tau > 0: no mask after the ReLU"},
    {Bug::straight_through_tau, "T6", "dtau passed through dead entries"},
    {Bug::last_bias_ignored, "T7", "window off by one"},
    {Bug::no_query_offset, "T9", "row 0 taken for position 0"},
    {Bug::first_length_for_all, "T10", "all share the first one's length"},
    {Bug::padded_rows_unwritten, "T11", "padded rows never written"},
    {Bug::divided_by_column, "T14", "tau divided by the column"},
    {Bug::keys_not_repeated, "T15", "key head h % Hkv"},
    {Bug::rounded_before_threshold, "T17", "P rounded to bfloat16, then cut"},
    {Bug::window_hides_keys, "T24", "the bias window taken for a mask"},
};

struct Check {
  const char* name;
  bool (*passes)(Bug);
};

constexpr Check checks[] = {
    {"gradients are measured slopes", gradients_are_slopes},
    {"output is the oracle's", output_is_the_oracles},
    {"a future token changes nothing", future_changes_nothing},
    {"decoding equals one pass", decoding_equals_one_pass},
    {"a batch equals each one alone", batch_equals_each_alone},
    {"padded rows are zero", padded_rows_are_zero},
    {"groups equal repeated keys", groups_equal_repeated_keys},
    {"heads do not touch", heads_do_not_touch},
    {"mass lies within its bounds", mass_is_within_bounds},
    {"dead rows pass no gradient", dead_rows_pass_no_gradient},
    {"b[d] acts at distance d", bias_acts_at_its_distance},
    {"live entries are the oracle's", live_entries_are_the_oracles},
};

}  // namespace

int main(int argc, char** argv) {
  std::puts("Tests:");
  for (std::size_t c = 0; c < std::size(checks); ++c)
    std::printf("  %c  %s\n", char('a' + c), checks[c].name);
  std::puts("\nA letter: the test fails. A dot: it notices nothing.\n");

  std::vector<double> caught;
  std::vector<std::string> mistakes, letters;
  bool right_passes = true, each_caught = true, each_needed = true;
  std::size_t slopes_miss = 0;
  for (const Exhibit& e : exhibits) {
    std::string line;
    for (std::size_t c = 0; c < std::size(checks); ++c) {
      const bool passes = checks[c].passes(e.bug);
      line += passes ? '.' : char('a' + c);
      if (e.bug != Bug::none) caught.push_back(!passes);
    }
    std::printf("  %-4s %-46s %s\n", e.number, e.mistake, line.c_str());
    const bool noticed = line.find_first_not_of('.') != std::string::npos;
    if (e.bug == Bug::none) {
      right_passes = !noticed;
    } else {
      each_caught = each_caught && noticed;
      slopes_miss += line[0] == '.';
      mistakes.push_back(e.number);
    }
  }
  for (std::size_t c = 0; c < std::size(checks); ++c) {
    bool any = false;
    for (std::size_t b = 0; b < mistakes.size(); ++b)
      any = any || caught[b * std::size(checks) + c] > 0;
    each_needed = each_needed && any;
    letters.push_back(std::string(1, char('a' + c)));
  }
  std::puts("");
  holds(right_passes, "the right loop passes every test");
  holds(each_caught, "every mistake fails at least one");
  holds(each_needed, "every test notices at least one mistake");
  std::printf("measured slopes alone would let %zu of %zu pass\n", slopes_miss, mistakes.size());

  write_picture(argc, argv, "museum.svg",
                lazy::heat_map({.title = "Which test notices which mistake",
                                .x_label = "test",
                                .y_label = "mistake",
                                .row_labels = mistakes,
                                .column_labels = letters,
                                .width = 640},
                               mistakes.size(), std::size(checks), caught));
}
