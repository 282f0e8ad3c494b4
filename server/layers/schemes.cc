#include "server/layers/schemes.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/errors.h"
#include "server/layers/check_layer.h"
#include "server/layers/stack_recipe.h"

namespace headlight {
namespace {

constexpr absl::string_view kNumber = "{layer}";
constexpr std::size_t kMostDigits = 5;

// How a scheme writes its layers.
struct Scheme {
  const char* name;
  std::vector<std::string> prefixes;
  TensorNames names;
  bool needs_output;
};

const std::vector<Scheme>& Schemes() {
  static const auto& schemes = *new std::vector<Scheme>{
      {"gpt2",
       {"", "transformer."},
       {"", "", "", "h.{layer}.attn.c_proj.weight", "h.{layer}.attn.c_attn.weight", "", "", "",
        "h.{layer}.attn.c_proj.bias", "h.{layer}.attn.c_attn.bias", false},
       true},
      {"bert",
       {"", "bert."},
       {"encoder.layer.{layer}.attention.self.query.weight", "encoder.layer.{layer}.attention.self.key.weight",
        "encoder.layer.{layer}.attention.self.value.weight", "encoder.layer.{layer}.attention.output.dense.weight", "",
        "encoder.layer.{layer}.attention.self.query.bias", "encoder.layer.{layer}.attention.self.key.bias",
        "encoder.layer.{layer}.attention.self.value.bias", "encoder.layer.{layer}.attention.output.dense.bias", "",
        true},
       true},
      {"llama",
       {"model.", ""},
       {"layers.{layer}.self_attn.q_proj.weight", "layers.{layer}.self_attn.k_proj.weight",
        "layers.{layer}.self_attn.v_proj.weight", "layers.{layer}.self_attn.o_proj.weight", "",
        "layers.{layer}.self_attn.q_proj.bias", "layers.{layer}.self_attn.k_proj.bias",
        "layers.{layer}.self_attn.v_proj.bias", "layers.{layer}.self_attn.o_proj.bias", "", true},
       true},
      {"headlight",
       {"layers.{layer}.", ""},
       {"query", "key", "value", "output", "", "query_bias", "key_bias", "value_bias", "output_bias", "", false},
       false}};
  return schemes;
}

// All names of `names`; a scheme's with one of its prefixes.
std::vector<std::string*> Fields(TensorNames& n) {
  return {&n.query,      &n.key,      &n.value,      &n.output,      &n.query_key_value,
          &n.query_bias, &n.key_bias, &n.value_bias, &n.output_bias, &n.query_key_value_bias};
}

TensorNames Prefixed(TensorNames names, const std::string& prefix) {
  for (std::string* name : Fields(names)) {
    if (!name->empty()) *name = prefix + *name;
  }
  return names;
}

TensorNames Numbered(TensorNames names, std::optional<std::int64_t> number) {
  if (!number.has_value()) return names;
  for (std::string* name : Fields(names)) *name = absl::StrReplaceAll(*name, {{kNumber, absl::StrCat(*number)}});
  return names;
}

// The number that stands in `name` where `pattern` has "{layer}".
std::optional<std::int64_t> NumberIn(absl::string_view name, absl::string_view pattern) {
  const std::size_t at = pattern.find(kNumber);
  const absl::string_view before = pattern.substr(0, at), after = pattern.substr(at + kNumber.size());
  if (name.size() <= before.size() + after.size()) return std::nullopt;
  if (!absl::StartsWith(name, before) || !absl::EndsWith(name, after)) return std::nullopt;
  const absl::string_view digits = name.substr(before.size(), name.size() - before.size() - after.size());
  const bool plain = digits.find_first_not_of("0123456789") == absl::string_view::npos;
  std::int64_t number = 0;
  if (!plain || digits.size() > kMostDigits || (digits.size() > 1 && digits[0] == '0')) return std::nullopt;
  return absl::SimpleAtoi(digits, &number) ? std::optional(number) : std::nullopt;
}

// The layers that have a tensor of one of these names: numbers, or nothing where the names have none.
std::set<std::optional<std::int64_t>> LayersOf(const Safetensors& file, TensorNames names) {
  std::set<std::optional<std::int64_t>> layers;
  for (const std::string* pattern : Fields(names)) {
    if (pattern->empty()) continue;
    if (pattern->find(std::string(kNumber)) == std::string::npos) {
      if (file.tensors.count(*pattern) != 0) layers.insert(std::nullopt);
      continue;
    }
    for (const auto& [name, _] : file.tensors) {
      if (const auto number = NumberIn(name, *pattern); number.has_value()) layers.insert(number);
    }
  }
  return layers;
}

// Finds the tensors of one layer and how they lie.
class LayerFinder {
 public:
  // `all`: each tensor that is named must be there.
  LayerFinder(const Safetensors& file, const TensorNames& names, bool all, Violations& violations)
      : file_(file), names_(names), all_(all), violations_(violations) {}

