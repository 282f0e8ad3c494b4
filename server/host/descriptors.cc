#include "server/host/descriptors.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace headlight {

std::int64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  rlimit raised = limit;
  raised.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  constexpr rlim_t kMost = std::numeric_limits<std::int64_t>::max();
  return static_cast<std::int64_t>(std::min(limit.rlim_cur, kMost));
}

bool DescriptorWatch::Look() {
  const int one = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
  if (one >= 0) {
    close(one);
    return false;
  }
  return (errno == EMFILE || errno == ENFILE) && !ran_out_.exchange(true);
}

}  // namespace headlight
