#include "cuda/simt/shadow.hpp"

namespace lazy::emulated {
namespace {

constexpr int warp_size = 32;

bool same_warp(const Access& a, const Access& b) {
  return a.thread / warp_size == b.thread / warp_size;
}

bool ordered(const Access& earlier, const Access& later) {
  return earlier.block_time < later.block_time || earlier.thread == later.thread ||
         (same_warp(earlier, later) && earlier.warp_time < later.warp_time);
}

}  // namespace

void Shadow::start(std::size_t words, std::uint32_t now) {
  if (words_.size() < words) words_.resize(words);
  start_ = now;
}

// Every access has to come after the last write.
std::optional<Conflict> Shadow::touch(const Word& word, const Access& access) const {
  if (word.written.block_time < start_) return {};
  if (word.copying) return Conflict{Fault::unfinished_copy, word.written};
  if (!ordered(word.written, access)) return Conflict{Fault::race, word.written};
  return {};
}

std::optional<Conflict> Shadow::read(std::size_t index, const Access& access) {
  Word& word = words_[index];
  if (word.written.block_time < start_) return Conflict{Fault::uninitialized, {}};
  if (const auto conflict = touch(word, access)) return conflict;
  // What is ordered before this access is ordered before everything that is ordered after it.
  // Of the others two are kept, of different warps if there are such: no later write can be
  // ordered after both unless it is ordered after all.
  Access &one = word.reader, &other = word.other_reader;
  if (ordered(one, access))
    one = access;
  else if (ordered(other, access) || (same_warp(one, other) && !same_warp(one, access)))
    other = access;
  return {};
}

std::optional<Conflict> Shadow::write(std::size_t index, const Access& access) {
  Word& word = words_[index];
  if (const auto conflict = touch(word, access)) return conflict;
  for (const Access& reader : {word.reader, word.other_reader})
    if (!ordered(reader, access)) return Conflict{Fault::race, reader};
  word = {access, {}, {}, false};
  return {};
}

std::optional<Conflict> Shadow::start_copy(std::size_t index, const Access& access) {
  const auto conflict = write(index, access);
  words_[index].copying = true;
  return conflict;
}

void Shadow::finish_copy(std::size_t index, const Access& access) {
  words_[index] = {access, {}, {}, false};
}

}  // namespace lazy::emulated
