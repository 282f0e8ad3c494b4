#include "server/base/memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace headlight {
namespace {

TEST(MemoryLedger, RemembersItsPeak) {
  MemoryLedger ledger;
  ledger.Add(100);
  ledger.Add(50);
  ledger.Add(-120);
  ledger.Add(60);
  EXPECT_EQ(ledger.now(), 90);
  EXPECT_EQ(ledger.peak(), 150);
}

TEST(MemoryAccount, CountsByUseAndTogether) {
  MemoryLedger ledger;
  MemoryAccount account(&ledger);
  account.Add(MemoryUse::kScratch, 10);
  account.Add(MemoryUse::kPacked, 200);
  account.Add(MemoryUse::kScratch, -10);
  account.Add(MemoryUse::kProjection, 3000);
  account.Add(MemoryUse::kScratch, 7);
  EXPECT_EQ(account.peak(MemoryUse::kScratch), 10);
  EXPECT_EQ(account.peak(MemoryUse::kPacked), 200);
  EXPECT_EQ(account.peak(MemoryUse::kProjection), 3000);
  EXPECT_EQ(account.peak(), 3207);  // not the sum of the peaks: they were not held together
  EXPECT_EQ(account.now(), 3207);
  EXPECT_EQ(ledger.now(), 3207);
}

TEST(MemoryAccount, NeedsNoLedger) {
  MemoryAccount account(nullptr);
  account.Add(MemoryUse::kScratch, 5);
  EXPECT_EQ(account.now(), 5);
}

TEST(MemoryLedger, AddsUpTheAccountsOfAllCalls) {
  MemoryLedger ledger;
  MemoryAccount first(&ledger);
  MemoryAccount second(&ledger);
  {
    const FloatBuffer a(first, MemoryUse::kScratch, 100);
    {
      const FloatBuffer b(second, MemoryUse::kPacked, 50);
      EXPECT_EQ(ledger.now(), 600);
    }
    EXPECT_EQ(ledger.now(), 400);
    EXPECT_EQ(second.now(), 0);
  }
  EXPECT_EQ(ledger.now(), 0);
  EXPECT_EQ(ledger.peak(), 600);
  EXPECT_EQ(first.peak(), 400);
  EXPECT_EQ(second.peak(), 200);
}

TEST(CountedBytes, AreAlignedWritableAndCountedWhileTheyLive) {
  MemoryAccount account(nullptr);
  for (const std::int64_t size : {1, 63, 64, 65, 4096, 1 << 20}) {
    const CountedBytes bytes(account, MemoryUse::kScratch, size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64, 0U);
    EXPECT_EQ(bytes.size(), size);
    EXPECT_EQ(account.now(), size);
    std::memset(bytes.data(), 0xab, static_cast<std::size_t>(size));
  }
  EXPECT_EQ(account.now(), 0);
}

TEST(CountedBytes, OfNoSizeHoldNothing) {
  MemoryAccount account(nullptr);
  const CountedBytes bytes(account, MemoryUse::kScratch, 0);
  EXPECT_EQ(bytes.data(), nullptr);
  EXPECT_EQ(bytes.size(), 0);
  EXPECT_EQ(account.peak(), 0);
  const FloatBuffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0);
}

TEST(CountedBytes, MoveWithTheirAccount) {
  static_assert(!std::is_copy_constructible_v<CountedBytes> && !std::is_copy_assignable_v<CountedBytes>);
  MemoryAccount account(nullptr);
  MemoryAccount other(nullptr);
  CountedBytes a(account, MemoryUse::kPacked, 100);
  void* const where = a.data();
  CountedBytes b(std::move(a));
  EXPECT_EQ(b.data(), where);
  EXPECT_EQ(account.now(), 100);
  CountedBytes c(other, MemoryUse::kScratch, 30);
  c = std::move(b);  // gives its own back first
  EXPECT_EQ(c.data(), where);
  EXPECT_EQ(c.size(), 100);
  EXPECT_EQ(other.now(), 0);
  CountedBytes& same = c;
  c = std::move(same);
  EXPECT_EQ(c.data(), where);
  EXPECT_EQ(account.now(), 100);
  c = CountedBytes();
  EXPECT_EQ(account.now(), 0);
  EXPECT_EQ(account.peak(MemoryUse::kPacked), 100);
}

TEST(Buffer, CountsItsElementsAndTheirBytes) {
  MemoryAccount account(nullptr);
  Buffer<double> buffer(account, MemoryUse::kProjection, 9);
  EXPECT_EQ(buffer.size(), 9);
  EXPECT_FALSE(buffer.empty());
  EXPECT_EQ(account.peak(MemoryUse::kProjection), 72);
  buffer.data()[8] = 2.5;
  const Buffer<double> moved = std::move(buffer);
  EXPECT_EQ(moved.data()[8], 2.5);
}

TEST(MemoryAccount, StaysRightUnderManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 2000;
  MemoryLedger ledger;
  MemoryAccount account(&ledger);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&account, t] {
      for (int i = 0; i < kRounds; ++i) {
        const CountedBytes bytes(account, static_cast<MemoryUse>((t + i) % kMemoryUses), 64);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(account.now(), 0);
  EXPECT_EQ(ledger.now(), 0);
  EXPECT_GE(account.peak(), 64);
  EXPECT_LE(account.peak(), 64 * kThreads);
  EXPECT_GE(ledger.peak(), 64);
  EXPECT_LE(ledger.peak(), 64 * kThreads);
}

}  // namespace
}  // namespace headlight
