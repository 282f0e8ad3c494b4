#include "client/cli/explain.h"

#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

TEST(Explain, PlanOfAServerThatForecasts) {
  v1::PlanAttentionResponse plan;
  plan.set_algorithm(v1::ALGORITHM_NAIVE);
  plan.set_reason("asked\x1b for");
  plan.set_query_heads(1);
  plan.set_key_value_heads(1);
  plan.mutable_predicted()->set_nanos(250'000'000);
  plan.set_admission(v1::ADMISSION_FORECAST_QUEUED);
  EXPECT_EQ(PlanText(plan),
            "plan       naive (asked? for)\n"
            "heads      1 query head over 1 key/value head, size 0, values of size 0\n"
            "work       0 GFLOP, of them 0 GFLOP for projections\n"
            "naive      0 B of workspace\n"
            "flash      0 B of workspace\n"
            "full grid  0 B of scores\n"
            "answer     at most 0 B\n"
            "time       250.0 ms\n"
            "admission  would wait\n");
}

TEST(Explain, ConventionsInWords) {
  v1::Execution execution;
  execution.set_algorithm(v1::ALGORITHM_FLASH);
  execution.set_algorithm_reason("asked for");
  execution.set_precision(v1::COMPUTE_PRECISION_BFLOAT16);
  execution.set_cpu_target("avx512");
  execution.set_query_heads(8);
  execution.set_key_value_heads(2);
  execution.set_head_size(64);
  execution.set_value_head_size(32);
  execution.set_scale(0.125);
  execution.set_softcap(30);
  execution.set_softcap_order("before_bias");
  execution.set_position_scheme("rotary");
  execution.set_causal_alignment(v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT);
  execution.set_window_alignment(v1::CAUSAL_ALIGNMENT_EXPLICIT);
  execution.set_boolean_mask("true_attends");
  execution.set_non_finite("ieee");
  EXPECT_EQ(ConventionsText(execution),
            "conventions\n"
            "algorithm    flash (asked for)\n"
            "precision    bfloat16\n"
            "cpu target   avx512\n"
            "heads        8 query heads over 2 key/value heads, size 64, values of size 32\n"
            "scale        0.125 on Q K^T\n"
            "softcap      30, before_bias: ahead of ALiBi, the mask and the rules\n"
            "positions    rotary: turn Q and K\n"
            "causal mask  bottom-right: the last row stands at the last key\n"
            "window mask  explicit: row i stands at key i + offset\n"
            "boolean mask true_attends: true means that the pair may attend\n"
            "non-finite   ieee: NaN and infinity follow IEEE rules where a row sees them\n");
}

// What a newer or an older server says is told as it is.
TEST(Explain, ConventionsOfAnotherVersion) {
  v1::Execution execution;
  execution.set_position_scheme("spiral\n");
  const std::string text = ConventionsText(execution);
  EXPECT_TRUE(absl::StrContains(text, "positions    spiral?\n")) << text;
  EXPECT_TRUE(absl::StrContains(text, "softcap      none\n"));
  EXPECT_TRUE(absl::StrContains(text, "causal mask  none: later keys are seen\n"));
  EXPECT_TRUE(absl::StrContains(text, "non-finite   the server does not say\n"));
}

v1::WeightMap* AddTop(std::uint32_t index, std::uint32_t head, std::uint32_t key, v1::AttendResponse* response) {
  v1::WeightMap* map = response->add_maps();
  map->set_request_index(index);
  map->set_head(head);
  map->set_stage(v1::MAP_STAGE_WEIGHTS);
  map->set_row_end(1);
  map->mutable_top_keys()->add_counts(1);
  map->mutable_top_keys()->add_keys(key);
  map->mutable_top_keys()->add_weights(0.8F);
  return map;
}

TEST(Explain, SentencesByHeadAndOnce) {
  v1::AttendRequest request;
  request.add_tokens("it");
  request.mutable_outputs()->add_maps()->mutable_top_keys();
  v1::RowRange* keys = request.mutable_outputs()->add_maps()->mutable_keys();
  keys->set_begin(2);
  keys->set_end(5);
  v1::AttendResponse response;
  AddTop(0, 0, 3, &response);
  AddTop(1, 0, 4, &response);  // told already
  AddTop(1, 1, 4, &response);
  AddTop(9, 2, 4, &response);  // nobody asked
  EXPECT_EQ(SentencesText(request, response).value(),
            "batch 0, head 0\nit attends most to 3 (0.80)\n\n"
            "batch 0, head 1, among keys 2..4\nit attends most to 4 (0.80)\n\n"
            "batch 0, head 2\nit attends most to 4 (0.80)\n");
}

TEST(Explain, SentencesNeedWeights) {
  v1::AttendResponse response;
  AddTop(0, 0, 3, &response)->set_stage(v1::MAP_STAGE_SCALED);
  EXPECT_EQ(SentencesText({}, response).value(),
            "no sentences: they need a full map or top keys of the weights (--maps)\n");
  AddTop(0, 0, 3, &response)->mutable_top_keys()->add_counts(5);
  EXPECT_FALSE(SentencesText({}, response).ok());
}

}  // namespace
}  // namespace headlight::cli
