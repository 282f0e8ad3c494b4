// Parts of the keys: what of masks and positions is left of the whole, and what a part may not be.
#include <gmock/gmock.h>

#include "tests/problem/requests.h"

namespace headlight {
namespace {

using testing::ElementsAre;
using R = ProblemRequest;

constexpr std::uint64_t kTotal = 20;

// Keys 4 .. 10 of 20: B 2, Tq 5, Tk 7.
R PartRequest() {
  R request = HeadMajorRequest();
  Qkv(request).part = PartForm{4, 11, kTotal};
  return request;
}

ProblemSpec Checked(const R& request) {
  const absl::StatusOr<ProblemSpec> spec = CheckProblem(request, Limits());
  if (!spec.ok()) ADD_FAILURE() << spec.status();
  return spec.value();
}

TEST(CheckPart, KeepsThePartsOwnKeys) {
  R request = PartRequest();
  request.mask.key_lengths = {20, 6};
  request.mask.segments = SegmentsForm{{0, 0, 1, 1, 1}, std::vector<std::int64_t>(kTotal, 0)};
  for (std::size_t j = 0; j < kTotal; ++j) request.mask.segments->key_ids[j] = static_cast<std::int64_t>(j);
  request.mask.tensor = FormOf({5, 18}, TensorKind::kBool);
  request.mask.causal = CausalForm{CausalAlignment::kBottomRight, std::nullopt};
  const ProblemSpec spec = Checked(request);
  EXPECT_EQ(spec.dims.key_tokens, 7);
  EXPECT_THAT(spec.mask.key_lengths, ElementsAre(7, 2));
  EXPECT_THAT(spec.mask.offsets, ElementsAre(20 - 5 - 4, 6 - 5 - 4));
  EXPECT_THAT(spec.mask.segments->key_ids, ElementsAre(4, 5, 6, 7, 8, 9, 10));
  EXPECT_EQ(spec.mask.tensor->first_key, 4);
}

TEST(CheckPart, LengthsThatEndBeforeOrBeyondThePart) {
  R request = PartRequest();
  request.mask.key_lengths = {3, 17};
  EXPECT_THAT(Checked(request).mask.key_lengths, ElementsAre(0, 7));
}

TEST(CheckPart, PositionsByOffset) {
  R request = PartRequest();
  request.position.kind = PositionKind::kAlibi;
  request.position.query_offset = 100;
  request.position.key_offset = 50;
  const ProblemSpec spec = Checked(request);
  EXPECT_EQ(spec.position.key_offset, 54);
  EXPECT_EQ(spec.position.query_offset, 100);
}

TEST(CheckPart, PositionsOneByOneForEachBatch) {
  R request = PartRequest();
  request.position.kind = PositionKind::kAlibi;
  request.position.query_offset = 0;
  for (std::int64_t j = 0; j < 40; ++j) request.position.key_positions.push_back(100 + j);
  const ProblemSpec spec = Checked(request);
  EXPECT_THAT(spec.position.key_positions,
              ElementsAre(104, 105, 106, 107, 108, 109, 110, 124, 125, 126, 127, 128, 129, 130));
  EXPECT_THAT(spec.position.query_positions, ElementsAre(0, 1, 2, 3, 4));
}

// A whole may be longer than any call.
TEST(CheckPart, QueryPositionsBesideALongWhole) {
  R request = PartRequest();
  Qkv(request).part = PartForm{1'000'000, 1'000'007, 2'000'000};
  request.position.kind = PositionKind::kAlibi;
  request.position.query_positions = {5, 6, 7, 8, 9};
  EXPECT_THAT(Checked(request).position.key_positions,
              ElementsAre(1'000'000, 1'000'001, 1'000'002, 1'000'003, 1'000'004, 1'000'005, 1'000'006));
}

const Malformed kParts[] = {
    {"more keys than were sent", [](R& r) { Qkv(r).part->end = 12; }, {"query_key_value.part"}},
    {"no key", [](R& r) { Qkv(r).part->end = 4; }, {"query_key_value.part"}},
    {"an end beyond the whole", [](R& r) { Qkv(r).part->total = 10; }, {"query_key_value.part"}},
    {"no whole", [](R& r) { Qkv(r).part->total = 0; }, {"query_key_value.part.total_keys"}},
    {"a whole beyond 2^31 - 1",
     [](R& r) { Qkv(r).part->total = std::uint64_t{1} << 63; },
     {"query_key_value.part.total_keys"}},
    {"sinks, gains and statistics",
     [](R& r) {
       r.sinks = {0, 0, 0, 0};
       r.head_gains = {1, 1, 1, 1};
       r.outputs.head_statistics = true;
     },
     {"options.sinks", "options.head_gains", "outputs.head_statistics"}},
    {"a length beyond the whole",
     [](R& r) {
       r.mask.key_lengths = {21, 1};
     },
     {"options.mask.key_lengths[0]"}},
    {"ids of the part's keys alone",
     [](R& r) {
       r.mask.segments = SegmentsForm{{0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0}};
     },
     {"options.mask.segments.key_ids"}},
    {"a mask wider than the whole",
     [](R& r) {
       r.mask.tensor = FormOf({5, 21}, TensorKind::kBool);
     },
     {"options.mask.tensor.shape"}},
};

TEST(CheckPart, SaysWhatIsWrong) { ExpectRefused(PartRequest(), kParts); }

}  // namespace
}  // namespace headlight
