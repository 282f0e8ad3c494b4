#include "server/base/memory.h"

#include <malloc.h>

#include <algorithm>
#include <new>
#include <utility>

namespace headlight {
namespace {

constexpr std::size_t kAlignment = 64;

void RaiseTo(std::atomic<std::int64_t>& peak, std::int64_t value) {
  std::int64_t seen = peak.load(std::memory_order_relaxed);
  while (seen < value && !peak.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

}  // namespace

void KeepFreedMemory(std::int64_t limit_bytes) {
  static constexpr std::int64_t kMiB = 1 << 20;
  const auto at_most = [limit_bytes](std::int64_t bytes, std::int64_t share) {
    return static_cast<int>(limit_bytes > 0 ? std::clamp(limit_bytes / share, kMiB, bytes) : bytes);
  };
  mallopt(M_MMAP_THRESHOLD, at_most(32 * kMiB, 64));
  mallopt(M_TRIM_THRESHOLD, at_most(256 * kMiB, 16));
  mallopt(M_TOP_PAD, at_most(16 * kMiB, 64));
  // The ends of other arenas than the first are never given back, 64 MiB each.
  mallopt(M_ARENA_MAX, 1);
}

void MemoryLedger::Add(std::int64_t bytes) { RaiseTo(peak_, now_.fetch_add(bytes, std::memory_order_relaxed) + bytes); }

void MemoryAccount::Add(MemoryUse use, std::int64_t bytes) {
  std::atomic<std::int64_t>& of_use = now_by_use_[Index(use)];
  RaiseTo(peak_by_use_[Index(use)], of_use.fetch_add(bytes, std::memory_order_relaxed) + bytes);
  RaiseTo(peak_, now_.fetch_add(bytes, std::memory_order_relaxed) + bytes);
  if (ledger_ != nullptr) ledger_->Add(bytes);
}

CountedBytes::CountedBytes(MemoryAccount& account, MemoryUse use, std::int64_t bytes)
    : account_(&account), use_(use), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = ::operator new (static_cast<std::size_t>(bytes), std::align_val_t{kAlignment});
  account_->Add(use_, bytes_);
}

CountedBytes& CountedBytes::operator=(CountedBytes&& other) noexcept {
  if (this == &other) return *this;
  Release();
  account_ = other.account_;
  use_ = other.use_;
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

void CountedBytes::Release() {
  if (data_ == nullptr) return;
  account_->Add(use_, -bytes_);
  ::operator delete (data_, std::align_val_t{kAlignment});
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace headlight
