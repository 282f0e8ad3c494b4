// What the steps of attention allocate once everything is warm: nothing beyond what oneDNN does within its products.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
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

// The most that a unit of the attention phase allocates. The lane got its scratch in the phase before.
std::int64_t MostOfAUnit(const oracle::Bound& bound, MatmulCache& matmuls) {
  const Limits limits;
  ProblemRequest request = bound.request;
  request.algorithm = Algorithm::kFlash;
  const auto plan =
      MakePlan(CheckProblem(request, limits).value(), limits, {MultipliesBF16(), GainsFromPacking()}).value();
  MemoryAccount account(nullptr);
  AttentionWork work(plan, bound.data, account, matmuls, {}, absl::InfinitePast());
  std::int64_t most = -1;
  while (*work.BeginPhase(1) > 0) {
    for (bool more = true; more;) {
      const std::int64_t before = allocations.load();
      more = *work.RunUnit(0);
      if (work.stage() == Stage::kAttend) most = std::max(most, allocations.load() - before);
    }
  }
  return most;
}

// What one product allocates, its look-up included.
std::int64_t OfAProduct(MatmulCache& matmuls, bool accumulate) {
  const MatmulShape shape{16, 16, 16, 16, 16, 16, false, accumulate};
  std::vector<float> a(256), b(256), c(256);
  std::int64_t count = 0;
  for (int i = 0; i < 3; ++i) {
    const std::int64_t before = allocations.load();
    EXPECT_TRUE(matmuls.Run(shape, a.data(), b.data(), c.data()).ok());
    count = allocations.load() - before;
  }
  return count;
}

TEST(Allocation, StepsOfAttentionTakeNothingOnceWarm) {
  struct Case {
    std::int64_t tokens, heads, head_size;  // of which a unit is one tile
    bool causal;
  };
  for (const Case& c : {Case{16, 8, 64, false}, Case{128, 8, 64, false}, Case{512, 2, 64, false},
                        Case{100, 3, 40, true}, Case{256, 2, 64, true}}) {
    oracle::Problem problem;
    problem.hq = problem.hkv = c.heads;
    problem.tq = problem.tk = c.tokens;
    problem.d = problem.dv = c.head_size;
    if (c.causal) problem.causal = CausalAlignment::kTopLeft;
    const auto bound = Bind(problem);
    MatmulCache matmuls;
    MostOfAUnit(*bound, matmuls);  // warm
    const std::int64_t most = MostOfAUnit(*bound, matmuls);
    EXPECT_GE(most, 0);
    // Q K^T and P V.
    EXPECT_LE(most, OfAProduct(matmuls, false) + OfAProduct(matmuls, true)) << c.tokens << " tokens";
  }
}

}  // namespace
}  // namespace headlight
