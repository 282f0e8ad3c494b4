// Memory that is counted: every byte of workspace belongs to a call's account, and all accounts add up in one ledger.
#ifndef HEADLIGHT_SERVER_BASE_MEMORY_H_
#define HEADLIGHT_SERVER_BASE_MEMORY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace headlight {

// Keeps freed memory in the process, but what is larger than 32 MiB, until the program trims it: calls take and give
// back the same few megabytes again and again, and page faults are a fifth of a short call otherwise. Less of it where
// the process may have no more than `limit_bytes`; 0: no limit. Once, before there are threads.
void KeepFreedMemory(std::int64_t limit_bytes);

// What workspace is for.
enum class MemoryUse : std::uint8_t {
  kScratch,     // per lane: tiles, accumulators; with naive the grid of scores
  kPacked,      // turned or widened copies of K and V, rotary tables
  kProjection,  // widened embeddings and weights, Q, K, V, concatenation
};
inline constexpr int kMemoryUses = 3;

// The sum over all calls. Thread-safe.
class MemoryLedger {
 public:
  std::int64_t now() const { return now_.load(std::memory_order_relaxed); }
  std::int64_t peak() const { return peak_.load(std::memory_order_relaxed); }

  // Adds `bytes` (negative to give back).
  void Add(std::int64_t bytes);

 private:
  std::atomic<std::int64_t> now_{0};
  std::atomic<std::int64_t> peak_{0};
};

// One call's workspace. Thread-safe. Outlives every buffer that counts on it; `ledger` (may be null) outlives it.
class MemoryAccount {
 public:
  explicit MemoryAccount(MemoryLedger* ledger) : ledger_(ledger) {}
  MemoryAccount(const MemoryAccount&) = delete;
  MemoryAccount& operator=(const MemoryAccount&) = delete;

  // Largest amount held at once for one use, and for all together.
  std::int64_t peak(MemoryUse use) const { return peak_by_use_[Index(use)].load(std::memory_order_relaxed); }
  std::int64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  std::int64_t now() const { return now_.load(std::memory_order_relaxed); }

  void Add(MemoryUse use, std::int64_t bytes);

 private:
  static std::size_t Index(MemoryUse use) { return static_cast<std::size_t>(use); }

  MemoryLedger* ledger_;
  std::atomic<std::int64_t> now_{0};
  std::atomic<std::int64_t> peak_{0};
  std::array<std::atomic<std::int64_t>, kMemoryUses> now_by_use_{};
  std::array<std::atomic<std::int64_t>, kMemoryUses> peak_by_use_{};
};

// Bytes aligned to 64, counted in an account while they live. Move-only. Throws std::bad_alloc.
class CountedBytes {
 public:
  CountedBytes() = default;
  CountedBytes(MemoryAccount& account, MemoryUse use, std::int64_t bytes);
  CountedBytes(CountedBytes&& other) noexcept { *this = std::move(other); }
  CountedBytes& operator=(CountedBytes&& other) noexcept;
  ~CountedBytes() { Release(); }

  void* data() const { return data_; }
  std::int64_t size() const { return bytes_; }

 private:
  void Release();

  MemoryAccount* account_ = nullptr;
  MemoryUse use_ = MemoryUse::kScratch;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

// `count` numbers in counted bytes. Not initialised: writers overwrite before they read.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(MemoryAccount& account, MemoryUse use, std::int64_t count)
      : bytes_(account, use, count * static_cast<std::int64_t>(sizeof(T))) {}

  T* data() const { return static_cast<T*>(bytes_.data()); }
  std::int64_t size() const { return bytes_.size() / static_cast<std::int64_t>(sizeof(T)); }
  bool empty() const { return bytes_.size() == 0; }

 private:
  CountedBytes bytes_;
};
using FloatBuffer = Buffer<float>;

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_MEMORY_H_