  LayerRecipe Find(bool needs_output) {
    if (names_.query_key_value.empty()) {
      Take(LayerField::kQuery, names_.query, 2, true);
      Take(LayerField::kKey, names_.key, 2, true);
      Take(LayerField::kValue, names_.value, 2, true);
      Take(LayerField::kQueryBias, names_.query_bias, 1, all_);
      Take(LayerField::kKeyBias, names_.key_bias, 1, all_);
      Take(LayerField::kValueBias, names_.value_bias, 1, all_);
    }
    Take(LayerField::kOutput, names_.output, 2, needs_output);
    Take(LayerField::kOutputBias, names_.output_bias, 1, all_);
    return std::move(layer_);
  }

  // Splits what is stored side by side: values are as wide as queries and keys, so the output says how wide the
  // queries are.
  void Split(LayerRecipe& layer) {
    if (names_.query_key_value.empty()) return;
    const TensorSource matrix = SourceOf(names_.query_key_value, 2, true);
    const TensorSource bias = SourceOf(names_.query_key_value_bias, 1, all_);
    if (matrix.empty() || layer[LayerField::kOutput].empty()) return;
    const std::int64_t all = matrix.columns();
    const std::int64_t query = layer[LayerField::kOutput].rows();
    const std::int64_t key = (all - query) / 2;
    if (query >= all || query + 2 * key != all) {
      violations_.Add(TensorPath(matrix.tensor, ".shape"), ToString(matrix.stored),
                      absl::StrCat("queries as wide as the output's rows, ", query, ", keys and values side by side"));
      return;
    }
    if (!bias.empty() && bias.columns() != all) {
      violations_.Add(TensorPath(bias.tensor, ".shape"), ToString(bias.stored), absl::StrCat("[", all, "]"));
      return;
    }
    Part(matrix, 0, query, layer[LayerField::kQuery]);
    Part(matrix, query, key, layer[LayerField::kKey]);
    Part(matrix, query + key, key, layer[LayerField::kValue]);
    if (bias.empty()) return;
    Part(bias, 0, query, layer[LayerField::kQueryBias]);
    Part(bias, query, key, layer[LayerField::kKeyBias]);
    Part(bias, query + key, key, layer[LayerField::kValueBias]);
  }

 private:
  static void Part(const TensorSource& all, std::int64_t first, std::int64_t width, TensorSource& part) {
    part = all;
    part.shape.back() = width;
    part.offset += first * all.column_stride;
  }

  void Take(LayerField field, const std::string& name, std::size_t rank, bool required) {
    layer_[field] = SourceOf(name, rank, required);
  }

  TensorSource SourceOf(const std::string& name, std::size_t rank, bool required) {
    if (name.empty()) return {};
    return SourceOfTensor(file_, name, {rank, required, rank == 2 && names_.transposed}, violations_);
  }

