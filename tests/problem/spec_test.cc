// What the check makes of well-formed requests: every size derived, every choice made.
#include "server/problem/spec.h"

#include <cmath>

#include "tests/problem/requests.h"

namespace headlight {
namespace {

using R = ProblemRequest;

ProblemSpec Checked(const ProblemRequest& request) {
  const absl::StatusOr<ProblemSpec> spec = CheckProblem(request, Limits());
  if (!spec.ok()) ADD_FAILURE() << spec.status();
  return spec.value();
}

// A well-formed request, what its sizes are and the shape of its answer.
struct WellFormed {
  const char* what;
  ProblemRequest (*make)();
  Dimensions dims;
  Shape output;
};

ProblemRequest With(ProblemRequest request, void (*change)(ProblemRequest&)) {
  change(request);
  return request;
}

Dimensions OneBatch() {
  Dimensions d = kSmall;
  d.batch = 1;
  return d;
}

const WellFormed kQueryKeyValue[] = {
    {"[B, H, T, D]", [] { return HeadMajorRequest(); }, kSmall, {2, 4, 5, 6}},
    {"[B, H, T, D] with options that agree",
     [] {
       return With(HeadMajorRequest(), [](R& r) {
         r.query_heads = 4;
         r.key_value_heads = 2;
         r.head_size = 8;
       });
     },
     kSmall,
     {2, 4, 5, 6}},
    {"everything 1",
     [] {
       return HeadMajorRequest({1, 1, 1, 1, 1, 1, 1});
     },
     {1, 1, 1, 1, 1, 1, 1},
     {1, 1, 1, 1}},
    {"one key head for all",
     [] {
       return HeadMajorRequest({1, 6, 1, 3, 3, 2, 2});
     },
     {1, 6, 1, 3, 3, 2, 2},
     {1, 6, 3, 2}},
    {"[B, T, H x D]", [] { return TokenMajorRequest(); }, kSmall, {2, 5, 24}},
    {"[B, T, H x D] by the head size",
     [] {
       return With(TokenMajorRequest(), [](R& r) {
         r.query_heads = 0;
         r.head_size = 8;
       });
     },
     kSmall,
     {2, 5, 24}},
    {"[B, T, H x D] by both",
     [] { return With(TokenMajorRequest(), [](R& r) { r.head_size = 8; }); },
     kSmall,
     {2, 5, 24}},
    {"[B, T, H x D] with as many key heads as query heads",
     [] {
       return With(TokenMajorRequest({2, 4, 4, 5, 7, 8, 6}), [](R& r) { r.key_value_heads = 0; });
     },
     {2, 4, 4, 5, 7, 8, 6},
     {2, 5, 24}},
    {"[B, T, D] of one head",
     [] {
       return With(TokenMajorRequest({2, 1, 1, 5, 7, 32, 12}), [](R& r) { r.key_value_heads = 0; });
     },
     {2, 1, 1, 5, 7, 32, 12},
     {2, 5, 12}},
    {"[T, H x D]", [] { return TokenMajorRequest(OneBatch(), false); }, {1, 4, 2, 5, 7, 8, 6}, {5, 24}},
    {"[1, T, H x D]", [] { return TokenMajorRequest(OneBatch()); }, {1, 4, 2, 5, 7, 8, 6}, {1, 5, 24}},
};

const WellFormed kSelfAttention[] = {
    {"embeddings and a layer", [] { return LayerRequest(); }, {2, 4, 2, 5, 5, 8, 6}, {2, 5, 10}},
    {"without an output matrix",
     [] { return With(LayerRequest(), [](R& r) { Weights(r).output.reset(); }); },
     {2, 4, 2, 5, 5, 8, 6},
     {2, 5, 24}},
    {"without a batch",
     [] { return With(LayerRequest(), [](R& r) {
            Self(r).embeddings = FormOf({5, 16});
          }); },
     {1, 4, 2, 5, 5, 8, 6},
     {5, 10}},
    {"with biases",
     [] {
       return With(LayerRequest(), [](R& r) {
         Weights(r).query_bias = FormOf({32});
         Weights(r).key_bias = FormOf({16});
         Weights(r).value_bias = FormOf({12});
         Weights(r).output_bias = FormOf({10});
       });
     },
     {2, 4, 2, 5, 5, 8, 6},
     {2, 5, 10}},
    {"by the head size",
     [] {
       return With(LayerRequest(), [](R& r) {
         r.query_heads = 0;
         r.head_size = 8;
       });
     },
     {2, 4, 2, 5, 5, 8, 6},
     {2, 5, 10}},
    {"a context of another width", [] { return CrossRequest(); }, kSmall, {2, 5, 10}},
    {"a context without a batch",
     [] {
       return With(CrossRequest(), [](R& r) {
         Self(r).embeddings = FormOf({5, 16});
         Self(r).context = FormOf({7, 12});
       });
     },
     {1, 4, 2, 5, 7, 8, 6},
     {5, 10}},
    {"a named layer", [] { return NamedRequest(); }, {2, 4, 2, 5, 5, 8, 6}, {2, 5, 10}},
    {"a named layer with options that agree",
     [] {
       return With(NamedRequest(), [](R& r) {
         r.query_heads = 4;
         r.key_value_heads = 2;
         r.head_size = 8;
       });
     },
     {2, 4, 2, 5, 5, 8, 6},
     {2, 5, 10}},
    {"all from seeds", [] { return SeededRequest(); }, {1, 4, 4, 5, 5, 4, 4}, {5, 16}},
    {"seeded weights with a head size of their own",
     [] {
       return With(SeededRequest(), [](R& r) {
         r.head_size = 10;
         r.key_value_heads = 2;
       });
     },
     {1, 4, 2, 5, 5, 10, 10},
     {5, 16}},
    {"seeded weights by the head size",
     [] {
       return With(SeededRequest(), [](R& r) {
         r.query_heads = 0;
         r.head_size = 2;
       });
     },
     {1, 8, 8, 5, 5, 2, 2},
     {5, 16}},
    {"seeded weights for embeddings and a context",
     [] {
       return With(SeededRequest(), [](R& r) {
         Self(r).embeddings = FormOf({3, 5, 16});
         Self(r).context = FormOf({3, 7, 12});
       });
     },
     {3, 4, 4, 5, 7, 4, 4},
     {3, 5, 16}},
};

template <std::size_t kCount>
void ExpectDerived(const WellFormed (&table)[kCount]) {
  for (const WellFormed& row : table) {
    SCOPED_TRACE(row.what);
    const ProblemSpec spec = Checked(row.make());
    EXPECT_EQ(spec.dims.batch, row.dims.batch);
    EXPECT_EQ(spec.dims.query_heads, row.dims.query_heads);
    EXPECT_EQ(spec.dims.key_value_heads, row.dims.key_value_heads);
    EXPECT_EQ(spec.dims.query_tokens, row.dims.query_tokens);
    EXPECT_EQ(spec.dims.key_tokens, row.dims.key_tokens);
    EXPECT_EQ(spec.dims.head_size, row.dims.head_size);
    EXPECT_EQ(spec.dims.value_head_size, row.dims.value_head_size);
    EXPECT_EQ(spec.OutputShape(), row.output);
    EXPECT_EQ(spec.batched, row.output.size() > 2);
  }
}

TEST(ProblemSpec, DerivesTheSizesOfQueryKeyValue) { ExpectDerived(kQueryKeyValue); }
TEST(ProblemSpec, DerivesTheSizesOfSelfAttention) { ExpectDerived(kSelfAttention); }

TEST(ProblemSpec, KnowsWhereTheHeadsLie) {
  EXPECT_EQ(Checked(HeadMajorRequest()).layout, HeadLayout::kHeadMajor);
  EXPECT_EQ(Checked(TokenMajorRequest()).layout, HeadLayout::kTokenMajor);
  EXPECT_EQ(Checked(LayerRequest()).layout, HeadLayout::kTokenMajor);
}

TEST(ProblemSpec, KnowsTheProjection) {
  EXPECT_FALSE(Checked(HeadMajorRequest()).projection.has_value());
  ProblemSpec spec = Checked(LayerRequest());
  EXPECT_EQ(spec.projection->width, 16);
  EXPECT_EQ(spec.projection->context_width, 16);
  EXPECT_EQ(spec.projection->output_width, 10);
  EXPECT_FALSE(spec.projection->has_context);
  EXPECT_EQ(spec.projection->weights, WeightsSource::kExplicit);
  spec = Checked(CrossRequest());
  EXPECT_EQ(spec.projection->context_width, 12);
  EXPECT_TRUE(spec.projection->has_context);
  R seeded = SeededRequest();
  Self(seeded).weights_seed = 77;
  Self(seeded).embeddings_seed = 78;
  spec = Checked(seeded);
  EXPECT_TRUE(spec.projection->seeded_embeddings);
  EXPECT_EQ(spec.projection->embeddings_seed, 78U);
  EXPECT_EQ(spec.projection->weights, WeightsSource::kSeeded);
  EXPECT_EQ(spec.projection->weights_seed, 77U);
  EXPECT_EQ(spec.projection->output_width, 16);
  EXPECT_EQ(Checked(NamedRequest()).projection->weights, WeightsSource::kNamed);
}

TEST(ProblemSpec, HasTheKindOfTheInputAndOfTheOutput) {
  for (const TensorKind kind : {TensorKind::kF32, TensorKind::kF16, TensorKind::kBF16}) {
    R request = HeadMajorRequest(kSmall, kind);
    EXPECT_EQ(Checked(request).kind, kind);
    EXPECT_EQ(Checked(request).outputs.kind, kind);
    EXPECT_EQ(Checked(LayerRequest(kSmall, kind)).kind, kind);
    request.outputs.kind = TensorKind::kBF16;
    EXPECT_EQ(Checked(request).outputs.kind, TensorKind::kBF16);
    // A mask and a learned table may be float32 beside any kind, or of the kind itself.
    for (const TensorKind mask : {TensorKind::kBool, TensorKind::kF32, kind}) {
      request.mask.tensor = FormOf({5, 7}, mask);
      EXPECT_EQ(Checked(request).mask.tensor->kind, mask);
    }
    for (const TensorKind table : {TensorKind::kF32, kind}) {
      R learned = LayerRequest(kSmall, kind);
      learned.position.kind = PositionKind::kLearned;
      learned.position.table = FormOf({5, 16}, table);
      EXPECT_EQ(Checked(learned).kind, kind);
    }
  }
}

// A named layer is the server's own: float32 matrices serve embeddings of any kind.
TEST(ProblemSpec, TakesTheKindOfTheEmbeddingsWithANamedLayer) {
  R request = NamedRequest();
  Self(request).embeddings = FormOf({2, 5, 16}, TensorKind::kBF16);
  EXPECT_EQ(Checked(request).kind, TensorKind::kBF16);
}

TEST(ProblemSpec, NeedsNoPayloadToPlan) {
  R request = HeadMajorRequest();
  for (auto* form : {&Qkv(request).query, &Qkv(request).key, &Qkv(request).value}) (*form)->payload_bytes.reset();
  EXPECT_EQ(Checked(request).dims.head_size, 8);
}

TEST(Dimensions, RepeatKeyHeadsInterleaved) {
  const Dimensions d = {1, 6, 2, 1, 1, 1, 1};
  const std::int64_t expected[] = {0, 0, 0, 1, 1, 1};
  for (std::int64_t h = 0; h < 6; ++h) EXPECT_EQ(d.KeyValueHead(h), expected[h]);
  const Dimensions same = {1, 3, 3, 1, 1, 1, 1};
  for (std::int64_t h = 0; h < 3; ++h) EXPECT_EQ(same.KeyValueHead(h), h);
}

TEST(ProblemSpec, ScalesByTheRootOfTheHeadSizeUnlessTold) {
  R request = HeadMajorRequest();
  EXPECT_EQ(Checked(request).scale, 1 / std::sqrt(8.0));
  for (const double scale : {0.0, -3.5, 1e300}) {
    request.scale = scale;
    EXPECT_EQ(Checked(request).scale, scale);
  }
}

TEST(ProblemSpec, LeavesTheAlgorithmToThePlannerUnlessTold) {
  R request = HeadMajorRequest();
  EXPECT_FALSE(Checked(request).algorithm.has_value());
  request.algorithm = Algorithm::kNaive;
  EXPECT_EQ(Checked(request).algorithm, Algorithm::kNaive);
}

TEST(ProblemSpec, FillsInThePositions) {
  R request = HeadMajorRequest();
  request.position.kind = PositionKind::kRotary;
  request.position.layout = ChannelLayout::kInterleaved;
  request.position.query_offset = 2;
  PositionSpec position = Checked(request).position;
  EXPECT_EQ(position.kind, PositionKind::kRotary);
  EXPECT_EQ(position.base, 10000);
  EXPECT_EQ(position.layout, ChannelLayout::kInterleaved);
  EXPECT_EQ(position.rotary_size, 8);
  EXPECT_EQ(position.query_offset, 2);
  EXPECT_EQ(position.key_offset, 0);
  request.position.base = 500000;
  request.position.rotary_size = 4;
  request.position.key_offset = -9;
  position = Checked(request).position;
  EXPECT_EQ(position.base, 500000);
  EXPECT_EQ(position.rotary_size, 4);
  EXPECT_EQ(position.key_offset, -9);
  constexpr std::int64_t kFarthest = (std::int64_t{1} << 31) - 1;
  request.position.query_offset = kFarthest;
  request.position.key_offset = -kFarthest;
  EXPECT_EQ(Checked(request).position.query_offset, kFarthest);
}

TEST(ProblemSpec, PutsKeysWhereTheirOwnQueriesStand) {
  R request = LayerRequest();
  request.position.kind = PositionKind::kAlibi;
  request.position.query_offset = 11;
  EXPECT_EQ(Checked(request).position.key_offset, 11);
  request.position.key_offset = 11;
  EXPECT_EQ(Checked(request).position.key_offset, 11);
  R cross = CrossRequest();
  cross.position.query_offset = 11;
  EXPECT_EQ(Checked(cross).position.key_offset, 0);
}

TEST(ProblemSpec, LetsALearnedTableEndWithTheLastToken) {
  R request = LayerRequest();
  request.position.kind = PositionKind::kLearned;
  request.position.table = FormOf({9, 16});
  request.position.query_offset = 4;
  EXPECT_EQ(Checked(request).position.query_offset, 4);
}

// arXiv 2108.12409, section 3: 2^-1 .. 2^-8 for 8 heads; for 12 the 8 and then every other one of 16.
TEST(ProblemSpec, GivesThePapersSlopes) {
  const auto slopes = [](std::int64_t heads) {
    R request = HeadMajorRequest({1, heads, 1, 3, 3, 2, 2});
    request.position.kind = PositionKind::kAlibi;
    return Checked(request).position.slopes;
  };
  EXPECT_EQ(slopes(1), (std::vector<float>{0x1p-8F}));
  EXPECT_EQ(slopes(2), (std::vector<float>{0x1p-4F, 0x1p-8F}));
  EXPECT_EQ(slopes(3), (std::vector<float>{0x1p-4F, 0x1p-8F, 0x1p-2F}));
  EXPECT_EQ(slopes(6), (std::vector<float>{0x1p-2F, 0x1p-4F, 0x1p-6F, 0x1p-8F, 0x1p-1F, 0x1p-3F}));
  EXPECT_EQ(slopes(8), (std::vector<float>{0x1p-1F, 0x1p-2F, 0x1p-3F, 0x1p-4F, 0x1p-5F, 0x1p-6F, 0x1p-7F, 0x1p-8F}));
  const std::vector<float> twelve = slopes(12);
  ASSERT_EQ(twelve.size(), 12U);
  for (int h = 0; h < 8; ++h) EXPECT_EQ(twelve[h], std::exp2(static_cast<float>(-(h + 1))));
  for (int h = 8; h < 12; ++h) EXPECT_FLOAT_EQ(twelve[h], std::exp2(-0.5F - static_cast<float>(h - 8)));
  EXPECT_EQ(slopes(128).size(), 128U);
}

TEST(ProblemSpec, TakesTheSlopesThatAreGiven) {
  R request = LayerRequest();
  request.position.kind = PositionKind::kAlibi;
  request.position.slopes = {0, -1, 2.5F, 1e30F};
  EXPECT_EQ(Checked(request).position.slopes, request.position.slopes);
}

TEST(ProblemSpec, AlignsCausalMasksPerBatch) {
  using Offsets = std::vector<std::int64_t>;
  R request = HeadMajorRequest();  // Tq 5, Tk 7
  EXPECT_FALSE(Checked(request).mask.causal.has_value());
  request.mask.causal = CausalForm{CausalAlignment::kTopLeft, {}};
  EXPECT_EQ(Checked(request).mask.offsets, (Offsets{0, 0}));
  request.mask.causal = CausalForm{CausalAlignment::kBottomRight, {}};
  EXPECT_EQ(Checked(request).mask.offsets, (Offsets{2, 2}));
  request.mask.key_lengths = {6, 0};
  EXPECT_EQ(Checked(request).mask.offsets, (Offsets{1, -5}));  // not clamped
  EXPECT_EQ(Checked(request).KeyLength(0), 6);
  EXPECT_EQ(Checked(request).KeyLength(1), 0);
  request.mask.causal = CausalForm{CausalAlignment::kTopLeft, {}};
  EXPECT_EQ(Checked(request).mask.offsets, (Offsets{0, 0}));
  request.mask.causal = CausalForm{CausalAlignment::kExplicit, -3};
  EXPECT_EQ(Checked(request).mask.offsets, (Offsets{-3, -3}));
  constexpr std::int64_t kFarthest = (std::int64_t{1} << 31) - 1;
  request.mask.causal->offset = kFarthest;
  EXPECT_EQ(Checked(request).mask.offsets, (Offsets{kFarthest, kFarthest}));
  EXPECT_EQ(Checked(HeadMajorRequest()).KeyLength(1), 7);
}

TEST(ProblemSpec, SeesAMaskTensorWithFourAxes) {
  using Four = std::array<std::int64_t, 4>;
  const std::pair<Shape, Four> shapes[] = {
      {{7}, {1, 1, 1, 7}},          {{2}, {1, 1, 1, 2}},          {{5, 7}, {1, 1, 5, 7}},
      {{1, 3}, {1, 1, 1, 3}},       {{4, 5, 7}, {1, 4, 5, 7}},    {{4, 1, 7}, {1, 4, 1, 7}},
      {{1, 5, 6}, {1, 1, 5, 6}},    {{2, 4, 5, 7}, {2, 4, 5, 7}}, {{2, 1, 1, 2}, {2, 1, 1, 2}},
      {{1, 4, 1, 7}, {1, 4, 1, 7}}, {{2, 1, 5, 7}, {2, 1, 5, 7}}};
  for (const auto& [shape, four] : shapes) {
    SCOPED_TRACE(ToString(shape));
    R request = HeadMajorRequest();
    request.mask.tensor = FormOf(shape, TensorKind::kBool);
    EXPECT_EQ(Checked(request).mask.tensor->shape, four);
  }
  R one_key = HeadMajorRequest({2, 4, 2, 5, 1, 8, 6});  // with a single key an axis of 1 is not ambiguous
  one_key.mask.tensor = FormOf({5, 1}, TensorKind::kBool);
  EXPECT_EQ(Checked(one_key).mask.tensor->shape, (Four{1, 1, 5, 1}));
}

TEST(ProblemSpec, ReturnsTheOutputAloneUnlessTold) {
  const OutputSpec outputs = Checked(HeadMajorRequest()).outputs;
  EXPECT_TRUE(outputs.output);
  EXPECT_FALSE(outputs.log_sum_exp);
  EXPECT_FALSE(outputs.head_outputs);
  EXPECT_TRUE(outputs.maps.empty());
  EXPECT_EQ(outputs.max_response_bytes, Limits().max_response_bytes);
}

TEST(ProblemSpec, FillsInTheMaps) {
  using Numbers = std::vector<std::int64_t>;
  R request = HeadMajorRequest();
  request.outputs.omit_output = true;
  request.outputs.maps.resize(2);
  request.outputs.maps[1] = {{3, 1}, {1}, {{4, 5}, {0, 2}}, Range{2, 7}, 3};
  const OutputSpec outputs = Checked(request).outputs;
  EXPECT_FALSE(outputs.output);
  ASSERT_EQ(outputs.maps.size(), 2U);
  const MapSpec& all = outputs.maps[0];
  EXPECT_EQ(all.heads, (Numbers{0, 1, 2, 3}));
  EXPECT_EQ(all.batches, (Numbers{0, 1}));
  ASSERT_EQ(all.rows.size(), 1U);
  EXPECT_TRUE(all.rows[0].begin == 0 && all.rows[0].end == 5);
  EXPECT_TRUE(all.keys.begin == 0 && all.keys.end == 7);
  EXPECT_EQ(all.top_k, 0);
  const MapSpec& some = outputs.maps[1];
  EXPECT_EQ(some.heads, (Numbers{3, 1}));
  EXPECT_EQ(some.batches, (Numbers{1}));
  ASSERT_EQ(some.rows.size(), 2U);
  EXPECT_TRUE(some.rows[0].begin == 4 && some.rows[1].end == 2);
  EXPECT_TRUE(some.keys.begin == 2 && some.keys.end == 7);
  EXPECT_EQ(some.top_k, 3);
}

TEST(ProblemSpec, TakesNoMoreTopKeysThanThereAreKeys) {
  R request = HeadMajorRequest();
  request.outputs.maps.resize(1);
  request.outputs.maps[0].top_k = 1024;
  EXPECT_EQ(Checked(request).outputs.maps[0].top_k, 7);
  request.outputs.maps[0].keys = Range{3, 5};
  EXPECT_EQ(Checked(request).outputs.maps[0].top_k, 2);
}

TEST(ProblemSpec, BoundsTheAnswerByTheSmallerOfTwoWishes) {
  R request = HeadMajorRequest();
  const std::int64_t server = Limits().max_response_bytes;
  const std::pair<std::uint64_t, std::int64_t> wishes[] = {{0, server},
                                                           {1, 1},
                                                           {static_cast<std::uint64_t>(server) - 1, server - 1},
                                                           {static_cast<std::uint64_t>(server) + 1, server},
                                                           {std::numeric_limits<std::uint64_t>::max(), server}};
  for (const auto& [wish, expected] : wishes) {
    request.outputs.max_response_bytes = wish;
    EXPECT_EQ(Checked(request).outputs.max_response_bytes, expected);
  }
}

TEST(Options, HaveNames) {
  EXPECT_EQ(NameOf(Algorithm::kNaive), "naive");
  EXPECT_EQ(NameOf(Algorithm::kFlash), "flash");
  const absl::string_view names[] = {"none", "sinusoidal", "learned", "rotary", "alibi"};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(NameOf(static_cast<PositionKind>(i)), names[i]);
}

}  // namespace
}  // namespace headlight
