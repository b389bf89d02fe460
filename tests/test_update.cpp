// The end of a training step, on the CPU and by the kernels: loss and norm are measured, and where
// both are finite every piece of the parameters takes an AdamW step.

#include "tests/layer_checks.hpp"
#include "tests/threads.hpp"

using namespace lazy;
using namespace lazy::test;

namespace {

const CpuLayers<double> in_double;
const CpuLayers<float> in_float;
const KernelLayers<float> kernels_in_float;
const KernelLayers<BFloat16> kernels_in_bfloat16;

template <class Way>
StepOutputs measured(const Way& way, const Values<typename Way::Number>& losses,
                     const Values<typename Way::Number>& gradients, StepOutputs before = {},
                     Index step = 1) {
  const StepInputs inputs{.step = step};
  way.measure_step(&before, losses.data(), Index(losses.size()), gradients.data(),
                   Index(gradients.size()), &inputs);
  return before;
}

template <class Way>
void check_measures(const Way& way, Index N, Index size) {
  using T = typename Way::Number;
  CAPTURE(N, size);
  const auto losses = converted<T>(normals(N, 1)), gradients = converted<T>(normals(size, 2));
  double loss_sum = 0, squares = 0;
  for (const T x : losses) loss_sum += double(x);
  for (const T x : gradients) squares += double(x) * double(x);
  const StepOutputs outputs = measured(way, losses, gradients);
  CHECK(within(compare(Values<double>{outputs.loss_sum, outputs.squared_norm},
                       Values<double>{loss_sum, squares}),
               float64_budget));
  CHECK(outputs.failed_step == 0);
}

template <class Way>
void check_failures(const Way& way) {
  using T = typename Way::Number;
  const T infinite = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(measured(way, {1, 2}, Values<T>(4, T(1e30))).squared_norm == Approx(4e60));
  CHECK(measured(way, {1, nan}, {3, 4}, {}, 7).failed_step == 7);
  CHECK(measured(way, {1, infinite}, {3, 4}, {}, 7).failed_step == 7);
  CHECK(measured(way, {1, -infinite}, {3, 4}, {}, 7).failed_step == 7);
  CHECK(measured(way, {1, 2}, {3, nan}, {}, 7).failed_step == 7);
  CHECK(measured(way, {1, 2}, {-infinite, 4}, {}, 7).failed_step == 7);
  // It stays, whatever the next steps are like.
  for (const T gradient : {T(4), nan}) {
    const StepOutputs later = measured(way, {1, 2}, {3, gradient}, {.failed_step = 7}, 8);
    CHECK(later.failed_step == 7);
    CHECK(later.loss_sum == 3);
  }
}

// A step's measures stay for steps_kept steps, each in a place of its own.
template <class Way>
void check_kept(const Way& way) {
  using T = typename Way::Number;
  StepOutputs outputs;
  for (Index step = 5; step < 5 + 2 * steps_kept; ++step)
    outputs = measured(way, {T(step), 1}, {T(2 * step)}, outputs, step);
  for (Index step = 5 + steps_kept; step < 5 + 2 * steps_kept; ++step) {
    CAPTURE(step);
    const StepMeasures& kept = outputs.kept[step % steps_kept];
    CHECK(kept.loss_sum == double(step + 1));
    CHECK(kept.squared_norm == double(4 * step * step));
  }
}

// Pieces that begin and end anywhere; entry 4 and those after 4400 belong to none.
const std::vector<UpdatePiece> pieces{
    {0, 4, true}, {5, 4096, false}, {4101, 1, true}, {4102, 298, true}, {4400, 0, true}};
constexpr Index parameters = 4408;

Index piece_of(Index i) {
  for (std::size_t p = 0; p < pieces.size(); ++p)
    if (i >= pieces[p].offset && i < pieces[p].offset + pieces[p].size) return Index(p);
  return -1;
}

template <class Way>
struct Update {
  using T = typename Way::Number;
  Values<T> w, m, v;
  std::vector<typename Way::A> working = poisoned_activations<Way>(parameters);

  Update() : w(converted<T>(normals(parameters, 1))), m(parameters, T(0)), v(m) {}

