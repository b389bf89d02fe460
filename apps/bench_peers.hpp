#pragma once
// The peers of `lazy bench`: PyTorch in one or several Pythons, each with its memory allocator
// tuned and as it comes.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/peer.hpp"
#include "reference/cpu_backend.hpp"

namespace lazy {

struct BenchPeer {
  std::string label;                    // "PyTorch 2.1.0", "PyTorch 2.1.0, default malloc"
  std::vector<std::string> contenders;  // lazy, softmax, sdpa; without tuned malloc: lazy alone
  Peer peer;

  std::string name(const std::string& contender) const { return contender + ", " + label; }
};

/// Starts tests/bench/peers/peer.py in every Python, twice: eager PyTorch takes and returns large
/// blocks of memory all the time, and a malloc that keeps them makes it much faster; the fair
/// comparison is with that. Prints a line for each and leaves out those that cannot.
std::vector<std::unique_ptr<BenchPeer>> start_peers(const std::vector<std::string>& pythons,
                                                    int threads);

/// Prints that a peer is left out, and why.
void report_left_out(const std::string& who, const std::string& why);

/// A folder through which a peer and we exchange raw numbers; removed with its owner.
struct ExchangeFolder {
  ExchangeFolder();
  ExchangeFolder(const ExchangeFolder&) = delete;
  ~ExchangeFolder();
  /// A new folder in it.
  std::filesystem::path subfolder(const std::string& name) const;
  std::filesystem::path path;
};

/// Raw little-endian numbers, nothing else. Throws std::runtime_error with the path.
template <class T>
void write_numbers(const std::filesystem::path& path, const T* values, std::size_t count);

/// Exactly `count` numbers. Throws PeerError where the file holds fewer or more, or is not there.
CpuBackend::Buffer<float> read_numbers(const std::filesystem::path& path, std::size_t count);

}  // namespace lazy
