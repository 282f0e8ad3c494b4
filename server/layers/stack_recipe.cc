#include "server/layers/stack_recipe.h"

#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/layers/check_layer.h"

namespace headlight {
namespace {

class StackFinder {
 public:
  StackFinder(const Safetensors& file, Violations& violations) : file_(file), violations_(violations) {}

  StackRecipe Find(const std::vector<LayerRecipe>& layers, const Limits& limits) {
    stack_.token_embedding = Take("token_embedding", 2, true);
    stack_.position_embedding = Take("position_embedding", 2, false);
    stack_.unembedding = Take("unembedding", 2, true);
    stack_.unembedding_bias = Take("unembedding_bias", 1, false);
    stack_.final_norm = Norm("final_norm");
    for (const LayerRecipe& layer : layers) {
      stack_.norms.push_back(Norm(layer.number.has_value() ? absl::StrCat("layers.", *layer.number, ".norm") : "norm"));
    }
    if (!stack_.token_embedding.empty() && !stack_.unembedding.empty()) CheckShapes(layers, limits);
    ReadMetadata();
    return std::move(stack_);
  }

 private:
  TensorSource Take(const std::string& name, std::size_t rank, bool required) {
    return SourceOfTensor(file_, name, {rank, required, false}, violations_);
  }

  NormRecipe Norm(const std::string& name) {
    NormRecipe norm{Take(name + ".weight", 1, false), Take(name + ".bias", 1, false)};
    if (norm.weight.empty() && !norm.bias.empty()) {
      violations_.Add(TensorPath(norm.bias.tensor), "a bias", "none without a weight");
    }
    return norm;
  }

  void CheckShape(const TensorSource& source, const Shape& expected) {
    if (source.empty() || source.shape == expected) return;
    violations_.Add(TensorPath(source.tensor, ".shape"), ToString(source.shape), ToString(expected));
  }

  void CheckShapes(const std::vector<LayerRecipe>& layers, const Limits& limits) {
    const std::int64_t words = stack_.token_embedding.rows();
    const std::int64_t width = stack_.token_embedding.columns();
    CheckShape(stack_.unembedding, {width, words});
    CheckShape(stack_.unembedding_bias, {words});
    if (!stack_.position_embedding.empty()) {
      CheckShape(stack_.position_embedding, {stack_.position_embedding.rows(), width});
      if (stack_.position_embedding.rows() > limits.max_tokens) {
        violations_.Add(TensorPath("position_embedding", ".shape"), ToString(stack_.position_embedding.shape),
                        absl::StrCat("at most ", limits.max_tokens, " rows"));
      }
    }
    CheckShape(stack_.final_norm.weight, {width});
    CheckShape(stack_.final_norm.bias, {width});
    for (std::size_t i = 0; i < layers.size(); ++i) {
      CheckShape(stack_.norms[i].weight, {width});
      CheckShape(stack_.norms[i].bias, {width});
      CheckLayerOfStack(layers[i], static_cast<std::int64_t>(i), width);
    }
  }

  // Every layer reads and writes the stack's width, says its heads, and none is missing.
  void CheckLayerOfStack(const LayerRecipe& layer, std::int64_t number, std::int64_t width) {
    const std::string name = absl::StrCat("layers.", number);
    if (layer.number.value_or(0) != number) {
      violations_.Add(TensorPath(absl::StrCat(name, ".query")), "no such tensor", "layers without a gap, from 0");
    }
    if (layer[LayerField::kOutput].empty()) {
      violations_.Add(TensorPath(absl::StrCat(name, ".output")), "no such tensor", "one in each layer of a stack");
    }
    for (const LayerField field : {LayerField::kQuery, LayerField::kKey}) {
      if (!layer[field].empty() && layer[field].rows() != width) {
        violations_.Add(TensorPath(layer[field].tensor, ".shape"), ToString(layer[field].shape),
                        absl::StrCat(width, " rows, as wide as the token_embedding"));
      }
    }
    if (!layer[LayerField::kOutput].empty() && layer[LayerField::kOutput].columns() != width) {
      violations_.Add(TensorPath(layer[LayerField::kOutput].tensor, ".shape"),
                      ToString(layer[LayerField::kOutput].shape),
                      absl::StrCat(width, " columns, as wide as the token_embedding"));
    }
    if (layer.query_heads == 0) {
      violations_.Add("header.query_heads", "0", "the number of query heads, which a stack must say");
    }
  }

