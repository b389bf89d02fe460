#pragma once
// The emulated device does what it is asked at once, unless the calling thread records.

#include <functional>
#include <vector>

namespace lazy::emulated {

using Commands = std::vector<std::function<void()>>;

/// Does `command`, or keeps it where this thread records.
void give(std::function<void()> command);

/// What `work` gives, in order; nothing of it is done.
Commands record_commands(const std::function<void()>& work);

}  // namespace lazy::emulated
