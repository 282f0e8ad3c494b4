// A link of a known speed before a server on the loopback, where a call is otherwise bound by the processor alone.
#ifndef HEADLIGHT_TESTS_BENCH_SERVICE_RELAY_H_
#define HEADLIGHT_TESTS_BENCH_SERVICE_RELAY_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace headlight::bench {

// Takes connections on a port of its own and passes their bytes on, at most so many a second each way. Its end closes
// all.
class Relay {
 public:
  // `target`: "127.0.0.1:PORT". Throws std::system_error.
  Relay(const std::string& target, std::int64_t bytes_per_second);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  const std::string& address() const { return address_; }

 private:
  void Accept();
  void Pass(int from, int to) const;
  void Start(std::thread thread);

  const std::string target_;
  const std::int64_t bytes_per_second_;
  std::string address_;
  int listener_ = -1;
  std::atomic<bool> ends_{false};
  std::mutex mutex_;
  std::vector<int> sockets_;
  std::vector<std::thread> threads_;
};

}  // namespace headlight::bench

#endif  // HEADLIGHT_TESTS_BENCH_SERVICE_RELAY_H_
