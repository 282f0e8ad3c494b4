#include "server/host/threads.h"

#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"

namespace headlight {

absl::Status TryThreads(int count) {
  absl::Notification end;
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(count));
  std::error_code why;
  while (!why && static_cast<int>(threads.size()) < count) {
    try {
      threads.emplace_back([&end] { end.WaitForNotification(); });
    } catch (const std::system_error& error) {
      why = error.code();
    }
  }
  end.Notify();
  for (std::thread& thread : threads) thread.join();
  if (!why) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("only ", threads.size(), " of ", count, " threads can be had (",
                                                   why.message(),
                                                   "): raise the user's or the container's limit on processes and "
                                                   "threads (ulimit -u, pids.max), or lower --threads"));
}

}  // namespace headlight
