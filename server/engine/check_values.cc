#include "server/engine/check_values.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/base/half.h"
#include "server/kernels/convert.h"
#include "server/kernels/rows.h"

namespace headlight {
namespace {

enum class Rule : std::uint8_t { kFinite, kAdditiveMask, kBoolean };

constexpr std::int64_t kPiece = std::int64_t{1} << 18;
constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

// The first of n elements from `first` that breaks the rule, or kNone.
std::int64_t FirstBad(const TensorView& tensor, Rule rule, std::int64_t first, std::int64_t n) {
  const std::byte* data = tensor.data + first * WidthOf(tensor.kind);
  if (rule == Rule::kFinite && tensor.kind == TensorKind::kF32) {
    const std::int64_t found = FirstNonFinite(reinterpret_cast<const float*>(data), n);
    return found == n ? kNone : first + found;
  }
  if (rule == Rule::kFinite) {
    constexpr std::int64_t kChunk = 1024;
    float chunk[kChunk];
    for (std::int64_t begin = 0; begin < n; begin += kChunk) {
      const std::int64_t count = std::min(kChunk, n - begin);
      WidenRow(tensor.kind, data + begin * WidthOf(tensor.kind), chunk, count);
      const std::int64_t found = FirstNonFinite(chunk, count);
      if (found < count) return first + begin + found;
    }
    return kNone;
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const float value = ElementAsFloat(tensor, first + i);
    const bool good = rule == Rule::kBoolean ? value <= 1 : value < std::numeric_limits<float>::infinity();
    if (!good) return first + i;
  }
  return kNone;
}

class ValueCheck final : public Phase {
 public:
  explicit ValueCheck(bool allow_non_finite) : Phase(Stage::kProject), allow_non_finite_(allow_non_finite) {}

  // All of a tensor; an absent one is passed over.
  void Add(std::string field, const TensorView& tensor, Rule rule) {
    if (tensor.empty() || (allow_non_finite_ && rule == Rule::kFinite)) return;
    const std::int64_t count = ElementCount(tensor.shape).value_or(0);
    AddParts(std::move(field), tensor, rule, {{0, count}});
  }

  // Keys or values: only tokens within the key lengths.
  void AddKeys(std::string field, const TensorView& tensor, const ProblemSpec& spec) {
    if (allow_non_finite_) return;
    const std::int64_t count = ElementCount(tensor.shape).value_or(0);
    const Dimensions& d = spec.dims;
    const bool head_major = spec.layout == HeadLayout::kHeadMajor;
    const std::int64_t runs = d.batch * (head_major ? d.key_value_heads : 1);
    const std::int64_t run = count / runs;
    std::vector<Range> parts;
    for (std::int64_t i = 0; i < runs; ++i) {
      const std::int64_t batch = i / (runs / d.batch);
      parts.push_back({i * run, i * run + run / d.key_tokens * spec.KeyLength(batch)});
    }
    AddParts(std::move(field), tensor, Rule::kFinite, parts);
  }

  // Small pieces share a task: a hand-over costs more than looking at them.
  std::int64_t Begin() override {
    std::int64_t room = 0;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      room -= pieces_[i].part.size();
      if (i > 0 && room >= 0) continue;
      task_begins_.push_back(i);
      room = kPiece - pieces_[i].part.size();
    }
    return static_cast<std::int64_t>(task_begins_.size());
  }

  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) override {
    const auto at = static_cast<std::size_t>(task);
    const std::size_t end = at + 1 < task_begins_.size() ? task_begins_[at + 1] : pieces_.size();
    for (std::size_t i = task_begins_[at]; i < end; ++i) Look(pieces_[i]);
    return false;
  }

  absl::Status End() override {
    Violations violations;
    for (const Item& item : items_) {
      const std::int64_t bad = item.first_bad.load();
      if (bad == kNone) continue;
      const char* expected = "finite numbers";
      if (item.rule == Rule::kAdditiveMask) expected = "numbers or -inf";
      if (item.rule == Rule::kBoolean) expected = "0 or 1";
      violations.Add(
          item.field,
          absl::StrCat(ElementAsFloat(item.tensor, bad), " at ", ToString(UnflattenIndex(bad, item.tensor.shape))),
          expected);
    }
    return violations.ToStatus();
  }

 private:
  struct Item {
    std::string field;
    TensorView tensor;
    Rule rule = Rule::kFinite;
    std::atomic<std::int64_t> first_bad{kNone};
  };
  struct Piece {
    Item* item;
    Range part;
  };

  static void Look(const Piece& piece) {
    const std::int64_t bad = FirstBad(piece.item->tensor, piece.item->rule, piece.part.begin, piece.part.size());
    std::int64_t seen = piece.item->first_bad.load();
    while (bad < seen && !piece.item->first_bad.compare_exchange_weak(seen, bad)) {
    }
  }

  void AddParts(std::string field, const TensorView& tensor, Rule rule, const std::vector<Range>& parts) {
    Item& item = items_.emplace_back();
    item.field = std::move(field);
    item.tensor = tensor;
    item.rule = rule;
    for (const Range& part : parts) {
      for (std::int64_t begin = part.begin; begin < part.end; begin += kPiece) {
        pieces_.push_back({&item, {begin, std::min(begin + kPiece, part.end)}});
      }
    }
  }

  bool allow_non_finite_;
  std::deque<Item> items_;  // a deque: pieces point into it, and atomics do not move
  std::vector<Piece> pieces_;
  std::vector<std::size_t> task_begins_;  // the first piece of each task
};

}  // namespace

std::unique_ptr<Phase> MakeValueCheck(const ProblemSpec& spec, const AttentionData& data) {
  auto check = std::make_unique<ValueCheck>(spec.allow_non_finite);
  if (!spec.projection.has_value()) {
    check->Add("query_key_value.query", data.query, Rule::kFinite);
    check->AddKeys("query_key_value.key", data.key, spec);
    check->AddKeys("query_key_value.value", data.value, spec);
  } else {
    check->Add("self_attention.embeddings", data.embeddings, Rule::kFinite);
    check->Add("self_attention.context", data.context, Rule::kFinite);
  }
  if (spec.projection.has_value() && spec.projection->weights == WeightsSource::kExplicit) {
    const std::pair<const char*, const TensorView*> matrices[] = {
        {"query", &data.layer.query},           {"key", &data.layer.key},
        {"value", &data.layer.value},           {"output", &data.layer.output},
        {"query_bias", &data.layer.query_bias}, {"key_bias", &data.layer.key_bias},
        {"value_bias", &data.layer.value_bias}, {"output_bias", &data.layer.output_bias}};
    for (const auto& [name, tensor] : matrices) {
      check->Add(absl::StrCat("self_attention.layer_weights.", name), *tensor, Rule::kFinite);
    }
  }
  check->Add("options.mask.tensor", data.mask,
             data.mask.kind == TensorKind::kBool ? Rule::kBoolean : Rule::kAdditiveMask);
  check->Add("options.position.learned.table", data.position_table, Rule::kFinite);
  return check;
}

std::unique_ptr<Phase> MakeValueCheck(const std::vector<NamedTensor>& tensors) {
  auto check = std::make_unique<ValueCheck>(false);
  for (const NamedTensor& given : tensors) {
    check->Add(given.field, given.tensor, given.minus_infinity ? Rule::kAdditiveMask : Rule::kFinite);
  }
  return check;
}

}  // namespace headlight