  void step(const Way& way, const Values<T>& gradient, const UpdateRule& rule, int step,
            const StepOutputs& outputs, bool with_working = true) {
    const StepInputs inputs{.step = step,
                            .learning_rate = 1e-2,
                            .correction1 = 1 / (1 - std::pow(rule.beta1, step)),
                            .correction2 = 1 / (1 - std::pow(rule.beta2, step))};
    way.adamw_step(w.data(), with_working ? working.data() : nullptr, m.data(), v.data(),
                   gradient.data(), pieces.data(), Index(pieces.size()), rule, &inputs, &outputs);
  }
  bool operator==(const Update& other) const {
    return same_bytes(w, other.w) && same_bytes(m, other.m) && same_bytes(v, other.v) &&
           std::memcmp(working.data(), other.working.data(),
                       working.size() * sizeof(typename Way::A)) == 0;
  }
};

template <class T>
void plain_step(Values<T>& w, Values<T>& m, Values<T>& v, const Values<T>& gradient,
                const UpdateRule& rule, double scale, int step) {
  for (const auto& [at, size, decay] : pieces) {
    const auto part = [at = at, size = size](const Values<T>& x) {
      return Values<T>(x.begin() + at, x.begin() + at + size);
    };
    Values<T> pw = part(w), pm = part(m), pv = part(v);
    scalar_adamw(pw, pm, pv, part(gradient), scale, 1e-2, rule.beta1, rule.beta2, rule.epsilon,
                 decay ? rule.weight_decay : 0, step);
    std::copy(pw.begin(), pw.end(), w.begin() + at);
    std::copy(pm.begin(), pm.end(), m.begin() + at);
    std::copy(pv.begin(), pv.end(), v.begin() + at);
  }
}

// Every other step's gradient is longer than the clip.
template <class Way>
void check_ten_steps(const Way& way) {
  using T = typename Way::Number;
  const UpdateRule rule{
      .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-3, .weight_decay = 3, .clip = 80};
  Update<Way> update;
  Values<T> w = update.w, m = update.m, v = update.v;
  Values<double> exact_w = converted<double>(w), exact_m(parameters, 0), exact_v = exact_m;
  for (int step = 1; step <= 10; ++step) {
    const auto gradient = converted<T>(normals(parameters, 10 + step));
    const double norm = step % 2 ? 50 : 100, scale = step % 2 ? 1 : 0.8;
    update.step(way, gradient, rule, step, {.squared_norm = norm * norm});
    plain_step(w, m, v, gradient, rule, scale, step);
    plain_step(exact_w, exact_m, exact_v, converted<double>(gradient), rule, scale, step);
  }
  CHECK(equals_by_hand<Way>(update.w, w, exact_w, false));
  CHECK(equals_by_hand<Way>(update.m, m, exact_m, false));
  CHECK(equals_by_hand<Way>(update.v, v, exact_v, false));
  const Update<Way> untouched;
  for (Index i = 0; i < parameters; ++i)
    if (piece_of(i) < 0)
      CHECK((update.w[i] == untouched.w[i] && update.m[i] == 0 && update.v[i] == 0));
}

template <class Way>
void check_failed_step(const Way& way) {
  using T = typename Way::Number;
  Update<Way> update;
  const auto gradient = converted<T>(normals(parameters, 3));
  update.step(way, gradient, {}, 5, {.squared_norm = 1, .failed_step = 4});
  CHECK(update == Update<Way>());
  update.step(way, gradient, {}, 5, {.squared_norm = 1});
  CHECK(!(update == Update<Way>()));
}

// Without gradients only decay moves a parameter, and only where a piece says so.
template <class Way>
void check_decay(const Way& way) {
  using T = typename Way::Number;
  Update<Way> update;
  const Update<Way> before;
  update.step(way, Values<T>(parameters, T(0)), {.weight_decay = 0.5}, 1, {});
  std::size_t wrong = 0;
  for (Index i = 0; i < parameters; ++i) {
    const bool decays = piece_of(i) >= 0 && pieces[piece_of(i)].decay;
    wrong += update.w[i] != (decays ? T(1 - 1e-2 * 0.5) * before.w[i] : before.w[i]);
  }
  CHECK(wrong == 0);
}

template <class Way>
void check_kernels(const Way& way) {
  const auto gradient = converted<float>(normals(parameters, 3));
  const StepOutputs outputs{.squared_norm = 100};
  const UpdateRule rule{.weight_decay = 0.1, .clip = 1};
  Update<Way> update, other_order, alone, shifted;
  update.step(way, gradient, rule, 3, outputs);

  Way other = way;
  other.seed = 2;
  other_order.step(other, gradient, rule, 3, outputs);
  CHECK(update == other_order);
  const auto losses = converted<float>(normals(3000, 1));
  const StepOutputs once = measured(way, losses, gradient),
                    again = measured(other, losses, gradient);
  CHECK(std::memcmp(&once, &again, sizeof once) == 0);

  alone.step(way, gradient, rule, 3, outputs, false);
  CHECK(same_bytes(update.w, alone.w));
  const Values<float> rounded = numbers<Way>(update.working);
  for (Index i = 0; i < parameters; ++i)
    if (piece_of(i) >= 0)
      CHECK(rounded[i] == as_given<Way>(Values<float>{update.w[i]}, true)[0]);
    else
      CHECK(std::isnan(rounded[i]));

  Values<float> next = gradient;  // at an address that is no multiple of 16
  next.insert(next.begin(), 0.f);
  const StepInputs inputs{.step = 3,
                          .learning_rate = 1e-2,
                          .correction1 = 1 / (1 - std::pow(rule.beta1, 3)),
                          .correction2 = 1 / (1 - std::pow(rule.beta2, 3))};
  way.adamw_step(shifted.w.data(), shifted.working.data(), shifted.m.data(), shifted.v.data(),
                 next.data() + 1, pieces.data(), Index(pieces.size()), rule, &inputs, &outputs);
  CHECK(update == shifted);

  for (const Index size : {1, 3, 4, 1023, 1029}) {
    const auto from = converted<float>(normals(size, 5));
    auto to = poisoned_activations<Way>(size);
    way.round(to.data(), from.data(), size);
    CHECK(numbers<Way>(to) == as_given<Way>(from, true));
  }
}

}  // namespace

