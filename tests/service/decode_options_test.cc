#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "server/base/errors.h"
#include "server/service/decode.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

using Change = std::function<void(v1::AttendRequest&)>;

// A request with an input and what `change` sets.
DecodedCall DecodeWith(const Change& change) {
  v1::AttendRequest message;
  message.mutable_query_key_value();
  change(message);
  return Decode(message, LayerStore());
}

DecodedCall DecodeOptionsWith(const std::function<void(v1::AttentionOptions&)>& change) {
  return DecodeWith([&change](v1::AttendRequest& message) { change(*message.mutable_options()); });
}

DecodedCall DecodeOutputsWith(const std::function<void(v1::OutputSelection&)>& change) {
  return DecodeWith([&change](v1::AttendRequest& message) { change(*message.mutable_outputs()); });
}

std::vector<Violation> ViolationsOf(const DecodedCall& call) {
  return DetailsOf(call.request.violations.ToStatus()).violations;
}

void ExpectOneViolation(const DecodedCall& call, const std::string& field, const std::string& got) {
  const std::vector<Violation> violations = ViolationsOf(call);
  ASSERT_EQ(violations.size(), 1U) << field;
  EXPECT_EQ(violations[0].field, field);
  EXPECT_EQ(violations[0].got, got);
  EXPECT_FALSE(violations[0].expected.empty());
}

TEST(DecodeOptions, NothingGivenIsNothingAskedFor) {
  const ProblemRequest request = DecodeWith([](v1::AttendRequest&) {}).request;
  EXPECT_EQ(request.query_heads, 0);
  EXPECT_EQ(request.key_value_heads, 0);
  EXPECT_EQ(request.head_size, 0);
  EXPECT_EQ(request.position.kind, PositionKind::kNone);
  EXPECT_FALSE(request.position.query_offset.has_value());
  EXPECT_FALSE(request.position.key_offset.has_value());
  EXPECT_FALSE(request.mask.causal.has_value());
  EXPECT_FALSE(request.mask.tensor.has_value());
  EXPECT_THAT(request.mask.key_lengths, IsEmpty());
  EXPECT_FALSE(request.scale.has_value());
  EXPECT_FALSE(request.algorithm.has_value());
  EXPECT_FALSE(request.outputs.omit_output);
  EXPECT_FALSE(request.outputs.kind.has_value());
  EXPECT_THAT(request.outputs.maps, IsEmpty());
  EXPECT_TRUE(request.violations.empty());
}

TEST(DecodeOptions, HeadsAreNotCutToFewerBits) {
  const ProblemRequest request = DecodeOptionsWith([](v1::AttentionOptions& options) {
                                   options.set_query_heads(0xFFFFFFFFU);
                                   options.set_key_value_heads(0x80000000U);
                                   options.set_head_size(7);
                                 }).request;
  EXPECT_EQ(request.query_heads, 4294967295);
  EXPECT_EQ(request.key_value_heads, 2147483648);
  EXPECT_EQ(request.head_size, 7);
}

TEST(DecodeOptions, AnOffsetAndAScaleOfZeroAreGiven) {
  const ProblemRequest request =
      DecodeOptionsWith([](v1::AttentionOptions& options) {
        options.set_scale(0);
        options.mutable_position()->set_query_offset(0);
        options.mutable_position()->set_key_offset(-3);
        options.mutable_mask()->mutable_causal()->set_offset(0);
        options.mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_EXPLICIT);
      }).request;
  EXPECT_EQ(request.scale, 0.0);
  EXPECT_EQ(request.position.query_offset, 0);
  EXPECT_EQ(request.position.key_offset, -3);
  ASSERT_TRUE(request.mask.causal.has_value());
  EXPECT_EQ(request.mask.causal->offset, 0);
}

TEST(DecodeOptions, EveryAlgorithm) {
  const auto algorithm = [](int number) {
    return DecodeOptionsWith(
        [number](v1::AttentionOptions& options) { options.set_algorithm(static_cast<v1::Algorithm>(number)); });
  };
  EXPECT_FALSE(algorithm(v1::ALGORITHM_UNSPECIFIED).request.algorithm.has_value());
  EXPECT_EQ(algorithm(v1::ALGORITHM_NAIVE).request.algorithm, Algorithm::kNaive);
  EXPECT_EQ(algorithm(v1::ALGORITHM_FLASH).request.algorithm, Algorithm::kFlash);
  ExpectOneViolation(algorithm(3), "options.algorithm", "number 3");
  ExpectOneViolation(algorithm(-1), "options.algorithm", "number -1");
}

