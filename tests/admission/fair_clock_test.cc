#include "server/admission/fair_clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace headlight {
namespace {

TEST(FairClock, GoesAsFastAsACallIsServedSideBySide) {
  FairClock clock;
  EXPECT_EQ(clock.Begin(100), 100);
  clock.Advance(50, 1);
  EXPECT_EQ(clock.now(), 50);
  EXPECT_EQ(clock.Begin(100), 150);
  clock.Advance(60, 2);  // 30 each
  EXPECT_EQ(clock.now(), 80);
  clock.Advance(40, 2);  // the first would have ended, though it may really have been the second
  EXPECT_EQ(clock.now(), 100);
  clock.Advance(50, 1);  // the second alone
  EXPECT_EQ(clock.now(), 150);
}

TEST(FairClock, EqualsAreDueInTheOrderOfTheirComing) {
  FairClock clock;
  std::int64_t before = clock.Begin(1000);
  for (int i = 0; i < 20; ++i) {
    clock.Advance(100, i + 1);
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
    clock.Advance(2'000, 1);
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
    clock.Advance(2'000, 2);  // the short call and as much of the huge one
    ASSERT_LT(++before, 3'000);
  }
  EXPECT_GE(before, 999);
}

TEST(FairClock, GoesOnWhereMoreIsServedThanWasExpected) {
  FairClock clock;
  clock.Begin(0);
  clock.Advance(100, 2);
  EXPECT_EQ(clock.now(), 50);
}

TEST(FairClock, WhatIsGivenUpCountsNoMore) {
  FairClock clock;
  const std::int64_t huge = clock.Begin(1'000'000);
  clock.Begin(100);
  clock.GiveUp(huge);
  clock.GiveUp(huge);  // as good as nothing
  clock.Advance(100, 1);
  EXPECT_EQ(clock.now(), 100);
}

}  // namespace
}  // namespace headlight
