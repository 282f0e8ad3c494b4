// Products against one number at a time in double, and the cache that keeps them.
#include "server/kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace headlight {
namespace {

constexpr float kGap = 4711.0F;
constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

struct Data {
  std::vector<float> a, b, c;
};

std::vector<float> Matrix(std::mt19937& random, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                          float between) {
  std::vector<float> numbers(static_cast<std::size_t>(rows * stride), between);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      numbers[static_cast<std::size_t>(r * stride + c)] = static_cast<float>(random() % 20001) / 5000 - 2;
    }
  }
  return numbers;
}

// Between the rows of A and B stands NaN, which must not be read into a product.
Data Draw(const MatmulShape& s) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::mt19937 random(static_cast<std::uint32_t>(s.m * 10007 + s.n * 101 + s.k));
  Data data;
  data.a = Matrix(random, s.m, s.k, s.lda, nan);
  data.b = s.transpose_b ? Matrix(random, s.n, s.k, s.ldb, nan) : Matrix(random, s.k, s.n, s.ldb, nan);
  data.c = Matrix(random, s.m, s.n, s.ldc, kGap);
  return data;
}

// Every element within k roundings of the sum of magnitudes, the bound for a sum in any order; the gaps untouched.
void ExpectProduct(MatmulCache& cache, const MatmulShape& s) {
  SCOPED_TRACE(testing::Message() << s.m << " x " << s.n << " x " << s.k << (s.transpose_b ? " transposed" : "")
                                  << (s.accumulate ? " accumulated" : "") << " strides " << s.lda << " " << s.ldb << " "
                                  << s.ldc);
  Data data = Draw(s);
  const std::vector<float> before = data.c;
  const absl::Status status = cache.Run(s, data.a.data(), data.b.data(), data.c.data());
  ASSERT_TRUE(status.ok()) << status;
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      const auto at = static_cast<std::size_t>(i * s.ldc + j);
      double sum = s.accumulate ? before[at] : 0;
      double magnitude = std::fabs(sum);
      for (std::int64_t l = 0; l < s.k; ++l) {
        const double x = data.a[static_cast<std::size_t>(i * s.lda + l)];
        const double y = data.b[static_cast<std::size_t>(s.transpose_b ? j * s.ldb + l : l * s.ldb + j)];
        sum += x * y;
        magnitude += std::fabs(x * y);
      }
      ASSERT_NEAR(data.c[at], sum, kEpsilon * static_cast<double>(s.k + 1) * magnitude) << i << " " << j;
    }
    for (std::int64_t j = s.n; j < s.ldc && i + 1 < s.m; ++j) {
      ASSERT_EQ(data.c[static_cast<std::size_t>(i * s.ldc + j)], kGap) << i << " " << j;
    }
  }
}

MatmulShape Packed(std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_b = false, bool accumulate = false) {
  return {m, n, k, k, transpose_b ? k : n, n, transpose_b, accumulate};
}

// Tails of 16, a lane more and less, and the depth of a head.
TEST(Matmul, AgreesWithDoubleOverSizes) {
  MatmulCache cache;
  for (const std::int64_t m : {1, 16, 17, 64}) {
    for (const std::int64_t n : {1, 15, 16, 33, 80}) {
      for (const std::int64_t k : {1, 7, 64}) {
        ExpectProduct(cache, Packed(m, n, k, (m + n + k) % 2 == 0, (m + k) % 3 == 0));
      }
    }
  }
}

TEST(Matmul, AgreesForTheTilesOfAttention) {
  MatmulCache cache;
  ExpectProduct(cache, Packed(64, 512, 64, true));         // Q K^T
  ExpectProduct(cache, Packed(64, 64, 512, false, true));  // P V, onto what there is
  ExpectProduct(cache, Packed(16, 64, 512, true));
  ExpectProduct(cache, Packed(64, 256, 300));  // a block of a projection
  ExpectProduct(cache, Packed(8, 256, 4100));
}

TEST(Matmul, FollowsStridesOfEveryMatrix) {
  MatmulCache cache;
  for (const bool transpose_b : {false, true}) {
    for (const bool accumulate : {false, true}) {
      MatmulShape s = Packed(17, 33, 24, transpose_b, accumulate);
      s.lda += 5;
      s.ldb += 16;
      s.ldc += 1;
      ExpectProduct(cache, s);
      s = Packed(16, 16, 8, transpose_b, accumulate);
      s.lda = s.ldb = s.ldc = 3 * 64;  // a head among others
      ExpectProduct(cache, s);
    }
  }
}

