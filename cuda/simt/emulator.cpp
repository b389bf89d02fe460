#include "cuda/simt/emulator.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "cuda/simt/block.hpp"

namespace lazy::emulated {
namespace {

thread_local Block* running = nullptr;

constexpr std::size_t word_size = 4;

std::string line(Where where) {
  const std::string file = where.file;
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(where.line);
}

std::string text(Dim d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

const char* name(Fault fault) {
  constexpr const char* names[] = {"out of bounds", "misaligned",      "uninitialized",
                                   "race",          "unfinished copy", "divergence"};
  return names[static_cast<int>(fault)];
}

}  // namespace

Block& block() {
  return *running;
}

KernelFault::KernelFault(Fault fault, const Launch& launch, Dim block, int thread, Where where,
                         const std::string& what, Where earlier)
    : std::runtime_error(line(where) + ": " + name(fault) + " in " + launch.name + ", block " +
                         text(block) + ", thread " + std::to_string(thread) + ": " + what),
      fault(fault),
      kernel(launch.name),
      block(block),
      thread(thread),
      where(where),
      earlier(earlier) {}

// ---- Threads take turns.

Block::Block(const Launch& launch, Machine& machine, const std::function<void()>& thread)
    : launch_(launch),
      machine_(machine),
      body_(thread),
      warps_(launch.threads / warp_size),
      log_(warps_.size()),
      shared_((launch.shared_bytes + word_size - 1) / word_size * word_size) {
  for (int i = 0; i < launch.threads; ++i) threads_.push_back(std::make_unique<Thread>());
}

void Block::thread_entry() {
  Block& block = *running;
  Thread& thread = *block.threads_[block.current_];
  try {
    block.body_();
  } catch (...) {  // nobody could catch it below this frame
    block.fault_ = std::current_exception();
  }
  thread.state = Thread::done;
  thread.fiber.pause();
}

void Block::run(Dim index, std::uint64_t seed) {
  index_ = index;
  random_.seed(static_cast<std::uint32_t>(seed ^ seed >> 32));
  std::fill(shared_.begin(), shared_.end(), std::byte(0xFF));  // NaN in every floating-point format
  shadow_.start(shared_.size() / word_size, ++time_);
  at_barrier_ = 0;
  for (Warp& warp : warps_) warp.arrived = 0;
  for (const auto& thread : threads_) {
    thread->state = Thread::ready;
    thread->copies.clear();
    thread->groups = 0;
    thread->fiber.start(thread_entry);
  }

  running = this;
  std::vector<int> order(warps_.size());
  std::iota(order.begin(), order.end(), 0);
  const auto is_done = [](const auto& thread) { return thread->state == Thread::done; };
  while (!std::all_of(threads_.begin(), threads_.end(), is_done)) {
    std::shuffle(order.begin(), order.end(), random_);
    bool progress = false;
    for (const int warp : order) progress |= run_warp(warp);
    if (!progress) stuck();
  }
  for (std::size_t warp = 0; warp < warps_.size(); ++warp) count_wavefronts(static_cast<int>(warp));
}

// Lets every lane that can run do so, from a random lane upwards or downwards.
bool Block::run_warp(int warp) {
  const int first = static_cast<int>(random_() >> 8), step = random_() >> 8 & 1 ? 1 : -1;
  bool progress = false;
  for (int i = 0; i < warp_size; ++i) {
    const int lane = (first + step * i) & (warp_size - 1);
    current_ = warp * warp_size + lane;
    if (threads_[current_]->state != Thread::ready) continue;
    progress = true;
    threads_[current_]->fiber.resume();
    if (fault_) std::rethrow_exception(fault_);
  }
  return progress;
}

void Block::wait(Thread::State state, Where where) {
  Thread& thread = *threads_[current_];
  thread.state = state;
  thread.where = where;
  thread.fiber.pause();
}

void Block::fail(Fault fault, Where where, const std::string& what, Where earlier) {
  throw KernelFault(fault, launch_, index_, current_, where, what, earlier);
}

// ---- Meetings of a block and of a warp.

void Block::barrier(Where where) {
  if (at_barrier_ == 0) barrier_where_ = where;
  if (where.line != barrier_where_.line)
    fail(Fault::divergence, where,
         "it waits at a barrier while other threads of the block wait at the one in " +
             line(barrier_where_),
         barrier_where_);
  if (++at_barrier_ < launch_.threads) return wait(Thread::at_barrier, where);
  at_barrier_ = 0;
  ++time_;
  ++counters().barriers;
  for (const auto& thread : threads_) thread->state = Thread::ready;
  for (std::size_t warp = 0; warp < warps_.size(); ++warp) count_wavefronts(static_cast<int>(warp));
}

void Block::warp_barrier(Where where) {
  struct Nothing {};
  Warp& warp = warps_[current_ / warp_size];
  collective<Nothing, Nothing>("warp_barrier", {}, where, [&](auto&, auto&) { ++warp.time; });
}

void Block::meet(const char* name, Where where) {
  Warp& warp = warps_[current_ / warp_size];
  if (warp.arrived == 0) warp.name = name, warp.where = where;
  if (std::strcmp(name, warp.name) != 0 || where.line != warp.where.line)
    fail(Fault::divergence, where,
         std::string("it is at ") + name + " while other lanes of its warp are at " + warp.name +
             " in " + line(warp.where),
         warp.where);
  ++warp.arrived;
}

void Block::leave_meeting(int w) {
  Warp& warp = warps_[w];
  warp.arrived = 0;
  ++warp.meetings;
  for (int lane = 0; lane < warp_size; ++lane)
    threads_[w * warp_size + lane]->state = Thread::ready;
  count_wavefronts(w);
}

std::string Block::whereabouts(int i) const {
  const Thread& thread = *threads_[i];
  const Warp& warp = warps_[i / warp_size];
  const std::string who = "thread " + std::to_string(i);
  if (thread.state == Thread::done) return who + " has returned";
  const char* what = thread.state == Thread::at_barrier ? "barrier" : warp.name;
  return who + " waits at " + what + " in " + line(thread.where);
}

// Nobody can go on: some wait for others that wait elsewhere or have returned. The one that waits
// in the lowest lane is blamed, and the first that does something else is named.
void Block::stuck() {
  const auto waits = [](const auto& t) { return t->state != Thread::done; };
  const auto waiting = std::find_if(threads_.begin(), threads_.end(), waits);
  const Thread& blamed = **waiting;
  const auto elsewhere = std::find_if(threads_.begin(), threads_.end(), [&](const auto& t) {
    return t->state != blamed.state || t->where.line != blamed.where.line;
  });
  current_ = static_cast<int>(waiting - threads_.begin());
  std::string what = whereabouts(current_);
  if (elsewhere != threads_.end())
    what += ", but " + whereabouts(static_cast<int>(elsewhere - threads_.begin()));
  throw KernelFault(Fault::divergence, launch_, index_, current_, blamed.where, what, {});
}

// ---- Shared memory.

Access Block::access(Where where) const {
  return {where, time_, warps_[current_ / warp_size].time, current_};
}

void Block::check_bounds(std::size_t byte, std::size_t bytes, Where where) {
  if (byte % std::min<std::size_t>(bytes, 16) != 0)
    fail(Fault::misaligned, where,
         "an access of " + std::to_string(bytes) + " bytes at byte " + std::to_string(byte) +
             " of shared memory");
  if (byte + bytes > shared_.size())
    fail(Fault::out_of_bounds, where,
         "byte " + std::to_string(byte) + " of " + std::to_string(shared_.size()) +
             " bytes of shared memory");
}

void Block::report(const std::optional<Conflict>& conflict, std::size_t byte, Where where) {
  if (!conflict) return;
  const Access& earlier = conflict->earlier;
  std::string what = "shared memory at byte " + std::to_string(byte);
  if (conflict->fault == Fault::uninitialized)
    what += " is read, but nobody has written it";
  else
    what += " was used by thread " + std::to_string(earlier.thread) + " in " + line(earlier.where) +
            (conflict->fault == Fault::race ? " with no barrier between"
                                            : " for an asynchronous copy that is not waited for");
  fail(conflict->fault, where, what, earlier.where);
}

void Block::read_shared(std::size_t byte, void* to, std::size_t bytes, Where where) {
  check_bounds(byte, bytes, where);
  const Access me = access(where);
  for (std::size_t i = 0; i < bytes; i += word_size)
    report(shadow_.read((byte + i) / word_size, me), byte + i, where);
  std::memcpy(to, &shared_[byte], bytes);
}

void Block::write_shared(std::size_t byte, const void* from, std::size_t bytes, Where where) {
  check_bounds(byte, bytes, where);
  const Access me = access(where);
  for (std::size_t i = 0; i < bytes; i += word_size)
    report(shadow_.write((byte + i) / word_size, me), byte + i, where);
  std::memcpy(&shared_[byte], from, bytes);
}

void Block::start_copy(std::size_t byte, const void* from, Where where) {
  constexpr std::size_t bytes = 16;
  check_bounds(byte, bytes, where);
  const Access me = access(where);
  for (std::size_t i = 0; i < bytes; i += word_size)
    report(shadow_.start_copy((byte + i) / word_size, me), byte + i, where);
  std::memset(&shared_[byte], 0xFF, bytes);
  Thread& thread = *threads_[current_];
  thread.copies.push_back({byte, from, thread.groups});
  if (from) counters().copied_bytes += bytes;
}

void Block::commit_copies() {
  ++threads_[current_]->groups;
}

void Block::wait_copies(int groups_left, Where where) {
  Thread& thread = *threads_[current_];
  const Access me = access(where);
  std::erase_if(thread.copies, [&](const Copy& copy) {
    if (copy.group >= thread.groups - groups_left) return false;
    if (copy.from)
      std::memcpy(&shared_[copy.byte], copy.from, 16);
    else
      std::memset(&shared_[copy.byte], 0, 16);
    for (std::size_t i = 0; i < 16; i += word_size)
      shadow_.finish_copy((copy.byte + i) / word_size, me);
    return true;
  });
}

// ---- Wavefronts: the n-th access of each lane in one place of the source, since the lanes last
// met, is one instruction of the warp.

void Block::count_access(std::size_t byte, Where where) {
  if (!machine_.count_wavefronts) return;
  auto& log = log_[current_ / warp_size];
  const int lane = current_ % warp_size;
  int occurrence = 0;
  for (auto last = log.rbegin(); last != log.rend(); ++last)
    if (last->lane == lane && last->line == where.line && last->file == where.file) {
      occurrence = last->occurrence + 1;
      break;
    }
  log.push_back({where.file, where.line, lane, occurrence, byte / word_size});
}

void Block::count_wavefronts(int w) {
  auto& log = log_[w];
  if (log.empty()) return;
  using Key = std::tuple<const char*, unsigned, int>;
  std::map<Key, std::vector<std::size_t>> instructions;
  for (const Logged& l : log) instructions[{l.file, l.line, l.occurrence}].push_back(l.word);
  for (auto& [key, words] : instructions) {
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()),
                words.end());  // a word goes to all at once
    std::array<int, 32> in_bank{};
    for (const std::size_t word : words) ++in_bank[word % in_bank.size()];
    counters().wavefronts += *std::max_element(in_bank.begin(), in_bank.end());
    ++counters().ideal_wavefronts;
  }
  log.clear();
}

