#include "server/service/logging.h"

#include <spdlog/async.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"

namespace headlight {
namespace {

constexpr std::size_t kWaitingLines = 1024;

Severity SeverityOf(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::info: return Severity::kInfo;
    case spdlog::level::warn: return Severity::kWarning;
    case spdlog::level::err: return Severity::kError;
    case spdlog::level::critical: return Severity::kCritical;
    default: return Severity::kDebug;
  }
}

class CountingSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit CountingSink(LogCounts& counts) : counts_(counts) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override { counts_.Add(SeverityOf(message.level)); }
  void flush_() override {}

  LogCounts& counts_;
};

// Its own, because loggers that spdlog knows are flushed and dropped together.
std::shared_ptr<spdlog::logger>& CallLogger() {
  static auto& logger = *new std::shared_ptr<spdlog::logger>();
  return logger;
}

}  // namespace

void SetUpLog(const std::string& level, LogCounts& counts) {
  const auto counter = std::make_shared<CountingSink>(counts);
  const auto messages = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  const auto lines = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  spdlog::init_thread_pool(kWaitingLines, 1);
  const auto logger = [&counter](const char* name, const spdlog::sink_ptr& sink) {
    return std::make_shared<spdlog::async_logger>(name, spdlog::sinks_init_list{counter, sink}, spdlog::thread_pool(),
                                                  spdlog::async_overflow_policy::overrun_oldest);
  };
  spdlog::set_default_logger(logger("headlight", messages));
  spdlog::set_level(spdlog::level::from_str(level));
  CallLogger() = logger("calls", lines);
  CallLogger()->set_level(spdlog::level::from_str(level));
  lines->set_pattern("%v");
  // gRPC's own log repeats in many words what our errors say in one line. Read when gRPC starts, which it has not yet.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
}

void LogCall(const std::string& line) { CallLogger()->info("{}", line); }

bool EndLog(absl::Duration most) {
  const auto done = std::make_shared<absl::Notification>();
  // The logger is there until the writing thread has ended: spdlog lets go of it first.
  std::thread([done, kept = spdlog::default_logger()] {
    spdlog::shutdown();
    done->Notify();
  }).detach();
  return done->WaitForNotificationWithTimeout(most);
}

}  // namespace headlight
