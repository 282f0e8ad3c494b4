// Shows ThreadSanitizer the locks of Debian's abseil, which was built without it: the exported functions of
// absl::Mutex, CondVar and Notification call the library's own between the annotations that an instrumented abseil
// would make. They stand in every executable of the tsan preset, and gRPC's calls end here too.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "absl/base/config.h"
#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

#define HEADLIGHT_TEXT_OF(x) #x
#define HEADLIGHT_TEXT(x) HEADLIGHT_TEXT_OF(x)

namespace {

// The next definition of `absl::NAME`, by its mangled name without the namespaces: a member function as one that takes
// its object first, which the ABI of Itanium makes the same call.
template <typename Function>
Function Next(const char* name) {
  // Without `operator new`, which tests let fail.
  constexpr char kSpace[] = HEADLIGHT_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  std::array<char, 64> spaces{};
  std::snprintf(spaces.data(), spaces.size(), "4absl%zu%s", sizeof(kSpace) - 1, kSpace);
  std::array<char, 256> symbol{};
  std::size_t size = 0;
  for (const char* at = name; *at != '\0'; ++at) {
    const std::array<char, 2> one{*at, '\0'};
    size += static_cast<std::size_t>(
        std::snprintf(symbol.data() + size, symbol.size() - size, "%s", *at == '$' ? spaces.data() : one.data()));
  }
  const int error = errno;  // callers lock between a call of the system's and their look at its error
  void* const found = dlsym(RTLD_NEXT, symbol.data());
  errno = error;
  if (found == nullptr) {
    std::fprintf(stderr, "no %s among the libraries\n", symbol.data());
    std::abort();
  }
  return reinterpret_cast<Function>(found);
}

// Debian's abseil looks for cycles of locks at every lock, in memory of its own that would be reported.
[[maybe_unused]] const bool looks_for_cycles = [] {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return false;
}();

extern "C" const char __executable_start;  // the linker's: where this executable begins and its code ends
extern "C" const char etext;

// gRPC hands work from thread to thread by queues without locks, which ThreadSanitizer cannot see either. It locks on
// both sides of them: all locks that libraries take count as one.
char library_locks;

bool IsOurs(const void* caller) { return caller >= &__executable_start && caller < &etext; }

// What was done before a release on `object` is seen after an acquire on it.
void Release(const void* object, const void* caller) {
  __tsan_release(const_cast<void*>(object));
  if (!IsOurs(caller)) __tsan_release(&library_locks);
}
void Acquire(const void* object, const void* caller) {
  __tsan_acquire(const_cast<void*>(object));
  if (!IsOurs(caller)) __tsan_acquire(&library_locks);
}

// A condition that the library evaluates with the mutex held, on whichever thread.
struct SeenCondition {
  absl::Mutex* mutex;
  const absl::Condition* condition;

  static bool Eval(SeenCondition* seen) {
    __tsan_acquire(seen->mutex);
    const bool met = seen->condition->Eval();
    __tsan_release(seen->mutex);
    return met;
  }
};

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto next = Next<void (*)(Mutex*)>("_ZN$5Mutex4LockEv");
  next(this);
  Acquire(this, __builtin_return_address(0));
}

void Mutex::Unlock() {
  static const auto next = Next<void (*)(Mutex*)>("_ZN$5Mutex6UnlockEv");
  Release(this, __builtin_return_address(0));
  next(this);
}

bool Mutex::TryLock() {
  static const auto next = Next<bool (*)(Mutex*)>("_ZN$5Mutex7TryLockEv");
  const bool locked = next(this);
  if (locked) Acquire(this, __builtin_return_address(0));
  return locked;
}

void Mutex::ReaderLock() {
  static const auto next = Next<void (*)(Mutex*)>("_ZN$5Mutex10ReaderLockEv");
  next(this);
  Acquire(this, __builtin_return_address(0));
}

void Mutex::ReaderUnlock() {
  static const auto next = Next<void (*)(Mutex*)>("_ZN$5Mutex12ReaderUnlockEv");
  Release(this, __builtin_return_address(0));
  next(this);
}

void Mutex::Await(const Condition& condition) {
  static const auto next = Next<void (*)(Mutex*, const Condition&)>("_ZN$5Mutex5AwaitERKNS0_9ConditionE");
  SeenCondition seen{this, &condition};
  Release(this, __builtin_return_address(0));
  next(this, Condition(&SeenCondition::Eval, &seen));
  Acquire(this, __builtin_return_address(0));
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  static const auto next =
      Next<bool (*)(Mutex*, const Condition&, Time)>("_ZN$5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
  SeenCondition seen{this, &condition};
  Release(this, __builtin_return_address(0));
  const bool met = next(this, Condition(&SeenCondition::Eval, &seen), deadline);
  Acquire(this, __builtin_return_address(0));
  return met;
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  return AwaitWithDeadline(condition, Now() + timeout);
}

void CondVar::Wait(Mutex* mutex) {
  static const auto next = Next<void (*)(CondVar*, Mutex*)>("_ZN$7CondVar4WaitEPNS0_5MutexE");
  Release(mutex, __builtin_return_address(0));
  next(this, mutex);
  Acquire(mutex, __builtin_return_address(0));
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto next =
      Next<bool (*)(CondVar*, Mutex*, Time)>("_ZN$7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  Release(mutex, __builtin_return_address(0));
  const bool timed_out = next(this, mutex, deadline);
  Acquire(mutex, __builtin_return_address(0));
  return timed_out;
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) { return WaitWithDeadline(mutex, Now() + timeout); }

void Notification::Notify() {
  static const auto next = Next<void (*)(Notification*)>("_ZN$12Notification6NotifyEv");
  Release(this, __builtin_return_address(0));
  next(this);
}

void Notification::WaitForNotification() const {
  static const auto next = Next<void (*)(const Notification*)>("_ZNK$12Notification19WaitForNotificationEv");
  next(this);
  Acquire(this, __builtin_return_address(0));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static const auto next = Next<bool (*)(const Notification*, Duration)>(
      "_ZNK$12Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool notified = next(this, timeout);
  if (notified) Acquire(this, __builtin_return_address(0));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl
