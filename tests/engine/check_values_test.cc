#include "server/engine/check_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "server/base/errors.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Bound;
using oracle::Problem;
using oracle::RunEngine;
using testing::HasSubstr;

// The violations of a run that must fail.
std::vector<Violation> Refused(const Bound& bound) {
  const auto ran = RunEngine(bound, Algorithm::kFlash);
  EXPECT_EQ(ran.status().code(), absl::StatusCode::kInvalidArgument) << ran.status();
  return DetailsOf(ran.status()).violations;
}

void Put(OwnedTensor& tensor, std::int64_t flat, float value) { tensor.floats()[flat] = value; }

TEST(CheckValues, NamesEveryTensorAndItsFirstIndexPerAxis) {
  Problem p;  // B 1, H 2, T 17, D 16
  const auto bound = Bind(p);
  Put(bound->query, (1 * 17 + 3) * 16 + 5, NAN);
  Put(bound->query, (1 * 17 + 3) * 16 + 6, NAN);
  Put(bound->value, 2 * 16 + 1, -INFINITY);
  const std::vector<Violation> violations = Refused(*bound);
  ASSERT_EQ(violations.size(), 2);
  EXPECT_EQ(violations[0].field, "query_key_value.query");
  EXPECT_THAT(violations[0].got, HasSubstr("[0, 1, 3, 5]"));
  EXPECT_EQ(violations[1].field, "query_key_value.value");
  EXPECT_THAT(violations[1].got, HasSubstr("-inf at [0, 0, 2, 1]"));
}

TEST(CheckValues, FindsTheFirstInALargeTensorWhoeverLooksWhere) {
  Problem p;
  p.tq = 9000;
  p.tk = 3;
  p.d = 32;
  const auto bound = Bind(p);
  Put(bound->query, 300000, INFINITY);
  Put(bound->query, 570001, NAN);
  const std::vector<Violation> violations = Refused(*bound);
  ASSERT_EQ(violations.size(), 1);
  EXPECT_THAT(violations[0].got, HasSubstr(ToString(UnflattenIndex(300000, bound->query.shape))));
}

TEST(CheckValues, SixteenBitTensorsAndWeights) {
  for (const TensorKind kind : {TensorKind::kF16, TensorKind::kBF16}) {
    Problem p;
    p.e = 24;
    p.eo = 8;
    p.biases = true;
    p.kind = kind;
    const auto bound = Bind(p);
    bound->wk.bytes[2 * 7 + 1] = 0x7f;  // infinity or NaN in either kind
    bound->wk.bytes[2 * 7] = static_cast<char>(0xff);
    bound->bo.bytes[2 * 3 + 1] = 0x7f;
    bound->bo.bytes[2 * 3] = static_cast<char>(0xff);
    const std::vector<Violation> violations = Refused(*bound);
    ASSERT_EQ(violations.size(), 2);
    EXPECT_EQ(violations[0].field, "self_attention.layer_weights.key");
    EXPECT_THAT(violations[0].got, HasSubstr("[0, 7]"));
    EXPECT_EQ(violations[1].field, "self_attention.layer_weights.output_bias");
  }
}

TEST(CheckValues, MasksMayHoldMinusInfinityAndNothingElse) {
  for (const float value : {NAN, INFINITY}) {
    Problem p;
    p.mask_kind = TensorKind::kF32;
    p.mask_shape = {17, 17};
    p.mask.assign(17 * 17, -INFINITY);
    p.mask[20] = value;
    const auto bound = Bind(p);
    const std::vector<Violation> violations = Refused(*bound);
    ASSERT_EQ(violations.size(), 1);
    EXPECT_EQ(violations[0].field, "options.mask.tensor");
    EXPECT_THAT(violations[0].got, HasSubstr("[1, 3]"));
    Put(bound->mask, 20, 0);
    EXPECT_TRUE(RunEngine(*bound, Algorithm::kNaive).ok());
  }
}

TEST(CheckValues, BooleanBytesAreZeroOrOne) {
  Problem p;
  p.mask_kind = TensorKind::kBool;
  p.mask_shape = {17};
  p.mask.assign(17, 1);
  const auto bound = Bind(p);
  bound->mask.bytes[4] = 2;
  const std::vector<Violation> violations = Refused(*bound);
  ASSERT_EQ(violations.size(), 1);
  EXPECT_THAT(violations[0].got, HasSubstr("2 at [4]"));
}

TEST(CheckValues, KeysBeyondTheLengthsAreNeverRead) {
  for (const int rank : {4, 3}) {
    Problem p;
    p.b = 2;
    p.rank = rank;
    p.key_lengths = {5, 17};
    p.outputs.log_sum_exp = true;
    const auto bound = Bind(p);
    const oracle::Exact exact = oracle::Solve(*bound);
    // Batch 0, token 5, whatever the layout: the last token's run ends where batch 1 begins.
    const std::int64_t batch = 2 * 17 * 16;
    Put(bound->key, batch - 1, NAN);
    Put(bound->value, rank == 4 ? 5 * 16 : 5 * 32, INFINITY);
    for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
      const auto ran = RunEngine(*bound, algorithm);
      ASSERT_TRUE(ran.ok()) << ran.status();
      EXPECT_EQ(oracle::Compare(oracle::Floats((*ran)->result.output), exact.output), "");
    }
    Put(bound->key, batch, NAN);
    EXPECT_EQ(Refused(*bound).size(), 1);
  }
}

}  // namespace
}  // namespace headlight