// ---- The grid.

void run_grid(const Launch& launch, const std::function<void()>& thread) {
  const Dim grid = launch.grid;
  if (launch.threads < warp_size || launch.threads > 1024 || launch.threads % warp_size != 0)
    throw std::invalid_argument(std::string(launch.name) + ": " + std::to_string(launch.threads) +
                                " threads a block, expected a multiple of 32 up to 1024");
  if (grid.x < 1 || grid.y < 1 || grid.z < 1)
    throw std::invalid_argument(std::string(launch.name) + ": a grid of " + text(grid) +
                                " blocks, expected at least one");
  Machine own;
  Machine& machine = launch.stream ? *launch.stream : own;
  Block block(launch, machine, thread);
  std::vector<std::int64_t> order(std::int64_t(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(machine.seed + static_cast<std::uint64_t>(machine.counters.launches));
  std::shuffle(order.begin(), order.end(), random);
  ++machine.counters.launches;
  machine.shared_bytes[launch.name] = launch.shared_bytes;
  for (const std::int64_t i : order) {
    const auto x = i % grid.x, y = i / grid.x % grid.y, z = i / grid.x / grid.y;
    block.run({int(x), int(y), int(z)}, random());
    ++machine.counters.blocks;
  }
}

}  // namespace lazy::emulated
