#include "server/service/signals.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <csignal>

namespace headlight {
namespace {

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  return signals;
}

}  // namespace

void BlockSignals() {
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

bool EndSignalPending() {
  sigset_t pending;
  sigpending(&pending);
  return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

void WaitForEndSignal() {
  const sigset_t signals = Signals();
  int signal = 0;
  do {
    sigwait(&signals, &signal);
    if (signal == SIGHUP) spdlog::info("SIGHUP: certificates and tokens are read again whenever their files change");
  } while (signal == SIGHUP && isatty(STDERR_FILENO) == 0);
}

}  // namespace headlight
