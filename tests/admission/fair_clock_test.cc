#include "server/admission/fair_clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace headlight {
namespace {

TEST(FairClock, GoesAsFastAsACallIsServedSideBySide) {
  FairClock clock;
  EXPECT_EQ(clock.Begin(100), 100);
  clock.Advance(50);
  EXPECT_EQ(clock.now(), 50);
  EXPECT_EQ(clock.Begin(100), 150);
  clock.Advance(60);  // 30 each
  EXPECT_EQ(clock.now(), 80);
  clock.Advance(40);  // the first would have ended, though it may really have been the second
  EXPECT_EQ(clock.now(), 100);
  clock.Advance(50);  // the second alone
  EXPECT_EQ(clock.now(), 150);
}

TEST(FairClock, EqualsAreDueInTheOrderOfTheirComing) {
  FairClock clock;
  std::int64_t before = clock.Begin(1000);
  for (int i = 0; i < 20; ++i) {
    clock.Advance(100);
    const std::int64_t due = clock.Begin(1000);
    EXPECT_GT(due, before);
    before = due;
  }
}

// However many wait: a short call is due before all that have long to go.
TEST(FairClock, AShortCallIsDueBeforeLongerOnes) {
  FairClock clock;
  std::int64_t first = clock.Begin(18'000);
  for (int i = 0; i < 50; ++i) {
    clock.Advance(2'000);
    first = std::min(first, clock.Begin(18'000));
  }
  EXPECT_LT(clock.Begin(300), first);
}

// And a huge one does not wait for ever while short ones come.
TEST(FairClock, AHugeCallIsDueInItsTime) {
  FairClock clock;
  const std::int64_t huge = clock.Begin(1'000'000);
  int before = 0;
  while (clock.Begin(1'000) <= huge) {
    clock.Advance(2'000);  // the short call and as much of the huge one
    ASSERT_LT(++before, 3'000);
  }
  EXPECT_GE(before, 999);
}

TEST(FairClock, GoesOnWhereMoreIsServedThanWasExpected) {
  FairClock clock;
  clock.Begin(100);
  clock.Exceed(100, 2);
  EXPECT_EQ(clock.now(), 0);  // somebody has not had what was expected
  clock.Advance(100);
  clock.Exceed(100, 2);
  EXPECT_EQ(clock.now(), 150);
}

// Calls that all need more than was expected wait as long as they really do: one that is short is due before them all.
TEST(FairClock, WrongExpectationsDoNotMakeWaitingCallsLate) {
  FairClock clock;
  std::vector<std::int64_t> waiting;
  for (int i = 0; i < 500; ++i) {
    waiting.push_back(clock.Begin(1'000));
    if (i % 10 == 9) continue;  // nine of ten come as fast as they are served
    clock.Advance(1'000);
    clock.Exceed(500, 1);
    waiting.erase(waiting.begin());
  }
  ASSERT_EQ(waiting.size(), 50U);
  EXPECT_LE(clock.Begin(10), waiting.front());
}

TEST(FairClock, WhatIsGivenUpCountsNoMore) {
  FairClock clock;
  const std::int64_t huge = clock.Begin(1'000'000);
  clock.Begin(100);
  clock.GiveUp(huge);
  clock.GiveUp(huge);  // as good as nothing
  clock.Advance(100);
  EXPECT_EQ(clock.now(), 100);
}

}  // namespace
}  // namespace headlight
