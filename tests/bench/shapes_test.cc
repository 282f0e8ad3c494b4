// That every shape that is timed is computed rightly, as far as that is quick, and that the check sees a wrong answer.
#include "tests/bench/shapes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/bench/check.h"
#include "tests/bench/fma_peak.h"

namespace headlight::bench {
namespace {

// What a test has time for: shapes up to 512 tokens.
constexpr std::int64_t kFlops = 2'000'000'000;

std::int64_t FlopsOf(const oracle::Problem& p) { return 2 * p.b * p.hq * p.tq * p.tk * (p.d + p.dv); }

class Shapes : public testing::TestWithParam<const char*> {};

TEST_P(Shapes, FlashIsRight) {
  const auto cases = ReadShapes(std::string(HEADLIGHT_BENCH_SHAPES) + "/" + GetParam());
  ASSERT_TRUE(cases.ok()) << cases.status();
  ComputePool pool(2);
  int checked = 0;
  for (const Case& c : *cases) {
    if (FlopsOf(c.problem) > kFlops) continue;
    for (const TensorKind kind : c.kinds) {
      SCOPED_TRACE(c.name + " " + std::string(NameOf(kind)));
      const auto bound = oracle::Bind(ProblemOf(c, kind));
      const auto ran = oracle::RunEngineOn(pool, *bound, Algorithm::kFlash);
      ASSERT_TRUE(ran.ok()) << ran.status();
      EXPECT_EQ(CheckFlash(pool, *bound, (*ran)->result.output), "");
      ++checked;
    }
  }
  EXPECT_GT(checked, 0);
}

INSTANTIATE_TEST_SUITE_P(Files, Shapes, testing::Values("kernels.txt", "maps.txt", "peers.txt", "fairness.txt"),
                         [](const auto& file) { return std::filesystem::path(file.param).stem().string(); });

TEST(BenchCheck, RowsAreTheOracles) {
  oracle::Problem p;
  p.hq = 4;
  p.hkv = 2;
  p.tk = 23;
  p.causal = CausalAlignment::kBottomRight;
  const auto bound = oracle::Bind(p);
  const oracle::Exact exact = oracle::Solve(*bound);
  const std::vector<ExactRow> rows = SomeRows(*bound, p.tq);
  ASSERT_EQ(rows.size(), static_cast<std::size_t>(p.hq * p.tq));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < 16; ++c) EXPECT_NEAR(rows[r].output[c], exact.heads[r * 16 + c], 1e-12);
    for (std::size_t j = 0; j < 23; ++j) EXPECT_NEAR(rows[r].weights[j], exact.weights[r * 23 + j], 1e-12);
  }
}

TEST(BenchCheck, SeesAWrongAnswer) {
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kBF16}) {
    Case c;
    const auto bound = oracle::Bind(ProblemOf(c, kind));
    ComputePool pool(1);
    const auto ran = oracle::RunEngineOn(pool, *bound, Algorithm::kFlash);
    ASSERT_TRUE(ran.ok()) << ran.status();
    OwnedTensor& output = (*ran)->result.output;
    EXPECT_EQ(CheckFlash(pool, *bound, output), "");
    // One number in the middle, which no row in double need be at: naive's answer has it.
    output.bytes.at(output.bytes.size() / 2 + static_cast<std::size_t>(WidthOf(kind)) - 1) ^= 0x40;
    EXPECT_NE(CheckFlash(pool, *bound, output), "");
  }
}

TEST(ReadShapes, RefusesWhatIsNoShape) {
  EXPECT_EQ(ReadShapes("/nonexistent").status().code(), absl::StatusCode::kNotFound);
  const std::string path = testing::TempDir() + "/headlight-shapes." + std::to_string(getpid()) + ".txt";
  for (const char* line :
       {"a 1 8 8 16 16 64 64 0 f32", "a 1 8 8 16 16 64 64 2 f32 -", "a 1 8 8 16 16 64 64 0 f64 -",
        "a 1 8 8 16 16 64 64 0 f32 much", "a 1 8 8 16 16 64 64 0 f32 - -", "a b", "a 0 8 8 16 16 64 64 0 f32 -",
        "a 1 8 3 16 16 64 64 0 f32 -", "a 1 8 8 16 -16 64 64 0 f32 -", "a 1 8 8 16 200000000 64 64 0 f32 -"}) {
    std::ofstream(path) << line << "\n";
    EXPECT_EQ(ReadShapes(path).status().code(), absl::StatusCode::kInvalidArgument) << line;
  }
  std::filesystem::remove(path);
}

TEST(CheckWanted, KnowsNames) {
  std::vector<Case> cases(2);
  cases[0].name = "short";
  cases[1].name = "long";
  for (const char* only : {"", "short", "long,short"}) EXPECT_TRUE(CheckWanted(only, cases).ok()) << only;
  const absl::Status status = CheckWanted("short,lang", cases);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "no shape is called 'lang'; there are short, long");
}

TEST(FmaPeak, IsSomeNumber) { EXPECT_GT(SampleFmaPeak(2), 0.1); }

}  // namespace
}  // namespace headlight::bench
