// Malformed positions, masks and scales: every rule, each with the exact fields that are named.
#include "tests/problem/requests.h"

namespace headlight {
namespace {

using R = ProblemRequest;

constexpr std::int64_t kTwo31 = std::int64_t{1} << 31;

PositionForm& Position(R& r, PositionKind kind) {
  r.position.kind = kind;
  r.position.layout = ChannelLayout::kHalves;
  return r.position;
}

// A table of `positions` rows for the embeddings' width.
void Learn(R& r, std::int64_t positions) { Position(r, PositionKind::kLearned).table = FormOf({positions, kWidth}); }

// Self-attention: Tq = Tk = 5, E 16, D 8.
const Malformed kPositions[] = {
    {"a sinusoid of base 0",
     [](R& r) { Position(r, PositionKind::kSinusoidal).base = 0; },
     {"options.position.sinusoidal.base"}},
    {"a sinusoid of a negative base",
     [](R& r) { Position(r, PositionKind::kSinusoidal).base = -10000; },
     {"options.position.sinusoidal.base"}},
    {"a sinusoid of no base",
     [](R& r) { Position(r, PositionKind::kSinusoidal).base = kNan; },
     {"options.position.sinusoidal.base"}},
    {"a sinusoid in an odd width",
     [](R& r) {
       Position(r, PositionKind::kSinusoidal);
       Self(r).embeddings = FormOf({2, 5, 15});
       Weights(r).query = FormOf({15, 32});
       Weights(r).key = FormOf({15, 16});
       Weights(r).value = FormOf({15, 12});
     },
     {"options.position.sinusoidal"}},
    {"no table", [](R& r) { Position(r, PositionKind::kLearned); }, {"options.position.learned.table"}},
    {"a table of rank 1",
     [](R& r) { Position(r, PositionKind::kLearned).table = FormOf({16}); },
     {"options.position.learned.table.shape"}},
    {"a table of another width",
     [](R& r) {
       Position(r, PositionKind::kLearned).table = FormOf({5, 17});
     },
     {"options.position.learned.table.shape"}},
    {"a table of another kind",
     [](R& r) {
       Position(r, PositionKind::kLearned).table = FormOf({5, 16}, TensorKind::kBF16);
     },
     {"options.position.learned.table.data"}},
    {"a table of truths",
     [](R& r) {
       Position(r, PositionKind::kLearned).table = FormOf({5, 16}, TensorKind::kBool);
     },
     {"options.position.learned.table.data"}},
    {"a table without bytes",
     [](R& r) {
       Learn(r, 5);
       r.position.table->payload_bytes = 0;
     },
     {"options.position.learned.table.data"}},
    {"a table that is too short", [](R& r) { Learn(r, 4); }, {"options.position.query_offset"}},
    {"a table that ends before the last token",
     [](R& r) {
       Learn(r, 9);
       r.position.query_offset = 5;
     },
     {"options.position.query_offset"}},
    {"a position before the table",
     [](R& r) {
       Learn(r, 9);
       r.position.query_offset = -1;
     },
     {"options.position.query_offset"}},
    {"a rotary base of 0", [](R& r) { Position(r, PositionKind::kRotary).base = 0; }, {"options.position.rotary.base"}},
    {"an endless rotary base",
     [](R& r) { Position(r, PositionKind::kRotary).base = kInfinity; },
     {"options.position.rotary.base"}},
    {"an odd rotary size",
     [](R& r) { Position(r, PositionKind::kRotary).rotary_size = 3; },
     {"options.position.rotary.rotary_size"}},
    {"a rotary size beyond the head",
     [](R& r) { Position(r, PositionKind::kRotary).rotary_size = 10; },
     {"options.position.rotary.rotary_size"}},
    {"an endless rotary size",
     [](R& r) { Position(r, PositionKind::kRotary).rotary_size = kMostUint32 - 1; },
     {"options.position.rotary.rotary_size"}},
    {"too few slopes",
     [](R& r) {
       Position(r, PositionKind::kAlibi).slopes = {1, 2, 3};
     },
     {"options.position.alibi.slopes"}},
    {"too many slopes",
     [](R& r) { Position(r, PositionKind::kAlibi).slopes.assign(5, 1.0F); },
     {"options.position.alibi.slopes"}},
    {"slopes that are no numbers",
     [](R& r) {
       Position(r, PositionKind::kAlibi).slopes = {1, static_cast<float>(kNan), 3, static_cast<float>(-kInfinity)};
     },
     {"options.position.alibi.slopes[1]", "options.position.alibi.slopes[3]"}},
    {"the queries' own tokens elsewhere", [](R& r) { r.position.key_offset = 1; }, {"options.position.key_offset"}},
    {"the queries elsewhere than their own tokens",
     [](R& r) {
       r.position.query_offset = 3;
       r.position.key_offset = 0;
     },
     {"options.position.key_offset"}},
    {"key lengths without an offset",
     [](R& r) {
       Position(r, PositionKind::kAlibi);
       r.mask.key_lengths = {5, 5};
     },
     {"options.position.query_offset"}},
};

TEST(CheckPosition, RefusesMalformedSchemes) { ExpectRefused(LayerRequest(), kPositions); }

// Q, K, V: Tq 5, Tk 7.
const Malformed kOfQueryKeyValue[] = {
    {"sinusoids",
     [](R& r) { Position(r, PositionKind::kSinusoidal).query_offset = 0; },
     {"options.position.sinusoidal"}},
    {"a learned table",
     [](R& r) {
       Learn(r, 9);
       r.position.query_offset = 0;
     },
     {"options.position.learned"}},
    {"rotary without an offset", [](R& r) { Position(r, PositionKind::kRotary); }, {"options.position.query_offset"}},
    {"ALiBi without an offset", [](R& r) { Position(r, PositionKind::kAlibi); }, {"options.position.query_offset"}},
    {"ALiBi with the keys' offset alone",
     [](R& r) { Position(r, PositionKind::kAlibi).key_offset = 0; },
     {"options.position.query_offset"}},
    {"a query offset of 2^31", [](R& r) { r.position.query_offset = kTwo31; }, {"options.position.query_offset"}},
    {"a query offset of -2^31", [](R& r) { r.position.query_offset = -kTwo31; }, {"options.position.query_offset"}},
    {"a key offset of 2^31", [](R& r) { r.position.key_offset = kTwo31; }, {"options.position.key_offset"}},
    {"the largest offsets",
     [](R& r) {
       r.position.query_offset = kMostInt;
       r.position.key_offset = kLeastInt;
     },
     {"options.position.query_offset", "options.position.key_offset"}},
};

TEST(CheckPosition, RefusesSchemesThatQueryKeyValueCannotHave) { ExpectRefused(HeadMajorRequest(), kOfQueryKeyValue); }

TEST(CheckPosition, RefusesToTurnAnOddHead) {
  Dimensions d = kSmall;
  d.head_size = 7;
  ProblemRequest request = HeadMajorRequest(d);
  Position(request, PositionKind::kRotary).query_offset = 0;
  EXPECT_EQ(FieldsOf(CheckProblem(request, Limits()).status()),
            (std::vector<std::string>{"options.position.rotary.rotary_size"}));
  request.position.rotary_size = 6;
  EXPECT_TRUE(CheckProblem(request, Limits()).ok());
}

CausalForm& Causal(R& r, CausalAlignment alignment) {
  CausalForm& causal = r.mask.causal.emplace();
  causal.alignment = alignment;
  return causal;
}

void Mask(R& r, Shape shape, TensorKind kind = TensorKind::kBool) { r.mask.tensor = FormOf(std::move(shape), kind); }

// B 2, Hq 4, Tq 5, Tk 7.
const Malformed kMasks[] = {
    {"EXPLICIT without an offset", [](R& r) { Causal(r, CausalAlignment::kExplicit); }, {"options.mask.causal.offset"}},
    {"TOP_LEFT with an offset",
     [](R& r) { Causal(r, CausalAlignment::kTopLeft).offset = 0; },
     {"options.mask.causal.offset"}},
    {"BOTTOM_RIGHT with an offset",
     [](R& r) { Causal(r, CausalAlignment::kBottomRight).offset = 2; },
     {"options.mask.causal.offset"}},
    {"an offset of 2^31",
     [](R& r) { Causal(r, CausalAlignment::kExplicit).offset = kTwo31; },
     {"options.mask.causal.offset"}},
    {"the smallest offset",
     [](R& r) { Causal(r, CausalAlignment::kExplicit).offset = kLeastInt; },
     {"options.mask.causal.offset"}},
    {"a length too few", [](R& r) { r.mask.key_lengths = {7}; }, {"options.mask.key_lengths"}},
    {"a length too many",
     [](R& r) {
       r.mask.key_lengths = {7, 7, 7};
     },
     {"options.mask.key_lengths"}},
    {"a negative length",
     [](R& r) {
       r.mask.key_lengths = {-1, 7};
     },
     {"options.mask.key_lengths[0]"}},
    {"a length beyond the keys",
     [](R& r) {
       r.mask.key_lengths = {7, 8};
     },
     {"options.mask.key_lengths[1]"}},
    {"lengths that are wrong in every way",
     [](R& r) {
       r.mask.key_lengths = {kLeastInt, kMostInt, 0};
       Causal(r, CausalAlignment::kBottomRight);
     },
     {"options.mask.key_lengths", "options.mask.key_lengths[0]", "options.mask.key_lengths[1]"}},
    {"the least of lengths, aligned",
     [](R& r) {
       r.mask.key_lengths = {kLeastInt, kMostInt};
       Causal(r, CausalAlignment::kBottomRight);
     },
     {"options.mask.key_lengths[0]", "options.mask.key_lengths[1]"}},
    {"a scalar mask", [](R& r) { Mask(r, {}); }, {"options.mask.tensor.shape"}},
    {"rank 5",
     [](R& r) {
       Mask(r, {1, 2, 4, 5, 7});
     },
     {"options.mask.tensor.shape"}},
    {"an empty axis",
     [](R& r) {
       Mask(r, {0, 7});
     },
     {"options.mask.tensor.shape"}},
    {"a mask of another kind",
     [](R& r) {
       Mask(r, {5, 7}, TensorKind::kBF16);
     },
     {"options.mask.tensor.data"}},
    {"a mask without bytes",
     [](R& r) {
       Mask(r, {5, 7});
       r.mask.tensor->payload_bytes = 0;
     },
     {"options.mask.tensor.data"}},
    {"another batch",
     [](R& r) {
       Mask(r, {3, 4, 5, 7});
     },
     {"options.mask.tensor.shape"}},
    {"other heads",
     [](R& r) {
       Mask(r, {2, 5, 7});
     },
     {"options.mask.tensor.shape"}},
    {"other queries",
     [](R& r) {
       Mask(r, {4, 7});
     },
     {"options.mask.tensor.shape"}},
    {"more keys", [](R& r) { Mask(r, {8}); }, {"options.mask.tensor.shape"}},
    {"a last axis of 1",
     [](R& r) {
       Mask(r, {5, 1});
     },
     {"options.mask.tensor.shape"}},
    {"one truth for everything", [](R& r) { Mask(r, {1}); }, {"options.mask.tensor.shape"}},
    {"shape and kind",
     [](R& r) {
       Mask(r, {9, 9}, TensorKind::kF16);
     },
     {"options.mask.tensor.data", "options.mask.tensor.shape"}},
};

TEST(CheckMask, RefusesMalformedMasks) { ExpectRefused(HeadMajorRequest(), kMasks); }

const Malformed kScales[] = {
    {"no number", [](R& r) { r.scale = kNan; }, {"options.scale"}},
    {"infinity", [](R& r) { r.scale = kInfinity; }, {"options.scale"}},
    {"negative infinity", [](R& r) { r.scale = -kInfinity; }, {"options.scale"}},
};

TEST(CheckScale, RefusesWhatIsNotFinite) { ExpectRefused(HeadMajorRequest(), kScales); }

}  // namespace
}  // namespace headlight