  void Refuse(absl::string_view name, const std::string& got, std::string expected) {
    violations_.Add(absl::StrCat("header.__metadata__[\"headlight.", name, "\"]"), got, std::move(expected));
  }

  const std::string* Metadata(absl::string_view name) const {
    const auto found = file_.metadata.find(absl::StrCat("headlight.", name));
    return found == file_.metadata.end() ? nullptr : &found->second;
  }

  void ReadMetadata() {
    if (const std::string* causal = Metadata("causal"); causal != nullptr) {
      stack_.causal = *causal == "true";
      if (!stack_.causal && *causal != "false") Refuse("causal", *causal, "\"true\" or \"false\"");
    }
    if (const std::string* epsilon = Metadata("norm_epsilon"); epsilon != nullptr) {
      const bool is_number = absl::SimpleAtod(*epsilon, &stack_.norm_epsilon) && std::isfinite(stack_.norm_epsilon);
      if (!is_number || stack_.norm_epsilon <= 0) Refuse("norm_epsilon", *epsilon, "a number above 0");
    }
    if (const std::string* description = Metadata("description"); description != nullptr) {
      constexpr std::size_t kMost = 4096;
      if (description->size() > kMost) {
        Refuse("description", absl::StrCat(description->size(), " bytes"), absl::StrCat("at most ", kMost));
      }
      stack_.description = *description;
    }
    const std::string* words = Metadata("vocabulary");
    if (words == nullptr || stack_.token_embedding.empty()) return;
    stack_.vocabulary = absl::StrSplit(*words, '\n');
    const std::set<absl::string_view> different(stack_.vocabulary.begin(), stack_.vocabulary.end());
    const std::int64_t expected = stack_.token_embedding.rows();
    if (static_cast<std::int64_t>(stack_.vocabulary.size()) != expected ||
        different.size() != stack_.vocabulary.size() || different.count("") != 0) {
      Refuse("vocabulary", absl::StrCat(stack_.vocabulary.size(), " words, ", different.size(), " of them different"),
             absl::StrCat(expected, " different words, one a line"));
    }
  }

  const Safetensors& file_;
  Violations& violations_;
  StackRecipe stack_;
};

}  // namespace

std::optional<StackRecipe> FindStack(const Safetensors& file, const std::vector<LayerRecipe>& layers,
                                     const Limits& limits, Violations& violations) {
  if (file.tensors.count("token_embedding") == 0 && file.tensors.count("unembedding") == 0) return std::nullopt;
  return StackFinder(file, violations).Find(layers, limits);
}

std::vector<const TensorSource*> SourcesOf(const FileRecipe& recipe) {
  std::vector<const TensorSource*> sources;
  const auto add = [&sources](const TensorSource& source) {
    if (!source.empty()) sources.push_back(&source);
  };
  for (const LayerRecipe& layer : recipe.layers) {
    for (const TensorSource& source : layer.sources) add(source);
  }
  if (!recipe.stack.has_value()) return sources;
  const StackRecipe& stack = *recipe.stack;
  for (const TensorSource* source : {&stack.token_embedding, &stack.position_embedding, &stack.unembedding,
                                     &stack.unembedding_bias, &stack.final_norm.weight, &stack.final_norm.bias}) {
    add(*source);
  }
  for (const NormRecipe& norm : stack.norms) {
    add(norm.weight);
    add(norm.bias);
  }
  return sources;
}

}  // namespace headlight