// Each matrix of a batch is the product of its own, to the bit, with a head's strides.
TEST(Matmul, ABatchIsItsProductsOneByOne) {
  MatmulCache cache;
  for (const bool transpose_b : {false, true}) {
    MatmulShape one = Packed(16, 32, 24, transpose_b);
    one.lda = one.ldb = 4 * 32;
    MatmulShape batch = one;
    batch.batch = 4;
    batch.a_step = batch.b_step = 32;
    batch.c_step = 16 * 32;
    std::mt19937 random(5);
    const std::vector<float> a = Matrix(random, 32, 128, 128, 0);
    const std::vector<float> b = Matrix(random, 32, 128, 128, 0);
    std::vector<float> together(4 * 16 * 32);
    ASSERT_TRUE(cache.Run(batch, a.data(), b.data(), together.data()).ok());
    for (std::size_t i = 0; i < 4; ++i) {
      std::vector<float> alone(16 * 32);
      ASSERT_TRUE(cache.Run(one, a.data() + 32 * i, b.data() + 32 * i, alone.data()).ok());
      EXPECT_EQ(std::memcmp(alone.data(), together.data() + 16 * 32 * i, alone.size() * sizeof(float)), 0) << i;
    }
  }
}

// One packed B serves products of every height, and they are what they are without.
TEST(Matmul, TakesAPackedB) {
  MatmulCache cache;
  for (const bool transpose_b : {false, true}) {
    for (const std::int64_t m : {128, 64, 16}) {
      MatmulShape s = transpose_b ? Packed(m, 512, 64, true) : Packed(m, 64, 512, false, true);
      s.ldb *= 3;  // a head among others
      const Data data = Draw(s);
      std::vector<float> plain = data.c;
      std::vector<float> fast = data.c;
      ASSERT_TRUE(cache.Run(s, data.a.data(), data.b.data(), plain.data()).ok());
      EXPECT_EQ(cache.Get(s).value()->packed_bytes(), 0);
      MatmulShape any_height = s;
      any_height.m = 32;
      any_height.packed_b = s.packed_b = true;
      const auto packer = cache.Get(any_height).value();
      ASSERT_EQ(packer->packed_bytes(), s.n * s.k * 4);
      EXPECT_EQ(cache.Get(s).value()->packed_bytes(), packer->packed_bytes());
      std::vector<std::byte> room(static_cast<std::size_t>(packer->packed_bytes()) + 63);
      void* packed = room.data();
      std::size_t space = room.size();
      ASSERT_NE(std::align(64, static_cast<std::size_t>(packer->packed_bytes()), packed, space), nullptr);
      ASSERT_TRUE(packer->Pack(data.b.data(), packed).ok());
      ASSERT_TRUE(cache.Run(s, data.a.data(), packed, fast.data()).ok());
      for (std::size_t i = 0; i < fast.size(); ++i) {
        ASSERT_NEAR(fast[i], plain[i], 2 * kEpsilon * static_cast<double>(s.k) * 4 * 4) << i;
      }
    }
  }
}

// Small whole numbers are exact in bfloat16 and their sums in float32.
TEST(Matmul, MultipliesBF16WhereTheProcessorDoes) {
  if (!MultipliesBF16()) GTEST_SKIP() << "this processor, or the target that it is held to, does not";
  constexpr std::int64_t kM = 17, kN = 33, kK = 66;
  std::mt19937 random(3);
  std::vector<std::uint16_t> a(kM * kK), b(kK * kN);
  const auto fill = [&random](std::vector<std::uint16_t>& halves) {
    std::vector<float> numbers;
    for (std::uint16_t& half : halves) {
      numbers.push_back(static_cast<float>(random() % 17) - 8);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &numbers.back(), sizeof(bits));
      half = static_cast<std::uint16_t>(bits >> 16);
    }
    return numbers;
  };
  const std::vector<float> wide_a = fill(a);
  const std::vector<float> wide_b = fill(b);
  MatmulShape s = Packed(kM, kN, kK);
  s.kind = MatmulKind::kBF16;
  s.alpha = 0.5F;
  MatmulCache cache;
  std::vector<float> c(kM * kN);
  ASSERT_TRUE(cache.Run(s, a.data(), b.data(), c.data()).ok());
  for (std::size_t i = 0; i < kM; ++i) {
    for (std::size_t j = 0; j < kN; ++j) {
      float sum = 0;
      for (std::size_t l = 0; l < kK; ++l) sum += wide_a[i * kK + l] * wide_b[l * kN + j];
      ASSERT_EQ(c[i * kN + j], sum / 2) << i << " " << j;
    }
  }
}

