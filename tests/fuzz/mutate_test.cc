#include "tests/fuzz/mutate.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "server/service/decode.h"
#include "tests/support/oracle.h"

namespace headlight::fuzz {
namespace {

v1::AttendRequest Request() {
  v1::AttendRequest request;
  v1::QueryKeyValue& given = *request.mutable_query_key_value();
  for (v1::Tensor* tensor : {given.mutable_query(), given.mutable_key(), given.mutable_value()}) {
    for (const std::int64_t size : {1, 2, 5, 4}) tensor->add_shape(size);
    tensor->set_f32_le(oracle::TensorOf(TensorKind::kF32, {1, 2, 5, 4}, oracle::Numbers(1, 40)).bytes);
  }
  request.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  return request;
}

TEST(Mutate, TheSameSeedDoesTheSame) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    v1::AttendRequest one = Request();
    v1::AttendRequest two = Request();
    Mutate(seed, one);
    Mutate(seed, two);
    EXPECT_EQ(one.SerializeAsString(), two.SerializeAsString());
  }
}

TEST(Mutate, MakesManyRequestsOfWhichSomeAreSaneAndSomeAreNot) {
  std::set<std::string> made;
  int sane = 0;
  for (std::uint32_t seed = 0; seed < 1000; ++seed) {
    v1::AttendRequest request = Request();
    Mutate(seed, request);
    made.insert(request.SerializeAsString());
    if (CheckProblem(Decode(request, LayerStore()).request, Limits()).ok()) ++sane;
  }
  EXPECT_GT(made.size(), 700U);
  EXPECT_GT(sane, 200);
  EXPECT_LT(sane, 800);
}

TEST(CrossOver, PutsAPartInThePlaceOfAnother) {
  v1::AttendRequest other = Request();
  other.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT);
  int taken = 0;
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    v1::AttendRequest request = Request();
    CrossOver(seed, other, request);
    if (request.options().mask().causal().alignment() == v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT) ++taken;
  }
  EXPECT_GT(taken, 10);
}

}  // namespace
}  // namespace headlight::fuzz
