// The process's threads. How many more a user, a cgroup or the machine lets it have is seen by starting them alone.
#ifndef HEADLIGHT_SERVER_HOST_THREADS_H_
#define HEADLIGHT_SERVER_HOST_THREADS_H_

#include "absl/status/status.h"

namespace headlight {

// Starts `count` threads (>= 0) at once and ends them; they are gone at the return. Thread-safe.
// RESOURCE_EXHAUSTED: not so many can be had; says what to raise.
absl::Status TryThreads(int count);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_HOST_THREADS_H_
