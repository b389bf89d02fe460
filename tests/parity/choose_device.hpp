#pragma once

#include <exception>
#include <iostream>
#include <string>

#include "cuda/memory.hpp"

namespace lazy::test {

/// The device `wanted` means, auto, cuda or emulated, and its name. Says what it took, and why;
/// throws if a GPU is wanted and none is there.
inline LazyDevice choose_device(const std::string& wanted, std::string& name) {
  if (wanted != "emulated") try {
      name = device_name(LAZY_CUDA);
      return LAZY_CUDA;
    } catch (const std::exception& error) {
      if (wanted == "cuda") throw;
      std::cout << "No GPU here (" << error.what() << "): the kernels run emulated.\n";
    }
  name = device_name(LAZY_EMULATED);
  return LAZY_EMULATED;
}

}  // namespace lazy::test
