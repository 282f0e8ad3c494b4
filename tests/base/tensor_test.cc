#include "server/base/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

namespace headlight {
namespace {

constexpr TensorKind kKinds[] = {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16, TensorKind::kBool};
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

TEST(TensorKind, HasItsWidthAndAName) {
  const std::pair<std::int64_t, absl::string_view> expected[] = {{4, "f32"}, {2, "f16"}, {2, "bf16"}, {1, "bool"}};
  for (std::size_t i = 0; i < std::size(kKinds); ++i) {
    EXPECT_EQ(WidthOf(kKinds[i]), expected[i].first);
    EXPECT_EQ(NameOf(kKinds[i]), expected[i].second);
  }
}

TEST(ElementCount, MultipliesTheAxes) {
  EXPECT_EQ(ElementCount({}), 1);
  EXPECT_EQ(ElementCount({7}), 7);
  EXPECT_EQ(ElementCount({2, 3, 64}), 384);
  EXPECT_EQ(ElementCount({1, 1, 1, 1}), 1);
}

TEST(ElementCount, IsZeroWhereAnAxisIsEmptyHoweverLargeTheOthersAre) {
  EXPECT_EQ(ElementCount({0}), 0);
  EXPECT_EQ(ElementCount({5, 0}), 0);
  EXPECT_EQ(ElementCount({kMost, kMost, 0}), 0);
  EXPECT_EQ(ElementCount({0, kMost, kMost}), 0);
}

TEST(ElementCount, KnowsNoCountForANegativeAxis) {
  EXPECT_EQ(ElementCount({-1}), std::nullopt);
  EXPECT_EQ(ElementCount({3, -4}), std::nullopt);
  EXPECT_EQ(ElementCount({-3, -4}), std::nullopt);
  EXPECT_EQ(ElementCount({0, -1}), std::nullopt);
  EXPECT_EQ(ElementCount({std::numeric_limits<std::int64_t>::min()}), std::nullopt);
}

TEST(ElementCount, StopsAtTwoToThe62) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 62;
  EXPECT_EQ(ElementCount({kLargest}), kLargest);
  EXPECT_EQ(ElementCount({std::int64_t{1} << 31, std::int64_t{1} << 31}), kLargest);
  EXPECT_EQ(ElementCount({kLargest, 1, 1}), kLargest);
  EXPECT_EQ(ElementCount({kLargest + 1}), std::nullopt);
  EXPECT_EQ(ElementCount({kLargest, 2}), std::nullopt);
  EXPECT_EQ(ElementCount({std::int64_t{1} << 32, std::int64_t{1} << 32}), std::nullopt);  // 0 if it wrapped
  EXPECT_EQ(ElementCount({kMost}), std::nullopt);
  EXPECT_EQ(ElementCount({kMost, kMost}), std::nullopt);  // 1 if it wrapped
  EXPECT_EQ(ElementCount({kMost, kMost, kMost, kMost}), std::nullopt);
}

TEST(Shape, IsWrittenInBrackets) {
  EXPECT_EQ(ToString(Shape{}), "[]");
  EXPECT_EQ(ToString(Shape{5}), "[5]");
  EXPECT_EQ(ToString(Shape{2, 3, 64}), "[2, 3, 64]");
  EXPECT_EQ(ToString(Shape{-1, kMost}), "[-1, 9223372036854775807]");
}

TEST(UnflattenIndex, CountsLikeNestedLoopsOverTheAxes) {
  const Shape shape = {2, 3, 1, 5};
  std::int64_t flat = 0;
  for (std::int64_t a = 0; a < shape[0]; ++a) {
    for (std::int64_t b = 0; b < shape[1]; ++b) {
      for (std::int64_t d = 0; d < shape[3]; ++d) EXPECT_EQ(UnflattenIndex(flat++, shape), (Shape{a, b, 0, d}));
    }
  }
  EXPECT_EQ(flat, ElementCount(shape));
  EXPECT_EQ(UnflattenIndex(4, {5}), Shape{4});
  EXPECT_EQ(UnflattenIndex(0, {}), Shape{});
}

TEST(UnflattenIndex, FindsElementsBeyondThirtyTwoBits) {
  const Shape shape = {1 << 20, 1 << 20, 3};
  EXPECT_EQ(UnflattenIndex(ElementCount(shape).value() - 1, shape), (Shape{(1 << 20) - 1, (1 << 20) - 1, 2}));
}

TEST(MakeTensor, OwnsZeroedBytesOfItsKindAndViewsThem) {
  for (const TensorKind kind : kKinds) {
    SCOPED_TRACE(NameOf(kind));
    OwnedTensor tensor = MakeTensor(kind, {2, 3});
    EXPECT_EQ(tensor.kind, kind);
    EXPECT_EQ(tensor.shape, (Shape{2, 3}));
    EXPECT_EQ(tensor.bytes, std::string(static_cast<std::size_t>(6 * WidthOf(kind)), '\0'));
    EXPECT_FALSE(tensor.empty());
    const TensorView view = tensor.view();
    EXPECT_EQ(view.kind, kind);
    EXPECT_EQ(view.shape, tensor.shape);
    EXPECT_EQ(static_cast<const void*>(view.data), tensor.bytes.data());
    EXPECT_FALSE(view.empty());
  }
}

TEST(MakeTensor, GivesFloatsThatCanBeWritten) {
  OwnedTensor tensor = MakeTensor(TensorKind::kF32, {3});
  tensor.floats()[2] = 1.5F;
  const OwnedTensor& constant = tensor;
  EXPECT_EQ(constant.floats()[2], 1.5F);
  EXPECT_EQ(constant.floats()[0], 0.0F);
}

TEST(Tensors, AreEmptyBeforeAnythingIsGiven) {
  EXPECT_TRUE(TensorView().empty());
  EXPECT_TRUE(OwnedTensor().empty());
  EXPECT_TRUE(LayerViews().query.empty());
}

TEST(Matrix, StepsFromRowToRowByItsStride) {
  float numbers[12] = {};
  const Matrix<float> matrix{numbers, 3, 2, 4};
  for (std::int64_t r = 0; r < matrix.rows; ++r) EXPECT_EQ(matrix.Row(r), numbers + 4 * r);
}

TEST(CeilDiv, AndRoundUpReachTheNextMultiple) {
  for (std::int64_t a = 0; a < 70; ++a) {
    for (const std::int64_t b : {1, 2, 3, 16, 64}) {
      EXPECT_GE(CeilDiv(a, b) * b, a);
      EXPECT_LT((CeilDiv(a, b) - 1) * b, a);
      EXPECT_EQ(RoundUp(a, b), CeilDiv(a, b) * b);
    }
  }
}

}  // namespace
}  // namespace headlight
