#include "server/service/ablate_heads_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "server/base/errors.h"
#include "tests/service/call_fixture.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

using Vector = std::vector<double>;

Vector NumbersOf(const v1::Tensor& message) {
  OwnedTensor tensor;
  tensor.shape.assign(message.shape().begin(), message.shape().end());
  tensor.kind = message.has_f16_le() ? TensorKind::kF16 : message.has_bf16_le() ? TensorKind::kBF16 : TensorKind::kF32;
  tensor.bytes = message.has_f16_le() ? message.f16_le() : message.has_bf16_le() ? message.bf16_le() : message.f32_le();
  const std::vector<float> numbers = oracle::Floats(tensor);
  return {numbers.begin(), numbers.end()};
}

double Dot(const Vector& a, const Vector& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

void ExpectChange(const v1::OutputChange& got, const Vector& with, const Vector& without) {
  Vector change(with.size());
  std::transform(with.begin(), with.end(), without.begin(), change.begin(), std::minus<>());
  const double relative = std::sqrt(Dot(change, change) / Dot(with, with));
  EXPECT_NEAR(got.relative_l2(), relative, 1e-5 * (1 + relative));
  EXPECT_NEAR(got.cosine(), Dot(with, without) / std::sqrt(Dot(with, with) * Dot(without, without)), 1e-5);
}

// A layer that is sent: grouped heads, biases where there is an output matrix.
struct Sent {
  TensorKind kind = TensorKind::kF32;
  std::int64_t batch = 1, tokens = 70, width = 24, heads = 4, key_value_heads = 2, size = 6, output = 20;
};

class AblateHeadsCallTest : public CallTest {
 protected:
  static v1::AblateHeadsRequest Demo(std::vector<std::uint32_t> heads = {}) {
    v1::AblateHeadsRequest request;
    EncodeTensor(OwnedTensor(GetDemo().embeddings), request.mutable_embeddings());
    request.set_layer("demo");
    request.mutable_heads()->Assign(heads.begin(), heads.end());
    request.set_mode(v1::ABLATION_MODE_ZERO);
    return request;
  }

  static v1::AblateHeadsRequest Of(const Sent& s, std::vector<std::uint32_t> heads) {
    v1::AblateHeadsRequest request;
    std::uint64_t seed = 1;
    const auto make = [&](v1::Tensor* message, const Shape& shape, double scale) {
      std::vector<float> numbers = oracle::Numbers(seed++, ElementCount(shape).value());
      for (float& x : numbers) x = static_cast<float>(x * scale);
      EncodeTensor(oracle::TensorOf(s.kind, shape, numbers), message);
    };
    make(request.mutable_embeddings(), {s.batch, s.tokens, s.width}, 1);
    v1::LayerWeights& w = *request.mutable_layer_weights();
    make(w.mutable_query(), {s.width, s.heads * s.size}, 0.3);
    make(w.mutable_key(), {s.width, s.key_value_heads * s.size}, 0.3);
    make(w.mutable_value(), {s.width, s.key_value_heads * s.size}, 0.3);
    make(w.mutable_value_bias(), {s.key_value_heads * s.size}, 0.5);
    if (s.output > 0) {
      make(w.mutable_output(), {s.heads * s.size, s.output}, 0.3);
      make(w.mutable_output_bias(), {s.output}, 0.5);
    }
    request.mutable_options()->set_query_heads(static_cast<std::uint32_t>(s.heads));
    request.mutable_options()->set_key_value_heads(static_cast<std::uint32_t>(s.key_value_heads));
    request.mutable_heads()->Assign(heads.begin(), heads.end());
    request.set_mode(v1::ABLATION_MODE_ZERO);
    return request;
  }

  v1::AblateHeadsResponse Ablate(const v1::AblateHeadsRequest& request) {
    AblateHeadsCall call(shared_);
    v1::AblateHeadsResponse response;
    const absl::Status status = Run(call, request, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response;
  }

  // What Attend makes of the same, with the gains of some heads at 0.
  v1::Tensor Attend(const v1::AblateHeadsRequest& request, std::vector<std::uint32_t> off) {
    v1::AttendRequest attend;
    *attend.mutable_self_attention()->mutable_embeddings() = request.embeddings();
    if (request.has_layer_weights()) {
      *attend.mutable_self_attention()->mutable_layer_weights() = request.layer_weights();
    } else {
      attend.mutable_self_attention()->set_layer(request.layer());
    }
    *attend.mutable_options() = request.options();
    if (!off.empty()) {
      const std::uint32_t heads = request.has_layer_weights() ? request.options().query_heads() : 3;
      for (std::uint32_t h = 0; h < heads; ++h) {
        attend.mutable_options()->add_head_gains(std::find(off.begin(), off.end(), h) == off.end() ? 1 : 0);
      }
    }
    AttendCall call(shared_);
    v1::AttendResponse response;
    const absl::Status status = Run(call, attend, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response.output();
  }

  absl::Status Refusal(const v1::AblateHeadsRequest& request) {
    AblateHeadsCall call(shared_);
    absl::Status status = call.Accept(request, absl::InfiniteFuture());
    return status.ok() ? Compute(call) : status;
  }
};

std::vector<std::string> FieldsOf(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const Violation& v : DetailsOf(status).violations) fields.push_back(v.field);
  return fields;
}

TEST_F(AblateHeadsCallTest, TheDemoWithoutAHead) {
  const v1::AblateHeadsResponse answer = Ablate(Demo({1}));
  EXPECT_THAT(answer.output().shape(), ElementsAre(10, 16));
  EXPECT_EQ(answer.losses_size(), 3);
  EXPECT_EQ(answer.redundancy_size(), 3);
  EXPECT_EQ(answer.layer(), "demo");
  EXPECT_EQ(answer.layer_id(), GetDemo().layer.facts().id);
  EXPECT_EQ(answer.execution().query_heads(), 3U);
  EXPECT_FALSE(answer.has_mean_contribution());
  // The same numbers, summed in another order.
  EXPECT_NEAR(answer.change().relative_l2(), answer.losses(1).change().relative_l2(), 1e-15);
  // All heads gone: nothing is left.
  EXPECT_NEAR(answer.redundancy(2).change().relative_l2(), 1, 1e-6);
}

TEST_F(AblateHeadsCallTest, ZeroIsAttendWithGainsOfZeroBitByBit) {
  for (const v1::Algorithm algorithm : {v1::ALGORITHM_NAIVE, v1::ALGORITHM_FLASH}) {
    for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16}) {
      for (const std::int64_t output : {20, 0}) {
        for (const std::vector<std::uint32_t>& off : {std::vector<std::uint32_t>{}, {2}, {3, 0, 1}, {0, 1, 2, 3}}) {
          v1::AblateHeadsRequest request = Of({.kind = kind, .batch = 2, .output = output}, off);
          request.mutable_options()->set_algorithm(algorithm);
          request.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
          EXPECT_EQ(Ablate(request).output().SerializeAsString(), Attend(request, off).SerializeAsString())
              << NameOf(kind) << " " << output << " " << off.size();
        }
      }
    }
  }
  EXPECT_EQ(Ablate(Demo({0, 2})).output().f32_le(), Attend(Demo(), {0, 2}).f32_le());
  v1::AblateHeadsRequest rounded = Of({}, {1});
  rounded.mutable_options()->set_precision(v1::COMPUTE_PRECISION_BFLOAT16);
  EXPECT_EQ(Ablate(rounded).output().f32_le(), Attend(rounded, {1}).f32_le());
}