TEST(Matmul, OverwritesWhatWasThereUnlessItAccumulates) {
  MatmulCache cache;
  const MatmulShape s = Packed(16, 16, 4);
  Data data = Draw(s);
  std::fill(data.c.begin(), data.c.end(), std::numeric_limits<float>::quiet_NaN());
  ASSERT_TRUE(cache.Run(s, data.a.data(), data.b.data(), data.c.data()).ok());
  for (const float x : data.c) EXPECT_FALSE(std::isnan(x));
}

TEST(Matmul, GivesTheSameBitsFromEveryCacheAndEveryTime) {
  const MatmulShape s = Packed(48, 80, 100, true);
  const Data first = Draw(s);
  std::vector<float> results[3];
  MatmulCache cache;
  MatmulCache other;
  for (auto& result : results) {
    result.resize(first.c.size());
    MatmulCache& used = &result == &results[2] ? other : cache;
    ASSERT_TRUE(used.Run(s, first.a.data(), first.b.data(), result.data()).ok());
  }
  EXPECT_EQ(std::memcmp(results[0].data(), results[1].data(), results[0].size() * 4), 0);
  EXPECT_EQ(std::memcmp(results[0].data(), results[2].data(), results[0].size() * 4), 0);
}

TEST(MatmulCache, MakesEachShapeOnce) {
  MatmulCache cache;
  EXPECT_EQ(cache.size(), 0U);
  const auto first = cache.Get(Packed(4, 4, 4)).value();
  EXPECT_EQ(cache.Get(Packed(4, 4, 4)).value(), first);
  EXPECT_EQ(cache.size(), 1U);
  MatmulShape other = Packed(4, 4, 4);
  other.accumulate = true;
  EXPECT_NE(cache.Get(other).value(), first);
  other.transpose_b = true;
  EXPECT_NE(cache.Get(other).value(), first);
  EXPECT_EQ(cache.size(), 3U);
}

TEST(MatmulCache, ForgetsTheOldestBeyondItsCapacity) {
  MatmulCache cache(3);
  const auto kept = cache.Get(Packed(1, 1, 1)).value();
  for (std::int64_t k = 2; k <= 6; ++k) {
    ASSERT_TRUE(cache.Get(Packed(1, 1, k)).ok());
    EXPECT_LE(cache.size(), 3U);
  }
  EXPECT_EQ(cache.size(), 3U);
  EXPECT_NE(cache.Get(Packed(1, 1, 1)).value(), kept);  // made anew
  const auto newest = cache.Get(Packed(1, 1, 6)).value();
  EXPECT_EQ(cache.Get(Packed(1, 1, 6)).value(), newest);
  // What was forgotten still runs for those who hold it.
  const float a = 3;
  const float b = 5;
  float c = 0;
  ASSERT_TRUE(kept->Run(&a, &b, &c).ok());
  EXPECT_EQ(c, 15);
}

// Several threads want overlapping shapes of a cache that is too small for them, all at once.
TEST(MatmulCache, ServesManyThreads) {
  constexpr int kThreads = 4;
  constexpr std::int64_t kShapes = 6;
  std::vector<Data> inputs;
  std::vector<std::vector<float>> expected;
  MatmulCache alone;
  for (std::int64_t i = 0; i < kShapes; ++i) {
    inputs.push_back(Draw(Packed(16, 16 + i, 32)));
    expected.push_back(inputs.back().c);
    ASSERT_TRUE(
        alone.Run(Packed(16, 16 + i, 32), inputs.back().a.data(), inputs.back().b.data(), expected.back().data()).ok());
  }
  MatmulCache cache(4);
  std::vector<int> wrong(kThreads, 0);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 40; ++round) {
        const auto i = static_cast<std::size_t>((round + t) % kShapes);
        std::vector<float> c(expected[i].size());
        const MatmulShape shape = Packed(16, 16 + static_cast<std::int64_t>(i), 32);
        const bool ran = cache.Run(shape, inputs[i].a.data(), inputs[i].b.data(), c.data()).ok();
        if (!ran || c != expected[i] || cache.size() > 4) ++wrong[static_cast<std::size_t>(t)];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(kThreads, 0));
  EXPECT_EQ(cache.size(), 4U);
}

}  // namespace
}  // namespace headlight
