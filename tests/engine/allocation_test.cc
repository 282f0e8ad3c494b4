// What the steps of attention allocate once everything is warm: nothing beyond what oneDNN does within its products.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "server/kernels/matmul.h"
#include "tests/support/oracle.h"

namespace {
std::atomic<std::int64_t> allocations{0};

void* Count(std::size_t bytes, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* data = alignment == 0 ? std::malloc(bytes)
                              : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}
}  // namespace

// Of the whole process, oneDNN's too.
void* operator new(std::size_t bytes) { return Count(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return Count(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t /*bytes*/) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t /*alignment*/) noexcept { std::free(data); }
void operator delete(void* data, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept { std::free(data); }

namespace headlight {
namespace {

// The most that a unit of each stage allocates.
using Most = std::map<Stage, std::int64_t>;

Most MostOfUnits(const oracle::Bound& bound, MatmulCache& matmuls) {
  const Limits limits;
  ProblemRequest request = bound.request;
  request.algorithm = Algorithm::kFlash;
  const auto plan =
      MakePlan(CheckProblem(request, limits).value(), limits, {MultipliesBF16(), GainsFromPacking()}).value();
  MemoryAccount account(nullptr);
  const std::vector<std::unique_ptr<MapSink>> maps = MakeMapSinks(plan.spec);
  StatisticsSink statistics(plan.spec);
  std::vector<ScoreSink*> sinks;
  if (plan.spec.outputs.head_statistics) sinks.push_back(&statistics);
  for (const auto& map : maps) sinks.push_back(map.get());
  AttentionWork work(plan, bound.data, account, matmuls, sinks, absl::InfinitePast());
  Most most;
  while (*work.BeginPhase(1) > 0) {
    for (bool more = true; more;) {
      const std::int64_t before = allocations.load();
      more = *work.RunUnit(0);
      std::int64_t& of_stage = most[work.stage()];
      of_stage = std::max(of_stage, allocations.load() - before);
    }
  }
  return most;
}

// What one product allocates, its look-up included.
std::int64_t OfAProduct(MatmulKind kind, bool accumulate) {
  MatmulCache matmuls;
  MatmulShape shape{16, 16, 16, 16, 16, 16, false, accumulate};
  shape.kind = kind;
  std::vector<float> a(256), b(256), c(256);  // room for the numbers of either kind
  std::int64_t count = 0;
  for (int i = 0; i < 3; ++i) {
    const std::int64_t before = allocations.load();
    EXPECT_TRUE(matmuls.Run(shape, a.data(), b.data(), c.data()).ok());
    count = allocations.load() - before;
  }
  return count;
}

// Problems whose units are one tile, or one product of a projection, or one row of what comes after.
std::vector<oracle::Problem> Problems() {
  std::vector<oracle::Problem> problems;
  const auto add = [&problems](std::int64_t tokens, std::int64_t heads, std::int64_t head_size) -> oracle::Problem& {
    oracle::Problem& p = problems.emplace_back();
    p.tq = p.tk = tokens;
    p.hq = p.hkv = heads;
    p.d = p.dv = head_size;
    return p;
  };
  add(16, 8, 64);
  add(128, 8, 64);
  add(512, 2, 64);
  add(100, 3, 40).causal = CausalAlignment::kTopLeft;
  add(256, 2, 64).causal = CausalAlignment::kTopLeft;
  add(128, 4, 64).position.kind = PositionKind::kRotary;
  add(128, 4, 64).kind = TensorKind::kBF16;
  problems.back().precision = ComputePrecision::kBFloat16;
  oracle::Problem& projected = add(128, 4, 64);
  projected.e = projected.eo = 40;
  projected.hkv = 2;
  projected.position.kind = PositionKind::kRotary;
  OutputsForm& outputs = add(128, 2, 64).outputs;
  outputs.head_statistics = outputs.log_sum_exp = true;
  outputs.maps.resize(4);
  outputs.maps[1].top_k = 5;
  outputs.maps[2].pooled = PooledForm{7, 9, PoolReducer::kSum};
  outputs.maps[3].column_sums = true;
  return problems;
}

TEST(Allocation, StepsTakeNothingOnceWarm) {
  for (const oracle::Problem& problem : Problems()) {
    SCOPED_TRACE(problem.Describe());
    const auto bound = Bind(problem);
    MatmulCache matmuls;
    MostOfUnits(*bound, matmuls);  // warm
    const bool bf16 = problem.precision == ComputePrecision::kBFloat16 && MultipliesBF16();
    const MatmulKind kind = bf16 ? MatmulKind::kBF16 : MatmulKind::kF32;
    // A unit of a stage has one product, of attention two: Q K^T and P V. The first unit of a phase makes its lane.
    constexpr std::int64_t kLane = 2;
    const std::int64_t product = OfAProduct(kind, false);
    const Most most = MostOfUnits(*bound, matmuls);
    EXPECT_EQ(most.count(Stage::kAttend), 1);
    for (const auto& [stage, count] : most) {
      const std::int64_t second = stage == Stage::kAttend ? OfAProduct(kind, true) : 0;
      EXPECT_LE(count, kLane + product + second) << NameOf(stage);
    }
  }
}

}  // namespace
}  // namespace headlight