TEST_F(AblateHeadsCallTest, LossesAreThoseThatAttendShows) {
  for (const std::int64_t output : {20, 0}) {
    const v1::AblateHeadsRequest request = Of({.batch = 2, .output = output}, {1, 3});
    const v1::AblateHeadsResponse answer = Ablate(request);
    const Vector with = NumbersOf(Attend(request, {}));
    ExpectChange(answer.change(), with, NumbersOf(answer.output()));
    ASSERT_EQ(answer.losses_size(), 4);
    for (std::uint32_t h = 0; h < 4; ++h) {
      EXPECT_EQ(answer.losses(static_cast<int>(h)).head(), h);
      ExpectChange(answer.losses(static_cast<int>(h)).change(), with, NumbersOf(Attend(request, {h})));
    }
  }
}

TEST_F(AblateHeadsCallTest, RedundancyIsTheGreedyOrderOfAttendsOutputs) {
  const v1::AblateHeadsRequest request = Of({}, {});
  const v1::AblateHeadsResponse answer = Ablate(request);
  const Vector with = NumbersOf(Attend(request, {}));
  const auto distance = [&](const std::vector<std::uint32_t>& off) {
    Vector change = NumbersOf(Attend(request, off));
    std::transform(with.begin(), with.end(), change.begin(), change.begin(), std::minus<>());
    return Dot(change, change);
  };
  std::vector<std::uint32_t> gone;
  ASSERT_EQ(answer.redundancy_size(), 4);
  for (const v1::RedundancyStep& step : answer.redundancy()) {
    double least = std::numeric_limits<double>::infinity();
    std::uint32_t best = 0;
    for (std::uint32_t h = 0; h < 4; ++h) {
      std::vector<std::uint32_t> off = gone;
      if (std::find(gone.begin(), gone.end(), h) != gone.end()) continue;
      off.push_back(h);
      if (const double d = distance(off); d < least) {
        least = d;
        best = h;
      }
    }
    EXPECT_EQ(step.head(), best);
    gone.push_back(best);
    ExpectChange(step.change(), with, NumbersOf(Attend(request, gone)));
  }
}

