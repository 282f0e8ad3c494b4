#include "server/service/circuits_check.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/errors.h"
#include "server/service/decode_fields.h"

namespace headlight {
namespace {

constexpr std::int64_t kMostDirections = 64;
constexpr std::int64_t kMostScores = std::int64_t{1} << 22;

// The call's checks, in the order of the message's fields.
class Check {
 public:
  Check(const v1::AnalyzeCircuitsRequest& request, const LayerStore& layers, const Limits& limits)
      : request_(request), layers_(layers), limits_(limits) {}

  absl::StatusOr<CheckedCircuits> Run() {
    CheckedCircuits checked;
    checked.layer = Find("layer", request_.layer());
    std::optional<CircuitLayer> layer;
    if (checked.layer != nullptr) layer = Heads("", *checked.layer, request_.query_heads(), request_.key_value_heads());
    CircuitsProblem& problem = checked.problem;
    problem.heads = ChosenHeads(layer);
    problem.directions = request_.directions();
    InLimit("directions", problem.directions, 0, kMostDirections);
    Pairs(layer, problem);
    if (!request_.later_layer().empty()) {
      Later(layer, checked);
    } else if (request_.later_query_heads() != 0 || request_.later_key_value_heads() != 0) {
      violations_.Add("later_layer", "nothing", "the layer whose heads are given");
    }
    if (!v1::Priority_IsValid(request_.priority())) {
      violations_.Add("priority", absl::StrCat("number ", request_.priority()), "INTERACTIVE or BATCH");
    }
    if (request_.has_swap()) Swap(layer, checked.swap);
    if (!violations_.empty()) return violations_.ToStatus();
    if (!unknown_.empty()) return NotFoundByName(unknown_.front().first, unknown_.front().second, "layer");
    problem.layer = *layer;
    return checked;
  }

 private:
  // Null where there is none: an error of its own, or that of its field.
  std::shared_ptr<const Layer> Find(const std::string& field, const std::string& name) {
    CheckName(field, name, limits_, violations_);
    std::shared_ptr<const Layer> layer = layers_.FindLayer(name);
    if (layer == nullptr) unknown_.emplace_back(field, name);
    return layer;
  }

  bool InLimit(const std::string& field, std::int64_t value, std::int64_t low, std::int64_t high,
               absl::string_view what = "") {
    if (value >= low && value <= high) return true;
    const std::string got = absl::StrCat(what, value);
    const std::string expected = absl::StrCat(low, " to ", high);
    value > high ? violations_.AddTooExpensive(field, got, expected) : violations_.Add(field, got, expected);
    return false;
  }

  // Splits a layer's widths into heads. `prefix`: of the request's fields.
  std::optional<CircuitLayer> Heads(const std::string& prefix, const Layer& layer, std::int64_t query_heads,
                                    std::int64_t key_value_heads) {
    const std::int64_t told = violations_.count();
    CircuitLayer out;
    out.matrices = layer.views();
    out.query_heads = Wish(prefix + "query_heads", query_heads, layer.query_heads());
    if (out.query_heads == 0) return std::nullopt;
    out.key_value_heads = Wish(prefix + "key_value_heads", key_value_heads, layer.key_value_heads(), out.query_heads);
    const std::string heads = prefix + "query_heads";
    if (!InLimit(heads, out.query_heads, 1, limits_.max_heads)) return std::nullopt;
    const LayerViews& m = out.matrices;
    const std::int64_t width = m.query.shape[1];
    if (width % out.query_heads != 0) {
      violations_.Add(heads, absl::StrCat(out.query_heads),
                      absl::StrCat("a divisor of the layer's query width, ", width));
      return std::nullopt;
    }
    const std::int64_t kv = out.key_value_heads;
    const std::int64_t value_width = m.value.shape[1];
    if (kv == 0) return std::nullopt;
    if (out.query_heads % kv != 0 || m.key.shape[1] != kv * out.head_size() || value_width % kv != 0 ||
        (out.has_output() && m.output.shape[0] != value_width / kv * out.query_heads)) {
      violations_.Add(prefix + "key_value_heads", absl::StrCat(kv),
                      absl::StrCat("heads of size ", out.head_size(), " that fill the layer's key width, ",
                                   m.key.shape[1], ", and its value width, ", value_width));
      return std::nullopt;
    }
    const std::string field = prefix.empty() ? "layer" : "later_layer";
    InLimit(field, out.head_size(), 1, limits_.max_head_size, "head size ");
    InLimit(field, out.value_head_size(), 1, limits_.max_head_size, "value head size ");
    if (violations_.count() != told) return std::nullopt;
    return out;
  }

