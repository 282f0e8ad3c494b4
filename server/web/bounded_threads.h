// Threads for connections, of which no more are taken than there are threads.
#ifndef HEADLIGHT_SERVER_WEB_BOUNDED_THREADS_H_
#define HEADLIGHT_SERVER_WEB_BOUNDED_THREADS_H_

#include <httplib.h>

#include <atomic>
#include <functional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace headlight {

// The library's pool takes connections without bound, each with a descriptor of the process: here whoever hands one
// over waits until a thread is free, and others wait in the system's queue.
class BoundedThreads final : public httplib::TaskQueue {
 public:
  // `crowded`: true while somebody waits; outlives it.
  BoundedThreads(int threads, std::atomic<bool>& crowded)
      : crowded_(crowded), free_(threads), pool_(static_cast<std::size_t>(threads)) {}

  // bool in later versions of the library, and void before.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(nullptr));
  Enqueued enqueue(std::function<void()> task) override {
    {
      const absl::MutexLock lock(&mutex_);
      crowded_ = free_ == 0;
      mutex_.Await(absl::Condition(
          +[](int* free) { return *free > 0; }, &free_));
      crowded_ = false;
      --free_;
    }
    return pool_.enqueue([this, run = std::move(task)] {
      run();
      const absl::MutexLock lock(&mutex_);
      ++free_;
    });
  }
  void shutdown() override { pool_.shutdown(); }

 private:
  std::atomic<bool>& crowded_;
  absl::Mutex mutex_;
  int free_ ABSL_GUARDED_BY(mutex_);
  httplib::ThreadPool pool_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_BOUNDED_THREADS_H_
