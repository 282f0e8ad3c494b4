#include "client/cli/explain.h"

#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/execution.h"
#include "client/cli/format.h"
#include "client/cli/maps.h"

namespace headlight::cli {
namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;

// "name      text", a line each.
std::string Aligned(const Lines& lines, int width) {
  std::string text;
  for (const auto& [name, value] : lines) absl::StrAppend(&text, Fit(name, width, Pad::kRight), " ", value, "\n");
  return text;
}

std::string HeadsText(std::uint32_t query, std::uint32_t key_value, std::uint32_t size, std::uint32_t value_size) {
  return absl::StrCat(query, query == 1 ? " query head over " : " query heads over ", key_value,
                      key_value == 1 ? " key/value head, size " : " key/value heads, size ", size, ", values of size ",
                      value_size);
}

std::string AdmissionText(v1::AdmissionForecast admission) {
  switch (admission) {
    case v1::ADMISSION_FORECAST_ADMITTED: return "would be computed at once";
    case v1::ADMISSION_FORECAST_QUEUED: return "would wait";
    case v1::ADMISSION_FORECAST_REFUSED: return "would be refused";
    default: return "the server does not say";
  }
}

// A diagonal in words; `none` where there is none.
std::string DiagonalText(v1::CausalAlignment alignment, const char* none) {
  switch (alignment) {
    case v1::CAUSAL_ALIGNMENT_UNSPECIFIED: return none;
    case v1::CAUSAL_ALIGNMENT_TOP_LEFT: return "top-left: row i stands at key i";
    case v1::CAUSAL_ALIGNMENT_BOTTOM_RIGHT: return "bottom-right: the last row stands at the last key";
    case v1::CAUSAL_ALIGNMENT_EXPLICIT: return "explicit: row i stands at key i + offset";
    default: return "unknown";
  }
}

// Text of the server's, with the words for the values that the contract names.
std::string InWords(const std::string& text, const std::vector<std::pair<const char*, const char*>>& words) {
  for (const auto& [value, meaning] : words) {
    if (text == value) return absl::StrCat(value, ": ", meaning);
  }
  return text.empty() ? "the server does not say" : Printable(text);
}

std::string SoftcapText(const v1::Execution& e) {
  if (e.softcap() == 0) return "none";
  return absl::StrFormat("%.6g, %s", e.softcap(),
                         InWords(e.softcap_order(), {{"before_bias", "ahead of ALiBi, the mask and the rules"}}));
}

}  // namespace

std::string PlanText(const v1::PlanAttentionResponse& plan) {
  Lines lines = {
      {"plan", absl::StrCat(NameOf(plan.algorithm()), " (", Printable(plan.reason()), ")")},
      {"heads", HeadsText(plan.query_heads(), plan.key_value_heads(), plan.head_size(), plan.value_head_size())},
      {"work",
       absl::StrCat(HumanFlops(plan.flops()), ", of them ", HumanFlops(plan.projection_flops()), " for projections")},
      {"naive", absl::StrCat(HumanBytes(plan.naive_bytes()), " of workspace")},
      {"flash", absl::StrCat(HumanBytes(plan.flash_bytes()), " of workspace")},
      {"full grid", absl::StrCat(HumanBytes(plan.score_grid_bytes()), " of scores")},
      {"answer", absl::StrCat("at most ", HumanBytes(plan.response_bytes()))},
      {"time", plan.has_predicted() ? HumanSeconds(SecondsOf(plan.predicted())) : "the server does not say"},
      {"admission", AdmissionText(plan.admission())}};
  for (const v1::PlanViolation& violation : plan.violations()) {
    lines.emplace_back("too large", Printable(absl::StrCat(violation.field(), ": got ", violation.got(), ", expected ",
                                                           violation.expected())));
  }
  return Aligned(lines, 10);
}

std::string ConventionsText(const v1::Execution& e) {
  const Lines lines = {
      {"algorithm", absl::StrCat(NameOf(e.algorithm()), " (", Printable(e.algorithm_reason()), ")")},
      {"precision", NameOf(e.precision())},
      {"cpu target", Printable(e.cpu_target())},
      {"heads", HeadsText(e.query_heads(), e.key_value_heads(), e.head_size(), e.value_head_size())},
      {"scale", absl::StrFormat("%.6g on Q K^T", e.scale())},
      {"softcap", SoftcapText(e)},
      {"positions", InWords(e.position_scheme(), {{"none", "a bag of words"},
                                                  {"sinusoidal", "added to the embeddings"},
                                                  {"learned", "added to the embeddings"},
                                                  {"rotary", "turn Q and K"},
                                                  {"alibi", "added to the scores"}})},
      {"causal mask", DiagonalText(e.causal_alignment(), "none: later keys are seen")},
      {"window mask", DiagonalText(e.window_alignment(), "none: far keys are seen")},
      {"boolean mask", InWords(e.boolean_mask(), {{"true_attends", "true means that the pair may attend"}})},
      {"non-finite", InWords(e.non_finite(), {{"refused", "NaN and infinity in the input are an error"},
                                              {"ieee", "NaN and infinity follow IEEE rules where a row sees them"}})}};
  return absl::StrCat("conventions\n", Aligned(lines, 12));
}

absl::StatusOr<std::string> SentencesText(const v1::AttendRequest& request, const v1::AttendResponse& response) {
  const Words words = WordsOf(request);
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::int64_t, std::int64_t>> told;
  std::string text;
  for (const v1::WeightMap& map : response.maps()) {
    const absl::StatusOr<std::string> sentences = RowSentences(map, words, FormOf(request, map));
    if (!sentences.ok()) return sentences.status();
    if (sentences->empty() || !told.emplace(map.batch(), map.head(), map.row_begin(), map.row_end()).second) continue;
    absl::StrAppend(&text, text.empty() ? "" : "\n", "batch ", map.batch(), ", head ", map.head());
    const auto index = static_cast<std::int64_t>(map.request_index());
    if (index < request.outputs().maps_size() && request.outputs().maps(static_cast<int>(index)).has_keys()) {
      const v1::RowRange& keys = request.outputs().maps(static_cast<int>(index)).keys();
      absl::StrAppend(&text, ", among keys ", keys.begin(), "..", keys.end() - 1);
    }
    absl::StrAppend(&text, "\n", *sentences);
  }
  if (text.empty()) return "no sentences: they need a full map or top keys of the weights (--maps)\n";
  return text;
}

}  // namespace headlight::cli