TEST(DecodeOptions, EveryAlignment) {
  const auto alignment = [](int number) {
    return DecodeOptionsWith([number](v1::AttentionOptions& options) {
      options.mutable_mask()->mutable_causal()->set_alignment(static_cast<v1::CausalAlignment>(number));
    });
  };
  EXPECT_EQ(alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT).request.mask.causal->alignment, CausalAlignment::kTopLeft);
  EXPECT_EQ(alignment(v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT).request.mask.causal->alignment, CausalAlignment::kBottomRight);
  EXPECT_EQ(alignment(v1::CAUSAL_ALIGNMENT_EXPLICIT).request.mask.causal->alignment, CausalAlignment::kExplicit);
  ExpectOneViolation(alignment(0), "options.mask.causal.alignment", "UNSPECIFIED");
  ExpectOneViolation(alignment(44), "options.mask.causal.alignment", "number 44");
  EXPECT_TRUE(alignment(44).request.mask.causal.has_value());
}

TEST(DecodeOptions, EveryLayout) {
  const auto rotary = [](int number) {
    return DecodeOptionsWith([number](v1::AttentionOptions& options) {
      options.mutable_position()->mutable_rotary()->set_layout(static_cast<v1::ChannelLayout>(number));
    });
  };
  EXPECT_EQ(rotary(v1::CHANNEL_LAYOUT_HALVES).request.position.layout, ChannelLayout::kHalves);
  EXPECT_EQ(rotary(v1::CHANNEL_LAYOUT_INTERLEAVED).request.position.layout, ChannelLayout::kInterleaved);
  ExpectOneViolation(rotary(0), "options.position.rotary.layout", "UNSPECIFIED");
  ExpectOneViolation(rotary(-7), "options.position.rotary.layout", "number -7");
  const auto sinusoidal = [](v1::AttentionOptions& options) { options.mutable_position()->mutable_sinusoidal(); };
  ExpectOneViolation(DecodeOptionsWith(sinusoidal), "options.position.sinusoidal.layout", "UNSPECIFIED");
}

TEST(DecodeOptions, EveryScheme) {
  const auto scheme = [](const std::function<void(v1::PositionScheme&)>& change) {
    return DecodeOptionsWith([&change](v1::AttentionOptions& options) { change(*options.mutable_position()); })
        .request.position;
  };
  EXPECT_EQ(scheme([](v1::PositionScheme& p) { p.mutable_none(); }).kind, PositionKind::kNone);
  const PositionForm sinusoidal = scheme([](v1::PositionScheme& p) {
    p.mutable_sinusoidal()->set_base(0);
    p.mutable_sinusoidal()->set_layout(v1::CHANNEL_LAYOUT_HALVES);
  });
  EXPECT_EQ(sinusoidal.kind, PositionKind::kSinusoidal);
  EXPECT_EQ(sinusoidal.base, 0.0);
  EXPECT_EQ(sinusoidal.layout, ChannelLayout::kHalves);
  const PositionForm rotary = scheme([](v1::PositionScheme& p) {
    p.mutable_rotary()->set_rotary_size(0xFFFFFFFFU);
    p.mutable_rotary()->set_layout(v1::CHANNEL_LAYOUT_HALVES);
  });
  EXPECT_EQ(rotary.kind, PositionKind::kRotary);
  EXPECT_EQ(rotary.rotary_size, 4294967295);
  EXPECT_FALSE(rotary.base.has_value());
  const PositionForm alibi = scheme([](v1::PositionScheme& p) { p.mutable_alibi()->add_slopes(0.5F); });
  EXPECT_EQ(alibi.kind, PositionKind::kAlibi);
  EXPECT_THAT(alibi.slopes, ElementsAre(0.5F));
  EXPECT_FALSE(scheme([](v1::PositionScheme& p) { p.mutable_learned(); }).table.has_value());
}

