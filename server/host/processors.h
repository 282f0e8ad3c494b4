// The processors that this process may use, and threads that keep to one.
#ifndef HEADLIGHT_SERVER_HOST_PROCESSORS_H_
#define HEADLIGHT_SERVER_HOST_PROCESSORS_H_

#include <vector>

namespace headlight {

// Those that the calling thread may run on, ascending; empty where the system does not tell.
std::vector<int> AllowedProcessors();

// Has the calling thread run on this one alone from now on. Nothing changes where it may not.
void KeepTo(int processor);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_HOST_PROCESSORS_H_