  const Safetensors& file_;
  const TensorNames& names_;
  const bool all_;
  Violations& violations_;
  LayerRecipe layer_;
};

// Which names the layers have, and of whom.
struct Naming {
  std::string scheme;
  TensorNames names;
  bool needs_output = true;
  std::set<std::optional<std::int64_t>> layers;
};

void CheckNames(const TensorNames& given, Violations& violations) {
  TensorNames names = given;
  const auto need = [&violations](const std::string& name, absl::string_view field) {
    if (name.empty()) violations.Add(absl::StrCat("header.tensor_names.", field), "nothing", "the name of a tensor");
  };
  const bool fused = !names.query_key_value.empty();
  if (!fused) {
    need(names.query, "query");
    need(names.key, "key");
    need(names.value, "value");
  } else if (!(names.query + names.key + names.value + names.query_bias + names.key_bias + names.value_bias).empty()) {
    violations.Add("header.tensor_names", "query_key_value and a part of it", "one or the other");
  }
  need(names.output, "output");
  if (!fused && !names.query_key_value_bias.empty()) {
    violations.Add("header.tensor_names.query_key_value_bias", "a name", "nothing, without query_key_value");
  }
  std::int64_t with = 0, without = 0;
  for (const std::string* name : Fields(names)) {
    if (name->empty()) continue;
    const std::size_t at = name->find(std::string(kNumber));
    ++(at == std::string::npos ? without : with);
    if (at != std::string::npos && name->find(std::string(kNumber), at + 1) != std::string::npos) {
      violations.Add("header.tensor_names", *name, "\"{layer}\" once in a name");
    }
  }
  if (with != 0 && without != 0) {
    violations.Add("header.tensor_names", "names with and without \"{layer}\"", "all with it, or none");
  }
}

Naming NamingOf(const Safetensors& file, const FileHints& hints, Violations& violations) {
  if (hints.names.has_value()) {
    CheckNames(*hints.names, violations);
    Naming naming{"mapped", *hints.names, true, {}};
    if (violations.empty()) naming.layers = LayersOf(file, naming.names);
    if (violations.empty() && naming.layers.empty()) {
      violations.Add("header.tensor_names", "names of no tensor in the file", "names of its tensors");
    }
    return naming;
  }
  std::vector<Naming> found;
  for (const Scheme& scheme : Schemes()) {
    for (const std::string& prefix : scheme.prefixes) {
      Naming naming{scheme.name, Prefixed(scheme.names, prefix), scheme.needs_output, {}};
      naming.layers = LayersOf(file, naming.names);
      if (!naming.layers.empty()) found.push_back(std::move(naming));
    }
  }
  if (found.size() == 1) return found.front();
  const std::string got =
      found.empty() ? "names of no known scheme"
                    : absl::StrCat("names of ", found[0].scheme, " and, or with another prefix, of ", found[1].scheme);
  violations.Add("tensors", got, "those of GPT-2, BERT, Llama or headlight alone, or tensor_names that map them");
  return {};
}

void CheckCount(const Naming& naming, Violations& violations) {
  constexpr std::size_t kMost = 1024;
  if (naming.layers.size() > kMost) {
    violations.Add("tensors", absl::StrCat(naming.layers.size(), " layers"), absl::StrCat("at most ", kMost));
  }
}

// In a file of our own names a tensor that nothing reads is one that is misspelled.
void CheckAllIsRead(const Safetensors& file, const FileRecipe& recipe, Violations& violations) {
  std::set<std::string> read;
  for (const TensorSource* source : SourcesOf(recipe)) read.insert(source->tensor);
  for (const auto& [name, _] : file.tensors) {
    if (read.count(name) != 0) continue;
    violations.Add(TensorPath(name), "a tensor that no layer or stack has", "names as docs/layers.md lists them");
  }
}

}  // namespace

std::string ReadingOf(const FileHints& hints) {
  std::string reading;
  for (const std::int64_t heads :
       {hints.query_heads, hints.key_value_heads, hints.fallback_query_heads, hints.fallback_key_value_heads}) {
    absl::StrAppend(&reading, heads, ",");
  }
  if (hints.names.has_value()) {
    const TensorNames& n = *hints.names;
    for (const std::string* name : {&n.query, &n.key, &n.value, &n.output, &n.query_key_value, &n.query_bias,
                                    &n.key_bias, &n.value_bias, &n.output_bias, &n.query_key_value_bias}) {
      absl::StrAppend(&reading, name->size(), ":", *name, ",");
    }
    absl::StrAppend(&reading, n.transposed ? "transposed" : "as stored");
  }
  return reading == "0,0,0,0," ? std::string() : reading;
}

absl::StatusOr<FileRecipe> RecognizeLayers(const Safetensors& file, const FileHints& hints, const Limits& limits) {
  Violations violations;
  const HeadCounts heads = HeadsOf(file, hints, limits, violations);
  const Naming naming = NamingOf(file, hints, violations);
  CheckCount(naming, violations);
  if (!violations.empty()) return violations.ToStatus();
  FileRecipe recipe;
  recipe.scheme = naming.scheme;
  for (const std::optional<std::int64_t>& number : naming.layers) {
    const TensorNames names = Numbered(naming.names, number);
    LayerFinder finder(file, names, hints.names.has_value(), violations);
    LayerRecipe layer = finder.Find(naming.needs_output);
    finder.Split(layer);
    layer.number = number;
    layer.query_heads = heads.query;
    layer.key_value_heads = heads.key_value;
    CheckLayer(layer, limits, violations);
    recipe.layers.push_back(std::move(layer));
  }
  if (naming.scheme == "headlight") {
    recipe.stack = FindStack(file, recipe.layers, limits, violations);
    CheckAllIsRead(file, recipe, violations);
  }
  if (!violations.empty()) return violations.ToStatus();
  for (const TensorSource* source : SourcesOf(recipe)) {
    recipe.bytes += ElementCount(source->shape).value_or(0) * WidthOf(TensorKind::kF32);
  }
  return recipe;
}

}  // namespace headlight
