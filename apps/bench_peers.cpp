#include "apps/bench_peers.hpp"

#include <stdlib.h>

#include <fstream>
#include <iostream>

namespace lazy {
namespace {

namespace fs = std::filesystem;

constexpr const char* script = "tests/bench/peers/peer.py";

// glibc then never gives freed memory back, so that it need not be mapped and cleared again.
const std::vector<std::string> tuned_malloc{"MALLOC_TOP_PAD_=1000000000",
                                            "MALLOC_MMAP_THRESHOLD_=8000000000",
                                            "MALLOC_TRIM_THRESHOLD_=16000000000"};

std::unique_ptr<BenchPeer> start_peer(const std::string& python, int threads, bool tuned) {
  auto started = std::unique_ptr<BenchPeer>(
      new BenchPeer{"",
                    {},
                    {{python, script, std::to_string(threads)},
                     tuned ? tuned_malloc : std::vector<std::string>{}}});
  const auto& introduction = started->peer.introduction();
  started->label = introduction.value("name", "?") + (tuned ? "" : ", default malloc");
  for (const auto& contender : introduction.value("contenders", std::vector<std::string>{}))
    if (tuned || contender == "lazy") started->contenders.push_back(contender);
  std::cout << "peer     " << started->label << (tuned ? ", tuned malloc" : "") << " ("
            << introduction.value("build", "?") << "), " << introduction.value("threads", 0)
            << " threads\n";
  return started;
}

}  // namespace

std::vector<std::unique_ptr<BenchPeer>> start_peers(const std::vector<std::string>& pythons,
                                                    int threads) {
  std::vector<std::unique_ptr<BenchPeer>> peers;
  for (const std::string& python : pythons) {
    try {
      if (!fs::exists(script))
        throw PeerError(std::string(script) + " is not here; run this in the project's folder");
      for (const bool tuned : {true, false}) peers.push_back(start_peer(python, threads, tuned));
    } catch (const std::exception& error) {  // a PeerError, or an introduction of the wrong types
      report_left_out(python, error.what());
    }
  }
  return peers;
}

void report_left_out(const std::string& who, const std::string& why) {
  std::cout << "peer     " << who << " is left out: " << why << "\n" << std::flush;
}

ExchangeFolder::ExchangeFolder() {
  std::string name = (fs::temp_directory_path() / "lazy-bench-XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("cannot make the folder " + name);
  path = name;
}

ExchangeFolder::~ExchangeFolder() {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

fs::path ExchangeFolder::subfolder(const std::string& name) const {
  fs::create_directory(path / name);
  return path / name;
}

template <class T>
void write_numbers(const fs::path& path, const T* values, std::size_t count) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values), std::streamsize(count * sizeof(T)));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

template void write_numbers(const fs::path&, const float*, std::size_t);
template void write_numbers(const fs::path&, const int*, std::size_t);

CpuBackend::Buffer<float> read_numbers(const fs::path& path, std::size_t count) {
  std::error_code absent;
  const auto bytes = fs::file_size(path, absent);
  if (absent || bytes != count * sizeof(float))
    throw PeerError("its " + path.filename().string() + " holds " +
                    (absent ? "nothing" : std::to_string(bytes / sizeof(float)) + " numbers") +
                    ", expected " + std::to_string(count));
  CpuBackend::Buffer<float> values(count);
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(values.data()), std::streamsize(bytes));
  return values;
}

}  // namespace lazy
