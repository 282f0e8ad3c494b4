#include "client/cli/parse_flags.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace headlight::cli {
namespace {

absl::Status BadValue(absl::string_view flag, absl::string_view text, absl::string_view allowed) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, " is not ", allowed));
}

// The elements of a list, each as `read(element, &value)` finds it; nullopt where it refuses one.
template <typename Value, typename Read>
std::optional<std::vector<Value>> ReadList(absl::string_view text, const Read& read) {
  std::vector<Value> values;
  for (const absl::string_view element : absl::StrSplit(text, ',')) {
    Value value{};
    if (!read(element, &value)) return std::nullopt;
    values.push_back(std::move(value));
  }
  return values;
}

bool ReadInteger(absl::string_view text, std::int64_t* value) { return absl::SimpleAtoi(text, value); }

// One side of a window: unbounded leaves `*value` unset.
bool ReadSide(absl::string_view text, std::optional<std::int64_t>* value) {
  std::int64_t number = 0;
  if (text.empty() || text == "*") return true;
  if (!absl::SimpleAtoi(text, &number)) return false;
  *value = number;
  return true;
}

bool ReadRange(absl::string_view text, v1::RowRange* range) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  std::int64_t begin = 0;
  std::int64_t end = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &begin) || !absl::SimpleAtoi(parts[1], &end)) return false;
  range->set_begin(begin);
  range->set_end(end);
  return true;
}

// llama3:FACTOR,LOW,HIGH,CONTEXT
bool ReadLlama3(const std::vector<absl::string_view>& parts, v1::Llama3Scaling* scaling) {
  double factor = 0;
  double low = 0;
  double high = 0;
  std::int64_t context = 0;
  if (parts.size() != 4 || !absl::SimpleAtod(parts[0], &factor) || !absl::SimpleAtod(parts[1], &low) ||
      !absl::SimpleAtod(parts[2], &high) || !absl::SimpleAtoi(parts[3], &context)) {
    return false;
  }
  scaling->set_factor(factor);
  scaling->set_low_frequency_factor(low);
  scaling->set_high_frequency_factor(high);
  scaling->set_original_context(context);
  return true;
}

// yarn:FACTOR,CONTEXT[,BETA_FAST,BETA_SLOW[,ATTENTION_FACTOR]]
bool ReadYarn(const std::vector<absl::string_view>& parts, v1::YarnScaling* scaling) {
  double factor = 0;
  std::int64_t context = 0;
  if (parts.size() != 2 && parts.size() != 4 && parts.size() != 5) return false;
  if (!absl::SimpleAtod(parts[0], &factor) || !absl::SimpleAtoi(parts[1], &context)) return false;
  scaling->set_factor(factor);
  scaling->set_original_context(context);
  std::vector<double> more;
  for (std::size_t i = 2; i < parts.size(); ++i) {
    if (!absl::SimpleAtod(parts[i], &more.emplace_back())) return false;
  }
  if (more.size() > 1) {
    scaling->set_beta_fast(more[0]);
    scaling->set_beta_slow(more[1]);
  }
  if (more.size() > 2) scaling->set_attention_factor(more[2]);
  return true;
}

bool ReadScaling(absl::string_view name, absl::string_view numbers, v1::RotaryPositions* rotary) {
  if (name == "llama3") return ReadLlama3(absl::StrSplit(numbers, ','), rotary->mutable_llama3());
  if (name == "yarn") return ReadYarn(absl::StrSplit(numbers, ','), rotary->mutable_yarn());
  double factor = 0;
  if (!absl::SimpleAtod(numbers, &factor)) return false;
  if (name == "linear") {
    rotary->mutable_linear()->set_factor(factor);
  } else if (name == "ntk") {
    rotary->mutable_ntk_aware()->set_factor(factor);
  } else {
    return false;
  }
  return true;
}

bool ReadReducer(absl::string_view text, v1::PooledMap* pooled) {
  if (text == "max") {
    pooled->set_reducer(v1::POOL_REDUCER_MAX);
  } else if (text == "mean") {
    pooled->set_reducer(v1::POOL_REDUCER_MEAN);
  } else if (text == "sum") {
    pooled->set_reducer(v1::POOL_REDUCER_SUM);
  } else {
    return false;
  }
  return true;
}

// ROWSxCOLUMNS,REDUCER
bool ReadPooled(absl::string_view text, v1::PooledMap* pooled) {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  // "max" has an x too: the sizes end at the first comma.
  const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(text, absl::MaxSplits(',', 1));
  const std::vector<absl::string_view> sizes = absl::StrSplit(halves.first, 'x');
  if (sizes.size() != 2 || !absl::SimpleAtoi(sizes[0], &rows) || !absl::SimpleAtoi(sizes[1], &columns)) return false;
  pooled->set_rows(rows);
  pooled->set_columns(columns);
  return ReadReducer(halves.second, pooled);
}

