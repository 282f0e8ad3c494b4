// Targets by name. A process has one for ever, so each that is forced here gets a process of its own.
#include "server/kernels/cpu_target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "server/kernels/simd_targets.h"
#include "tests/kernels/fingerprint.h"

// clang-format off: Highway comes after the list of its targets.
#include "hwy/highway.h"
// clang-format on

namespace headlight {
namespace {

class CpuTargetTest : public testing::Test {
 protected:
  // Runs this executable anew instead of forking it: no library may have been used before.
  void SetUp() override { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
};

std::int64_t HighwayBits(CpuTarget target) {
  switch (target) {
    case CpuTarget::kAvx512: return HWY_AVX3;
    case CpuTarget::kAvx2: return HWY_AVX2;
    case CpuTarget::kSse4: return HWY_SSE4;
    case CpuTarget::kNeon: return HWY_NEON;
    case CpuTarget::kBaseline: return HWY_STATIC_TARGET;
  }
  return 0;
}

// What oneDNN calls the instructions that it uses at most.
absl::string_view OneDnnName(CpuTarget target) {
  switch (target) {
    case CpuTarget::kAvx512: return "isa:Intel AVX-512 ";
    case CpuTarget::kAvx2: return "isa:Intel AVX2\n";
    default: return "isa:Intel SSE4.1\n";
  }
}

// In a process of its own: forces the target, runs a kernel of every file and says on stderr what does not fit.
// Returns the process's exit code.
int ForceAndRun(CpuTarget target) {
  const auto fail = [](const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    return 1;
  };
  setenv("ONEDNN_VERBOSE", "1", 1);
  const CpuTarget best = AvailableCpuTargets().front();
  const absl::Status forced = ForceCpuTarget(NameOf(target));
  if (!forced.ok()) return fail(forced.ToString());
  if (ActiveCpuTarget() != target) return fail("another target is active");
  if (AvailableCpuTargets().front() != best) return fail("forgot what the machine has");

  testing::internal::CaptureStdout();
  const int lanes = MeasuredLanes();
  const bool rows_fuse = RowsFuse();
  const bool products_fuse = MatmulFuses();
  const std::string said = testing::internal::GetCapturedStdout();

  if (!FitsLanes(target, lanes)) return fail("rows have " + std::to_string(lanes) + " lanes");
  if (rows_fuse != Fuses(target)) return fail("rows fuse, or should");
  if (products_fuse != Fuses(target)) return fail("matrix products fuse, or should");
  // The entry of Highway's tables that the kernels were called by.
  const std::size_t chosen = hwy::GetChosenTarget().GetIndex();
  hwy::GetChosenTarget().Update(HighwayBits(target));
  if (chosen != hwy::GetChosenTarget().GetIndex()) return fail("Highway chose entry " + std::to_string(chosen));
  if (target != CpuTarget::kNeon && !absl::StrContains(said, OneDnnName(target))) return fail(said);
  return 0;
}

TEST_F(CpuTargetTest, EachThatIsAvailableCanBeForcedAndThenReallyRuns) {
  for (const CpuTarget target : AvailableCpuTargets()) {
    SCOPED_TRACE(NameOf(target));
    EXPECT_EXIT(std::exit(ForceAndRun(target)), testing::ExitedWithCode(0), "");
  }
}

TEST_F(CpuTargetTest, TheBestIsActiveUnlessOneIsForced) {
  EXPECT_EQ(ActiveCpuTarget(), AvailableCpuTargets().front());
  EXPECT_TRUE(FitsLanes(ActiveCpuTarget(), MeasuredLanes())) << NameOf(ActiveCpuTarget());
}

TEST_F(CpuTargetTest, AvailableOnesAreListedOnceBestFirst) {
  const std::vector<CpuTarget> available = AvailableCpuTargets();
  ASSERT_FALSE(available.empty());
  EXPECT_TRUE(std::is_sorted(available.begin(), available.end()));
  EXPECT_EQ(std::adjacent_find(available.begin(), available.end()), available.end());
#if defined(__x86_64__)
  EXPECT_THAT(available, testing::Contains(CpuTarget::kBaseline));  // every machine can run what the compiler made
  EXPECT_THAT(available, testing::Not(testing::Contains(CpuTarget::kNeon)));
#endif
}

TEST_F(CpuTargetTest, HasANameOfItsOwn) {
  EXPECT_EQ(NameOf(CpuTarget::kAvx512), "avx512");
  EXPECT_EQ(NameOf(CpuTarget::kAvx2), "avx2");
  EXPECT_EQ(NameOf(CpuTarget::kSse4), "sse4");
  EXPECT_EQ(NameOf(CpuTarget::kNeon), "neon");
  EXPECT_EQ(NameOf(CpuTarget::kBaseline), "baseline");
}

TEST_F(CpuTargetTest, UnknownNamesAreRefusedWithTheListOfThoseThereAre) {
  const std::vector<CpuTarget> before = AvailableCpuTargets();
  std::vector<std::string> names = {"", "avx9000", "AVX2", " avx2", "avx", "avx2,sse4", "best", "?"};
  for (const CpuTarget target : {CpuTarget::kAvx512, CpuTarget::kAvx2, CpuTarget::kSse4, CpuTarget::kNeon}) {
    if (std::find(before.begin(), before.end(), target) == before.end()) names.emplace_back(NameOf(target));
  }
  for (const std::string& name : names) {
    const absl::Status status = ForceCpuTarget(name);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("\"" + name + "\""));
    for (const CpuTarget target : before) {
      EXPECT_THAT(std::string(status.message()), testing::HasSubstr(std::string(NameOf(target))));
    }
  }
  EXPECT_EQ(AvailableCpuTargets(), before);
}

// Halves of two instruction sets would be neither's bits.
int ForceTooLate() {
  const std::vector<CpuTarget> before = AvailableCpuTargets();
  (void)MatmulFuses();
  const absl::Status late = ForceCpuTarget(NameOf(before.back()));
  if (late.code() != absl::StatusCode::kFailedPrecondition) return 1;
  return AvailableCpuTargets() == before ? 0 : 2;
}

TEST_F(CpuTargetTest, CannotChangeAfterTheFirstMatrixProduct) {
  EXPECT_EXIT(std::exit(ForceTooLate()), testing::ExitedWithCode(0), "");
}

TEST_F(CpuTargetTest, LibrariesSayTheirVersions) {
  EXPECT_THAT(SimdLibraryVersion(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_THAT(MatmulLibraryVersion(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

}  // namespace
}  // namespace headlight