TEST_F(AblateHeadsCallTest, MeansStandInTheHeadsPlaces) {
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16}) {
    v1::AblateHeadsRequest request = Of({.kind = kind, .batch = 2}, {0, 2});
    request.set_mode(v1::ABLATION_MODE_MEAN);
    const v1::AblateHeadsResponse answer = Ablate(request);
    EXPECT_THAT(answer.mean_contribution().shape(), ElementsAre(20));
    EXPECT_TRUE(answer.mean_contribution().has_f32_le());
    const Vector zero = NumbersOf(Attend(request, {0, 2}));
    const Vector shift = NumbersOf(answer.mean_contribution());
    const Vector got = NumbersOf(answer.output());
    ASSERT_EQ(got.size(), zero.size());
    const double half_ulp = kind == TensorKind::kF32 ? 0 : kind == TensorKind::kF16 ? 0x1p-11 : 0x1p-8;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double bound = 2e-6 + half_ulp * (std::fabs(zero[i]) + std::fabs(got[i]));
      ASSERT_NEAR(got[i], zero[i] + shift[i % 20], bound) << i;
    }
    // The mean of all rows stays as it was.
    const Vector with = NumbersOf(Attend(request, {}));
    for (std::size_t c = 0; c < 20; ++c) {
      double sum = 0;
      for (std::size_t i = c; i < got.size(); i += 20) sum += got[i] - with[i];
      EXPECT_NEAR(sum / 140, 0, kind == TensorKind::kF32 ? 1e-6 : 2e-3);
    }
    if (kind == TensorKind::kF32) ExpectChange(answer.change(), with, got);
  }
  v1::AblateHeadsRequest none = Of({}, {});
  none.set_mode(v1::ABLATION_MODE_MEAN);
  EXPECT_EQ(Ablate(none).output().f32_le(), Attend(none, {}).f32_le());
  EXPECT_EQ(NumbersOf(Ablate(none).mean_contribution()), Vector(20));
}

TEST_F(AblateHeadsCallTest, TheSameBytesWithOneWorkerAndTwo) {
  const v1::AblateHeadsRequest request = Of({.batch = 3}, {0, 2});
  v1::AblateHeadsResponse two = Ablate(request);
  ComputePool one_worker(1);
  Shared alone{limits_, one_worker, matmuls_, memory_, metrics_, call_log_, admission_, layers_, open_calls_};
  AblateHeadsCall call(alone);
  v1::AblateHeadsResponse one;
  ASSERT_TRUE(Run(call, request, &one).ok());
  EXPECT_EQ(one.execution().workers(), 1U);
  one.clear_execution();
  two.clear_execution();
  EXPECT_EQ(one.SerializeAsString(), two.SerializeAsString());
}