bool ReadForm(absl::string_view form, v1::WeightMaps* maps) {
  std::uint32_t k = 0;
  if (form == "full") {
    maps->mutable_full();
  } else if (form == "columns") {
    maps->mutable_column_sums();
  } else if (absl::ConsumePrefix(&form, "top=")) {
    if (!absl::SimpleAtoi(form, &k)) return false;
    maps->mutable_top_keys()->set_k(k);
  } else {
    return absl::ConsumePrefix(&form, "pooled=") && ReadPooled(form, maps->mutable_pooled());
  }
  return true;
}

bool ReadStage(absl::string_view stage, v1::WeightMaps* maps) {
  if (stage == "weights") {
    maps->set_stage(v1::MAP_STAGE_WEIGHTS);
  } else if (stage == "scaled") {
    maps->set_stage(v1::MAP_STAGE_SCALED);
  } else if (stage == "softcapped") {
    maps->set_stage(v1::MAP_STAGE_SOFTCAPPED);
  } else if (stage == "biased") {
    maps->set_stage(v1::MAP_STAGE_BIASED);
  } else {
    return false;
  }
  return true;
}

bool ReadHeads(absl::string_view text, v1::WeightMaps* maps) {
  if (text == "all") return true;
  const auto read = [](absl::string_view head, std::uint32_t* number) { return absl::SimpleAtoi(head, number); };
  const auto heads = ReadList<std::uint32_t>(text, read);
  if (heads.has_value()) maps->mutable_heads()->Assign(heads->begin(), heads->end());
  return heads.has_value();
}

}  // namespace

absl::StatusOr<Alignment> ParseAlignment(absl::string_view flag, absl::string_view text) {
  absl::string_view offset = text;
  std::int64_t value = 0;
  if (text == "top-left") return Alignment{v1::CAUSAL_ALIGNMENT_TOP_LEFT, std::nullopt};
  if (text == "bottom-right") return Alignment{v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT, std::nullopt};
  if (absl::ConsumePrefix(&offset, "explicit:") && absl::SimpleAtoi(offset, &value)) {
    return Alignment{v1::CAUSAL_ALIGNMENT_EXPLICIT, value};
  }
  return BadValue(flag, text, "one of top-left, bottom-right and explicit:OFFSET");
}

absl::StatusOr<v1::WindowMask> ParseWindow(absl::string_view text) {
  const auto sides = ReadList<std::optional<std::int64_t>>(text, ReadSide);
  if (!sides.has_value() || sides->size() != 2) {
    return BadValue("--window", text, "LEFT,RIGHT: two whole numbers, an unbounded side empty or *, such as 128,0");
  }
  v1::WindowMask window;
  if (sides->front().has_value()) window.set_left(*sides->front());
  if (sides->back().has_value()) window.set_right(*sides->back());
  return window;
}

absl::Status ParseRotaryScaling(absl::string_view text, v1::RotaryPositions* rotary) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (ReadScaling(parts.first, parts.second, rotary)) return absl::OkStatus();
  return BadValue("--rotary-scaling", text,
                  "one of linear:FACTOR, ntk:FACTOR, llama3:FACTOR,LOW,HIGH,CONTEXT and "
                  "yarn:FACTOR,CONTEXT[,BETA_FAST,BETA_SLOW[,ATTENTION_FACTOR]]");
}

absl::StatusOr<std::vector<std::int64_t>> ParseIntegers(absl::string_view flag, absl::string_view text) {
  auto values = ReadList<std::int64_t>(text, ReadInteger);
  if (!values.has_value()) return BadValue(flag, text, "a list of whole numbers such as 0,0,1");
  return *std::move(values);
}

absl::StatusOr<std::vector<float>> ParseNumbers(absl::string_view flag, absl::string_view text) {
  auto values = ReadList<float>(text, [](absl::string_view x, float* value) { return absl::SimpleAtof(x, value); });
  if (!values.has_value()) return BadValue(flag, text, "a list of numbers such as 0.5,1");
  return *std::move(values);
}

absl::StatusOr<std::vector<v1::RowRange>> ParseRanges(absl::string_view flag, absl::string_view text) {
  auto ranges = ReadList<v1::RowRange>(text, ReadRange);
  if (!ranges.has_value()) return BadValue(flag, text, "a list of ranges BEGIN:END without END itself, such as 0:4");
  return *std::move(ranges);
}

absl::StatusOr<v1::WeightMaps> ParseMaps(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> staged = absl::StrSplit(text, absl::MaxSplits('@', 1));
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(staged.first, absl::MaxSplits(':', 1));
  v1::WeightMaps maps;
  bool good = ReadHeads(parts.first, &maps);
  good = good && ReadForm(absl::StrContains(staged.first, ':') ? parts.second : "full", &maps);
  good = good && (!absl::StrContains(text, '@') || ReadStage(staged.second, &maps));
  if (good) return maps;
  return BadValue("--maps", text,
                  "HEADS[:FORM][@STAGE], with HEADS all or numbers such as 0,2, FORM full, top=K, "
                  "pooled=ROWSxCOLUMNS,max|mean|sum or columns, and STAGE weights, scaled, softcapped or biased");
}

}  // namespace headlight::cli
