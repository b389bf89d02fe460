#pragma once
// Another program that computes the same, timed in turn with ours: started once and asked line by
// line, JSON both ways. What may be asked stands in tests/bench/peers/peer.py.

#include <sys/types.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace lazy {

/// The peer is gone, answers nonsense, or says that it cannot.
struct PeerError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A program with its standard input and output in our hands; it is ended with its owner.
class Companion {
 public:
  /// `variables` ("NAME=value") are added to its environment. Throws PeerError.
  Companion(std::vector<std::string> command, std::vector<std::string> variables);
  Companion(const Companion&) = delete;
  ~Companion();

  /// False once it is gone.
  bool write_line(std::string line);
  /// False once it is gone, or silent for ten minutes.
  bool read_line(std::string& line);
  /// How it ended and the last it said on standard error, as far as it did.
  std::string last_words();

 private:
  pid_t child_ = -1;
  int socket_ = -1;
  std::FILE* errors_ = nullptr;
  std::string unread_;
};

class Peer {
 public:
  /// Starts the program and waits for the line in which it introduces itself. Throws PeerError.
  Peer(const std::vector<std::string>& command, const std::vector<std::string>& variables);

  /// What the peer said of itself.
  const nlohmann::ordered_json& introduction() const { return introduction_; }

  /// Sends one line and returns the answer, a JSON object. Throws PeerError, also where the answer
  /// has an "error"; a peer that died or talked nonsense is not asked again.
  nlohmann::ordered_json ask(const nlohmann::ordered_json& request);

 private:
  nlohmann::ordered_json answer();
  [[noreturn]] void give_up(const std::string& why);

  Companion program_;
  std::string failure_;
  nlohmann::ordered_json introduction_;
};

/// A number of an answer. Throws PeerError if it is not there, or not finite and positive.
double positive(const nlohmann::ordered_json& answer, const char* name);

}  // namespace lazy