  // What the layer says, else the request, else `otherwise`. 0: reported.
  std::int64_t Wish(const std::string& field, std::int64_t wish, std::int64_t known, std::int64_t otherwise = 0) {
    if (known == 0 && wish == 0 && otherwise == 0) {
      violations_.Add(field, "0", "the number of query heads: the layer does not say it");
    }
    if (known == 0) return wish == 0 ? otherwise : wish;
    if (wish == 0 || wish == known) return known;
    violations_.Add(field, absl::StrCat(wish), absl::StrCat(known, ", as the layer says, or 0"));
    return 0;
  }

  std::vector<std::int64_t> ChosenHeads(const std::optional<CircuitLayer>& layer) {
    std::vector<std::int64_t> heads(request_.heads().begin(), request_.heads().end());
    if (!layer.has_value()) return heads;
    if (heads.empty()) {
      heads.resize(static_cast<std::size_t>(layer->query_heads));
      std::iota(heads.begin(), heads.end(), 0);
      return heads;
    }
    std::vector<bool> seen(static_cast<std::size_t>(layer->query_heads));
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const auto head = static_cast<std::size_t>(heads[i]);
      if (head < seen.size() && !seen[head]) {
        seen[head] = true;
        continue;
      }
      violations_.Add(absl::StrCat("heads[", i, "]"), absl::StrCat(heads[i]),
                      absl::StrCat("0 to ", seen.size() - 1, ", each once"));
    }
    std::sort(heads.begin(), heads.end());
    return heads;
  }

  // Rows of float32 of the given width, 0: not known. Empty where they cannot be used.
  TensorView Rows(const std::string& field, const v1::Tensor& tensor, std::int64_t width) {
    TensorView view;
    const TensorForm form = *DecodeTensor(true, tensor, view);
    const std::string path = field + ".shape";
    if (form.kind != TensorKind::kF32) {
      violations_.Add(field + ".data", std::string(NameOf(form.kind)), "f32");
      return {};
    }
    if (form.shape.size() != 2 || form.shape[0] < 1 || form.shape[1] < 1) {
      violations_.Add(path, ToString(form.shape), "rank 2, every axis at least 1");
      return {};
    }
    if (!InLimit(path, form.shape[0], 1, limits_.max_tokens, "rows ")) return {};
    if (width != 0 && form.shape[1] != width) {
      violations_.Add(path, absl::StrCat("width ", form.shape[1]),
                      absl::StrCat("width ", width, ", as the layer has it"));
      return {};
    }
    const std::optional<std::int64_t> count = ElementCount(form.shape);
    if (!count.has_value() || *count > limits_.max_tensor_elements) {
      violations_.AddTooExpensive(path, ToString(form.shape),
                                  absl::StrCat("at most ", limits_.max_tensor_elements, " elements"));
      return {};
    }
    const std::int64_t bytes = *count * WidthOf(form.kind);
    if (*form.payload_bytes == bytes) return view;
    violations_.Add(field + ".data", absl::StrCat(*form.payload_bytes, " bytes"),
                    absl::StrCat(bytes, " bytes for ", ToString(form.shape), " of f32"));
    return {};
  }

  void Pairs(const std::optional<CircuitLayer>& layer, CircuitsProblem& problem) {
    if (request_.has_queries() != request_.has_keys()) {
      violations_.Add(request_.has_queries() ? "keys" : "queries", "nothing", "queries and keys, or neither");
    }
    if (request_.has_queries()) problem.queries = Rows("queries", request_.queries(), layer ? layer->width() : 0);
    if (request_.has_keys()) problem.keys = Rows("keys", request_.keys(), layer ? layer->context_width() : 0);
    if (problem.queries.empty() || problem.keys.empty() || !layer.has_value()) return;
    const std::int64_t scores =
        problem.queries.shape[0] * problem.keys.shape[0] * static_cast<std::int64_t>(problem.heads.size());
    if (scores > kMostScores) {
      violations_.AddTooExpensive("queries.shape", absl::StrCat(scores, " scores of all heads"),
                                  absl::StrCat("at most ", kMostScores));
    }
  }