TEST(DecodeOptions, TheTableAndTheMaskAreBorrowed) {
  v1::AttendRequest message;
  message.mutable_query_key_value();
  v1::Tensor& table = *message.mutable_options()->mutable_position()->mutable_learned()->mutable_table();
  table.add_shape(2);
  table.set_f32_le(std::string(8, 'x'));
  v1::Mask& mask = *message.mutable_options()->mutable_mask();
  mask.mutable_tensor()->add_shape(3);
  mask.mutable_tensor()->set_bool_u8("\x01\x00\x01");
  for (const std::int64_t length : {4, -1}) mask.add_key_lengths(length);
  const DecodedCall call = Decode(message, LayerStore());
  EXPECT_EQ(call.request.position.table->payload_bytes, 8);
  EXPECT_EQ(reinterpret_cast<const char*>(call.data.position_table.data), table.f32_le().data());
  EXPECT_EQ(call.request.mask.tensor->kind, TensorKind::kBool);
  EXPECT_EQ(reinterpret_cast<const char*>(call.data.mask.data), mask.tensor().bool_u8().data());
  EXPECT_THAT(call.request.mask.key_lengths, ElementsAre(4, -1));
}

TEST(DecodeOutputs, EveryKind) {
  const auto kind = [](int number) {
    return DecodeOutputsWith(
        [number](v1::OutputSelection& outputs) { outputs.set_tensor_kind(static_cast<v1::TensorKind>(number)); });
  };
  EXPECT_FALSE(kind(v1::TENSOR_KIND_UNSPECIFIED).request.outputs.kind.has_value());
  EXPECT_EQ(kind(v1::TENSOR_KIND_F32).request.outputs.kind, TensorKind::kF32);
  EXPECT_EQ(kind(v1::TENSOR_KIND_F16).request.outputs.kind, TensorKind::kF16);
  EXPECT_EQ(kind(v1::TENSOR_KIND_BF16).request.outputs.kind, TensorKind::kBF16);
  EXPECT_EQ(kind(v1::TENSOR_KIND_BOOL).request.outputs.kind, TensorKind::kBool);
  ExpectOneViolation(kind(99), "outputs.tensor_kind", "number 99");
}

TEST(DecodeOutputs, AMapWithAllItSelects) {
  const ProblemRequest request = DecodeOutputsWith([](v1::OutputSelection& outputs) {
                                   outputs.add_maps()->mutable_full();
                                   v1::WeightMaps& map = *outputs.add_maps();
                                   map.add_heads(3);
                                   map.add_heads(0xFFFFFFFFU);
                                   map.add_batches(1);
                                   map.add_rows()->set_end(-2);
                                   map.mutable_keys()->set_begin(5);
                                   map.mutable_top_keys()->set_k(0);
                                   map.set_stage(v1::MAP_STAGE_WEIGHTS);
                                 }).request;
  ASSERT_EQ(request.outputs.maps.size(), 2U);
  EXPECT_FALSE(request.outputs.maps[0].top_k.has_value());
  EXPECT_FALSE(request.outputs.maps[0].keys.has_value());
  const MapForm& map = request.outputs.maps[1];
  EXPECT_THAT(map.heads, ElementsAre(3, 4294967295));
  EXPECT_THAT(map.batches, ElementsAre(1));
  ASSERT_EQ(map.rows.size(), 1U);
  EXPECT_EQ(map.rows[0].end, -2);
  EXPECT_EQ(map.keys->begin, 5);
  EXPECT_EQ(map.top_k, 0);
  EXPECT_TRUE(request.violations.empty());
}

TEST(DecodeOutputs, AMapNeedsAFormAndAKnownStage) {
  const auto form = [](v1::OutputSelection& outputs) {
    outputs.add_maps()->mutable_full();
    outputs.add_maps();
  };
  ExpectOneViolation(DecodeOutputsWith(form), "outputs.maps[1].form", "nothing");
  const auto stage = [](v1::OutputSelection& outputs) {
    outputs.add_maps()->mutable_full();
    outputs.mutable_maps(0)->set_stage(static_cast<v1::MapStage>(70));
  };
  ExpectOneViolation(DecodeOutputsWith(stage), "outputs.maps[0].stage", "number 70");
}

