#include "apps/peer.hpp"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "apps/json_number.hpp"

namespace lazy {
namespace {

// OpenMP threads that have just worked keep their core busy while they wait for more: Intel's for
// 200 ms, in which nobody else should be timed.
constexpr auto rest_of_threads = std::chrono::milliseconds(250);

using Json = nlohmann::ordered_json;

constexpr int patience_milliseconds = 600'000;

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

// `variables`, then those of this process that are not among them.
std::vector<std::string> environment_with(std::vector<std::string> variables) {
  const std::size_t given = variables.size();
  for (char** entry = environ; *entry; ++entry) {
    const std::string name(*entry, std::strcspn(*entry, "="));
    bool replaced = false;
    for (std::size_t i = 0; i < given; ++i) replaced |= variables[i].starts_with(name + "=");
    if (!replaced) variables.push_back(*entry);
  }
  return variables;
}

std::string shortened(const std::string& line) {
  return line.size() <= 80 ? line : line.substr(0, 77) + "...";
}

}  // namespace

Companion::Companion(std::vector<std::string> command, std::vector<std::string> variables)
    : errors_(std::tmpfile()) {
  // A socket rather than two pipes: writing to a program that died is an error there, not a signal.
  int ends[2];
  if (!errors_ || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
    throw PeerError(std::string("cannot prepare a peer: ") + std::strerror(errno));
  socket_ = ends[0];
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, fileno(errors_), STDERR_FILENO);
  variables = environment_with(std::move(variables));
  const int error = posix_spawnp(&child_, command[0].c_str(), &files, nullptr,
                                 pointers(command).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  if (error == 0) return;
  close(socket_);
  std::fclose(errors_);
  throw PeerError("cannot run " + command[0] + ": " + std::strerror(error));
}

Companion::~Companion() {
  close(socket_);
  std::fclose(errors_);
  if (child_ == -1) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

bool Companion::write_line(std::string line) {
  line += '\n';
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = send(socket_, line.data() + done, line.size() - done, MSG_NOSIGNAL);
    if (n <= 0) return false;
    done += n;
  }
  return true;
}

bool Companion::read_line(std::string& line) {
  std::size_t end;
  while ((end = unread_.find('\n')) == std::string::npos) {
    pollfd waiting{socket_, POLLIN, 0};
    if (poll(&waiting, 1, patience_milliseconds) <= 0) return false;
    char buffer[4096];
    const ssize_t n = read(socket_, buffer, sizeof buffer);
    if (n <= 0) return false;
    unread_.append(buffer, n);
  }
  line = unread_.substr(0, end);
  unread_.erase(0, end + 1);
  return true;
}

std::string Companion::last_words() {
  // Its end closes the socket a moment before it can be waited for.
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < 100 && (ended = waitpid(child_, &status, WNOHANG)) == 0; ++i) usleep(10'000);
  std::string words = "it is silent";
  if (ended == child_) {
    child_ = -1;
    words = WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) + " ended it"
                                : "it ended with status " + std::to_string(WEXITSTATUS(status));
  }
  std::string last;
  char line[4096];
  std::rewind(errors_);
  while (std::fgets(line, sizeof line, errors_)) last = line;
  while (!last.empty() && last.back() == '\n') last.pop_back();
  return last.empty() ? words : words + ", saying: " + shortened(last);
}

Peer::Peer(const std::vector<std::string>& command, const std::vector<std::string>& variables)
    : program_(command, variables) {
  introduction_ = answer();
}

void Peer::give_up(const std::string& why) {
  failure_ = why;
  throw PeerError(failure_);
}

Json Peer::answer() {
  std::string line;
  if (!program_.read_line(line)) give_up("no answer: " + program_.last_words());
  const Json answer = Json::parse(line, nullptr, false);
  if (!answer.is_object()) give_up("not an answer: " + shortened(line));
  if (answer.contains("error")) throw PeerError(dump_json(answer["error"]));
  return answer;
}

Json Peer::ask(const Json& request) {
  if (!failure_.empty()) throw PeerError(failure_);
  if (!program_.write_line(dump_json(request))) give_up("gone: " + program_.last_words());
  Json reply = answer();
  std::this_thread::sleep_for(rest_of_threads);
  return reply;
}

double positive(const Json& answer, const char* name) {
  const auto found = answer.find(name);
  if (found != answer.end() && found->is_number())
    if (const double value = *found; std::isfinite(value) && value > 0) return value;
  throw PeerError("not a positive number \"" + std::string(name) +
                  "\" in the answer: " + shortened(dump_json(answer)));
}

}  // namespace lazy
