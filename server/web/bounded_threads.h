// Threads for connections, of which no more are taken than there are threads.
#ifndef HEADLIGHT_SERVER_WEB_BOUNDED_THREADS_H_
#define HEADLIGHT_SERVER_WEB_BOUNDED_THREADS_H_

#include <httplib.h>

#include <atomic>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace headlight {

// The library's pool takes connections without bound, each with a descriptor of the process: here whoever hands one
// over waits until a thread may be had, and others wait in the system's queue. Nor are threads kept that nobody needs:
// hundreds would be, and where threads are limited the server could not start.
class BoundedThreads final : public httplib::TaskQueue {
 public:
  // `crowded` (may be null): true while somebody waits; outlives it.
  explicit BoundedThreads(int threads, std::atomic<bool>* crowded = nullptr)
      : crowded_(crowded), places_(std::make_shared<Places>(threads)) {}

  // bool in later versions of the library, and void before.
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(nullptr));
  Enqueued enqueue(std::function<void()> task) override {
    {
      const absl::MutexLock lock(&places_->mutex);
      if (crowded_ != nullptr) *crowded_ = places_->free == 0;
      places_->mutex.Await(absl::Condition(
          +[](int* free) { return *free > 0; }, &places_->free));
      if (crowded_ != nullptr) *crowded_ = false;
      --places_->free;
    }
    const auto run = [places = places_, task = std::move(task)] {
      task();
      const absl::MutexLock lock(&places->mutex);
      ++places->free;
    };
    try {
      std::thread(run).detach();
    } catch (const std::system_error&) {
      run();  // the system has none: others wait
    }
    return Enqueued(true);
  }
  void shutdown() override {
    const absl::MutexLock lock(&places_->mutex);
    places_->mutex.Await(absl::Condition(
        +[](Places* places) { return places->free == places->all; }, places_.get()));
  }

 private:
  struct Places {
    explicit Places(int threads) : all(threads), free(threads) {}

    const int all;
    absl::Mutex mutex;
    int free ABSL_GUARDED_BY(mutex);
  };

  std::atomic<bool>* const crowded_;
  const std::shared_ptr<Places> places_;  // a thread's last use of it may be after the end of this
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_BOUNDED_THREADS_H_