TEST(DecodeOutputs, ManyMapsAreNotReadButStillTooMany) {
  const DecodedCall call = DecodeOutputsWith([](v1::OutputSelection& outputs) {
    for (int i = 0; i < 100'000; ++i) outputs.add_maps();
  });
  EXPECT_GT(call.request.outputs.maps.size(), 8U);
  EXPECT_LE(call.request.outputs.maps.size(), 64U);
}

TEST(DecodeOutputs, FlagsAndTheLimit) {
  const OutputsForm outputs = DecodeOutputsWith([](v1::OutputSelection& selection) {
                                selection.set_omit_output(true);
                                selection.set_head_outputs(true);
                                selection.set_max_response_bytes(~std::uint64_t{0});
                              }).request.outputs;
  EXPECT_TRUE(outputs.omit_output);
  EXPECT_TRUE(outputs.head_outputs);
  EXPECT_FALSE(outputs.log_sum_exp);
  EXPECT_EQ(outputs.max_response_bytes, ~std::uint64_t{0});
}

TEST(DecodeOutputs, PooledMapsAndColumnSums) {
  const OutputsForm outputs = DecodeOutputsWith([](v1::OutputSelection& selection) {
                                v1::PooledMap* pooled = selection.add_maps()->mutable_pooled();
                                pooled->set_rows(3);
                                pooled->set_columns(5);
                                pooled->set_reducer(v1::POOL_REDUCER_MAX);
                                selection.add_maps()->mutable_column_sums();
                                selection.set_head_statistics(true);
                                selection.set_verify_rows(7);
                              }).request.outputs;
  ASSERT_TRUE(outputs.maps[0].pooled.has_value());
  EXPECT_EQ(outputs.maps[0].pooled->rows, 3);
  EXPECT_EQ(outputs.maps[0].pooled->columns, 5);
  EXPECT_EQ(outputs.maps[0].pooled->reducer, PoolReducer::kMax);
  EXPECT_FALSE(outputs.maps[0].column_sums);
  EXPECT_TRUE(outputs.maps[1].column_sums);
  EXPECT_TRUE(outputs.head_statistics);
  EXPECT_EQ(outputs.verify_rows, 7);
}

TEST(DecodeOutputs, EveryStageAndReducer) {
  const auto stage = [](int number) {
    return DecodeOutputsWith([number](v1::OutputSelection& selection) {
      selection.add_maps()->mutable_full();
      selection.mutable_maps(0)->set_stage(static_cast<v1::MapStage>(number));
    });
  };
  EXPECT_EQ(stage(v1::MAP_STAGE_UNSPECIFIED).request.outputs.maps[0].stage, MapStage::kWeights);
  EXPECT_EQ(stage(v1::MAP_STAGE_WEIGHTS).request.outputs.maps[0].stage, MapStage::kWeights);
  EXPECT_EQ(stage(v1::MAP_STAGE_SCALED).request.outputs.maps[0].stage, MapStage::kScaled);
  EXPECT_EQ(stage(v1::MAP_STAGE_SOFTCAPPED).request.outputs.maps[0].stage, MapStage::kSoftcapped);
  EXPECT_EQ(stage(v1::MAP_STAGE_BIASED).request.outputs.maps[0].stage, MapStage::kBiased);
  ExpectOneViolation(stage(9), "outputs.maps[0].stage", "number 9");
  const auto reducer = [](int number) {
    return DecodeOutputsWith([number](v1::OutputSelection& selection) {
      selection.add_maps()->mutable_pooled()->set_reducer(static_cast<v1::PoolReducer>(number));
    });
  };
  EXPECT_EQ(reducer(v1::POOL_REDUCER_MEAN).request.outputs.maps[0].pooled->reducer, PoolReducer::kMean);
  EXPECT_EQ(reducer(v1::POOL_REDUCER_SUM).request.outputs.maps[0].pooled->reducer, PoolReducer::kSum);
  ExpectOneViolation(reducer(0), "outputs.maps[0].pooled.reducer", "UNSPECIFIED");
  ExpectOneViolation(reducer(4), "outputs.maps[0].pooled.reducer", "number 4");
}

TEST(DecodeOptions, WindowsAndSegments) {
  const DecodedCall call = DecodeOptionsWith([](v1::AttentionOptions& options) {
    v1::WindowMask* window = options.mutable_mask()->mutable_window();
    window->set_left(0);
    window->set_alignment(v1::CAUSAL_ALIGNMENT_EXPLICIT);
    window->set_offset(-4);
    options.mutable_mask()->mutable_segments()->add_query_ids(7);
    options.mutable_mask()->mutable_segments()->add_key_ids(-1);
  });
  const WindowForm& window = call.request.mask.window.value();
  EXPECT_EQ(window.left, 0);
  EXPECT_FALSE(window.right.has_value());
  EXPECT_EQ(window.alignment, CausalAlignment::kExplicit);
  EXPECT_EQ(window.offset, -4);
  EXPECT_THAT(call.request.mask.segments->query_ids, ElementsAre(7));
  EXPECT_THAT(call.request.mask.segments->key_ids, ElementsAre(-1));
  EXPECT_TRUE(call.request.violations.empty());
  ExpectOneViolation(DecodeOptionsWith([](v1::AttentionOptions& options) {
                       options.mutable_mask()->mutable_window()->set_alignment(static_cast<v1::CausalAlignment>(8));
                     }),
                     "options.mask.window.alignment", "number 8");
}

TEST(DecodeOptions, ScoresGainsAndPrecision) {
  const ProblemRequest request = DecodeOptionsWith([](v1::AttentionOptions& options) {
                                   options.set_softcap(0);
                                   options.add_sinks(1.5F);
                                   options.add_head_gains(0);
                                   options.set_allow_non_finite(true);
                                   options.set_precision(v1::COMPUTE_PRECISION_BFLOAT16);
                                   options.mutable_position()->add_query_positions(3);
                                   options.mutable_position()->add_key_positions(4);
                                 }).request;
  EXPECT_EQ(request.softcap, 0);
  EXPECT_THAT(request.sinks, ElementsAre(1.5F));
  EXPECT_THAT(request.head_gains, ElementsAre(0));
  EXPECT_TRUE(request.allow_non_finite);
  EXPECT_EQ(request.precision, ComputePrecision::kBFloat16);
  EXPECT_THAT(request.position.query_positions, ElementsAre(3));
  EXPECT_THAT(request.position.key_positions, ElementsAre(4));
  ExpectOneViolation(DecodeOptionsWith([](v1::AttentionOptions& options) {
                       options.set_precision(static_cast<v1::ComputePrecision>(3));
                     }),
                     "options.precision", "number 3");
}

TEST(DecodeOptions, EveryRotaryScaling) {
  const auto scaling = [](const std::function<void(v1::RotaryPositions&)>& set) {
    return DecodeOptionsWith([&set](v1::AttentionOptions& options) {
             options.mutable_position()->mutable_rotary()->set_layout(v1::CHANNEL_LAYOUT_HALVES);
             set(*options.mutable_position()->mutable_rotary());
           })
        .request.position.scaling;
  };
  EXPECT_EQ(scaling([](auto&) {}).kind, RotaryScaling::kNone);
  const auto linear = scaling([](auto& m) { m.mutable_linear()->set_factor(2); });
  EXPECT_EQ(linear.kind, RotaryScaling::kLinear);
  EXPECT_EQ(linear.factor, 2);
  EXPECT_EQ(scaling([](auto& m) { m.mutable_ntk_aware(); }).kind, RotaryScaling::kNtkAware);
  const auto llama = scaling([](auto& m) {
    m.mutable_llama3()->set_low_frequency_factor(1);
    m.mutable_llama3()->set_high_frequency_factor(4);
    m.mutable_llama3()->set_original_context(8192);
  });
  EXPECT_EQ(llama.kind, RotaryScaling::kLlama3);
  EXPECT_EQ(llama.factor, 0);
  EXPECT_EQ(llama.low_frequency_factor, 1);
  EXPECT_EQ(llama.high_frequency_factor, 4);
  EXPECT_EQ(llama.original_context, 8192);
  const auto yarn = scaling([](auto& m) { m.mutable_yarn()->set_beta_fast(16); });
  EXPECT_EQ(yarn.kind, RotaryScaling::kYarn);
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_FALSE(yarn.attention_factor.has_value());
}

}  // namespace
}  // namespace headlight
