// The process's descriptors, one for each connection. Once accept has found none left, gRPC 1.51 takes no connection of
// that port any more, for good.
#ifndef HEADLIGHT_SERVER_HOST_DESCRIPTORS_H_
#define HEADLIGHT_SERVER_HOST_DESCRIPTORS_H_

#include <atomic>
#include <cstdint>

namespace headlight {

// Raises the limit of this process to what the system lets it have. Returns that.
std::int64_t RaiseDescriptorLimit();

// Thread-safe.
class DescriptorWatch {
 public:
  // To be called from time to time. True: none is left, for the first time.
  bool Look();
  // Whether a look found none left, ever.
  bool ran_out() const { return ran_out_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> ran_out_{false};
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_HOST_DESCRIPTORS_H_
