#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

// Places of keys, and sums with offsets, stay within 64 bits.
constexpr std::uint64_t kMostKeys = (std::uint64_t{1} << 31) - 1;

// What the merge applies once, to all parts together.
void RefuseOnPart(Checker& c) {
  const std::string none = "nothing on a part of the keys: MergePartials applies it to the whole";
  if (!c.request.sinks.empty()) c.Report("options.sinks", absl::StrCat(c.request.sinks.size(), " sinks"), none);
  if (!c.request.head_gains.empty()) {
    c.Report("options.head_gains", absl::StrCat(c.request.head_gains.size(), " gains"), none);
  }
  if (c.request.outputs.head_statistics) {
    c.Report("outputs.head_statistics", "true", "false on a part of the keys: they are of the whole's weights");
  }
}

// Of one number for each of `total` keys, or of B lists of them, what belongs to `keys`.
std::vector<std::int64_t> KeepKeys(const std::vector<std::int64_t>& list, std::int64_t total, Range keys) {
  std::vector<std::int64_t> kept;
  for (auto first = list.begin(); first != list.end(); first += total) {
    kept.insert(kept.end(), first + keys.begin, first + keys.end);
  }
  return kept;
}

}  // namespace

void CheckPart(Checker& c) {
  const auto* form = std::get_if<QueryKeyValueForm>(&c.request.input);
  if (form == nullptr || !form->part.has_value()) return;
  const PartForm& part = *form->part;
  RefuseOnPart(c);
  const std::int64_t sent = c.spec.dims.key_tokens;
  if (part.total < 1 || part.total > kMostKeys) {
    c.Report("query_key_value.part.total_keys", absl::StrCat(part.total), absl::StrCat("1 to ", kMostKeys));
  } else if (part.begin >= part.end || part.end > part.total) {
    c.Report("query_key_value.part", absl::StrCat("keys ", part.begin, " to ", part.end, " of ", part.total),
             "begin < end <= total_keys");
  } else if (sent != 0 && part.end - part.begin != static_cast<std::uint64_t>(sent)) {
    c.Report("query_key_value.part", absl::StrCat(part.end - part.begin, " keys"),
             absl::StrCat(sent, ", as many as were sent"));
  } else if (sent != 0) {
    c.part = Range{static_cast<std::int64_t>(part.begin), static_cast<std::int64_t>(part.end)};
    c.spec.dims.key_tokens = static_cast<std::int64_t>(part.total);
  }
}

void KeepPart(Checker& c) {
  if (!c.part.has_value()) return;
  const Range keys = *c.part;
  const std::int64_t total = c.spec.dims.key_tokens;
  c.spec.dims.key_tokens = keys.size();
  if (!c.violations.empty()) return;  // lists may have any length
  PositionSpec& position = c.spec.position;
  position.key_offset += keys.begin;
  position.key_positions = KeepKeys(position.key_positions, total, keys);
  MaskSpec& mask = c.spec.mask;
  for (std::int64_t& offset : mask.offsets) offset -= keys.begin;
  for (std::int64_t& length : mask.key_lengths) {
    length = std::clamp<std::int64_t>(length - keys.begin, 0, keys.size());
  }
  if (mask.tensor.has_value()) mask.tensor->first_key = keys.begin;
  if (mask.segments == nullptr) return;
  mask.segments = std::make_shared<const SegmentsSpec>(
      SegmentsSpec{mask.segments->query_ids, KeepKeys(mask.segments->key_ids, total, keys)});
}

}  // namespace headlight