TEST_F(AblateHeadsCallTest, TellsAllThatIsWrongAtOnce) {
  v1::AblateHeadsRequest request = Demo({0, 3, 0});
  request.clear_mode();
  request.mutable_options()->add_head_gains(1);
  request.mutable_options()->set_allow_non_finite(true);
  request.mutable_options()->set_softcap(-1);
  const absl::Status status = Refusal(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  // One gain for three heads is what the problem's own check sees.
  EXPECT_THAT(FieldsOf(status),
              UnorderedElementsAre("mode", "heads[1]", "heads[2]", "options.head_gains", "options.allow_non_finite",
                                   "options.softcap", "options.head_gains"));
  EXPECT_EQ(FieldsOf(Refusal(Demo({0, 1, 2, 0}))), std::vector<std::string>{"heads"});
}

TEST_F(AblateHeadsCallTest, PathsAreThoseOfThisRequest) {
  v1::AblateHeadsRequest narrow = Demo();
  narrow.mutable_embeddings()->set_shape(1, 8);
  EXPECT_THAT(FieldsOf(Refusal(narrow)), ElementsAre("embeddings.data", "embeddings.shape"));
  v1::AblateHeadsRequest wrong = Of({}, {5});
  wrong.mutable_layer_weights()->mutable_query()->set_shape(0, 23);
  EXPECT_THAT(FieldsOf(Refusal(wrong)),
              ElementsAre("heads[0]", "layer_weights.query.data", "layer_weights.query.shape"));
  EXPECT_THAT(FieldsOf(Refusal(v1::AblateHeadsRequest())), UnorderedElementsAre("mode", "embeddings.shape", "layer"));
  v1::AblateHeadsRequest unknown = Demo();
  unknown.set_layer("nobody's");
  EXPECT_EQ(Refusal(unknown).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Refusal(unknown).message().substr(0, 6), "layer:");
  EXPECT_EQ(DetailsOf(Refusal(unknown)).metadata["layer"], "nobody's");
  // Values are looked at by the workers.
  v1::AblateHeadsRequest nan = Demo();
  const float bad = std::nanf("");
  std::memcpy(nan.mutable_embeddings()->mutable_f32_le()->data(), &bad, sizeof(bad));
  EXPECT_THAT(FieldsOf(Refusal(nan)), ElementsAre("embeddings"));
}

TEST_F(AblateHeadsCallTest, LimitsAreKeptBeforeAnythingIsAllocated) {
  const v1::AblateHeadsRequest request = Of({.batch = 2}, {1});
  limits_.max_response_bytes = 2 * 70 * 20 * 4;
  EXPECT_EQ(DetailsOf(Refusal(request)).reason, ErrorReason::kResponseTooLarge);
  EXPECT_THAT(FieldsOf(Refusal(request)), ElementsAre("embeddings"));
  limits_.max_response_bytes = std::int64_t{1} << 28;
  limits_.max_flops = 1'700'000;  // attention alone takes less
  EXPECT_EQ(DetailsOf(Refusal(request)).reason, ErrorReason::kRequestTooExpensive);
  limits_.max_flops = std::int64_t{1} << 40;
  limits_.max_workspace_bytes = 200'000;
  EXPECT_EQ(DetailsOf(Refusal(request)).reason, ErrorReason::kRequestTooExpensive);
  EXPECT_EQ(memory_.peak(), 0);
  EXPECT_EQ(admission_.calls(), 0);
}

TEST_F(AblateHeadsCallTest, GivesBackItsPlaceAndItsMemory) {
  const v1::AblateHeadsRequest request = Of({.batch = 2}, {1});
  {
    AblateHeadsCall call(shared_);
    ASSERT_TRUE(call.Accept(request, absl::InfiniteFuture()).ok());
    EXPECT_EQ(admission_.calls(), 1);
    call.control()->Cancel();
    EXPECT_EQ(Compute(call).code(), absl::StatusCode::kCancelled);
  }
  Ablate(request);
  EXPECT_EQ(admission_.calls(), 0);
  EXPECT_EQ(memory_.now(), 0);
}

}  // namespace
}  // namespace headlight