  void Later(const std::optional<CircuitLayer>& layer, CheckedCircuits& checked) {
    checked.later = Find("later_layer", request_.later_layer());
    if (checked.later == nullptr) return;
    const std::optional<CircuitLayer> later =
        Heads("later_", *checked.later, request_.later_query_heads(), request_.later_key_value_heads());
    if (!later.has_value() || !layer.has_value()) return;
    const std::int64_t width = layer->output_width();
    if (later->width() != width || later->context_width() != width) {
      violations_.Add("later_layer",
                      absl::StrCat("queries of width ", later->width(), ", keys of ", later->context_width()),
                      absl::StrCat("width ", width, ", which the layer writes"));
    }
    checked.problem.later = later;
  }

  void SwapHead(const std::string& field, std::int64_t head, const CircuitLayer& layer) {
    if (head < layer.query_heads) return;
    violations_.Add(field, absl::StrCat(head), absl::StrCat("0 to ", layer.query_heads - 1));
  }

  void Swap(const std::optional<CircuitLayer>& layer, std::optional<CheckedSwap>& swap) {
    const v1::CircuitSwap& asked = request_.swap();
    const bool flat = asked.embeddings().shape_size() == 2;
    if (!flat) {
      violations_.Add("swap.embeddings.shape", absl::StrCat("rank ", asked.embeddings().shape_size()), "rank 2");
    }
    if (asked.options().head_gains_size() > 0) {
      violations_.Add("swap.options.head_gains", absl::StrCat(asked.options().head_gains_size(), " numbers"), "none");
    }
    if (!layer.has_value()) return;
    if (layer->context_width() != layer->width()) {
      violations_.Add("swap", absl::StrCat("a layer whose keys have width ", layer->context_width()),
                      absl::StrCat("keys of width ", layer->width(), ", like its queries"));
    }
    SwapHead("swap.aim_head", asked.aim_head(), *layer);
    SwapHead("swap.cargo_head", asked.cargo_head(), *layer);
    DecodedCall decoded = DecodeLayered(asked.embeddings(), nullptr, request_.layer(), asked.options(), layers_);
    // What the request says of the layer's heads holds here, too.
    const auto fill = [this](const char* field, std::int64_t heads, std::int64_t& option) {
      if (option != 0 && option != heads) {
        violations_.Add(field, absl::StrCat(option), absl::StrCat(heads, ", as for the circuits, or 0"));
      }
      option = heads;
    };
    fill("swap.options.query_heads", layer->query_heads, decoded.request.query_heads);
    fill("swap.options.key_value_heads", layer->key_value_heads, decoded.request.key_value_heads);
    decoded.request.outputs.kind = TensorKind::kF32;
    absl::StatusOr<ProblemSpec> spec = CheckProblem(decoded.request, limits_);
    if (!spec.ok()) return Take(spec.status(), flat ? "" : "swap.embeddings.shape");
    swap = CheckedSwap{*std::move(spec), std::move(decoded.data), {asked.aim_head(), asked.cargo_head()}};
  }

  // The attention's violations under the names that they have here, but for those of a field that is told already.
  void Take(const absl::Status& status, absl::string_view told) {
    const ErrorDetails details = DetailsOf(status);
    const bool limits_alone = details.reason == ErrorReason::kRequestTooExpensive;
    for (const Violation& v : details.violations) {
      absl::string_view field = v.field;
      absl::ConsumePrefix(&field, "self_attention.");
      const std::string path = absl::StrCat("swap.", field);
      if (path == told || path == "swap.context") continue;  // the latter is told of the layer
      limits_alone ? violations_.AddTooExpensive(path, v.got, v.expected) : violations_.Add(path, v.got, v.expected);
    }
  }

  const v1::AnalyzeCircuitsRequest& request_;
  const LayerStore& layers_;
  const Limits& limits_;
  Violations violations_;
  std::vector<std::pair<std::string, std::string>> unknown_;  // field and name
};

}  // namespace

absl::StatusOr<CheckedCircuits> CheckCircuits(const v1::AnalyzeCircuitsRequest& request, const LayerStore& layers,
                                              const Limits& limits) {
  return Check(request, layers, limits).Run();
}

}  // namespace headlight