TEST_CASE("loss and norm of a step are sums in double", "[layers]") {
  for (const Index size : {0, 1, 5, 1029, 20'001}) {
    check_measures(in_float, size, 7);
    check_measures(in_float, 7, size);
  }
}

TEST_CASE("loss and norm of a step are sums in double, by the kernels", "[layers][kernels]") {
  for (const Index size : {0, 1, 5, 1023, 1029, 20'001}) {
    check_measures(kernels_in_float, size, 7);
    check_measures(kernels_in_float, 7, size);
  }
  check_measures(kernels_in_float, 2'000, 1'100'003);
}

TEST_CASE("a loss or norm that is not finite is noted once and for all", "[layers]") {
  check_failures(in_float);
}

TEST_CASE("the measures of the last steps are kept apart", "[layers]") {
  check_kept(in_float);
}

TEST_CASE("the measures of the last steps are kept apart by the kernels", "[layers][kernels]") {
  check_kept(kernels_in_float);
}

TEST_CASE("a loss or norm that is not finite is noted by the kernels", "[layers][kernels]") {
  check_failures(kernels_in_float);
}

TEST_CASE("ten AdamW steps, clipped or not, with and without decay", "[layers][adamw]") {
  check_ten_steps(in_double);
  check_ten_steps(in_float);
  check_failed_step(in_float);
  check_decay(in_float);
}

TEST_CASE("ten AdamW steps by the kernels", "[layers][adamw][kernels]") {
  check_ten_steps(kernels_in_float);
  check_ten_steps(kernels_in_bfloat16);
  check_failed_step(kernels_in_bfloat16);
  check_decay(kernels_in_float);
}

TEST_CASE("the update's kernels in any order of threads, rounded, and at any address",
          "[layers][adamw][kernels]") {
  check_kernels(kernels_in_float);
  check_kernels(kernels_in_bfloat16);
}
