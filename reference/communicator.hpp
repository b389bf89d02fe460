#pragma once
// Several processes that train one model together, each on its share of every batch.

#include "reference/attention_types.hpp"

namespace lazy {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual Index rank() const = 0;  // this process, 0 .. size() - 1
  virtual Index size() const = 0;

  /// x [count], on the device of the backend that trains, becomes its sum over all processes, the
  /// same bytes in each. All processes make the same calls in the same order. May return before it
  /// is done, as a backend's functions do. Throws std::runtime_error if it is told that a process
  /// is lost; who started the processes has to end the others if one goes silently.
  virtual void sum(float* x, Index count) = 0;
  virtual void sum(double* x, Index count) = 0;
};

}  // namespace lazy
