#include "server/layers/schemes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/layers/load.h"
#include "tests/layers/files.h"

namespace headlight {
namespace {

using testing::FileOf;
using testing::FloatsOf;
using testing::Numbers;
using testing::Written;
using Tensors = std::map<std::string, Written>;

constexpr std::int64_t kWidth = 6;

absl::StatusOr<LayerFile> Load(const Tensors& tensors, const FileHints& hints = {},
                               const std::map<std::string, std::string>& metadata = {}) {
  return LoadLayers(FileOf(tensors, metadata), {"x", LayerOrigin::kFolder, hints}, Limits(), NoBudget);
}

// The first violation of what is refused.
Violation FirstOf(const absl::StatusOr<LayerFile>& file) {
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
  const ErrorDetails details = DetailsOf(file.status());
  return details.violations.empty() ? Violation() : details.violations.front();
}

Tensors Ours(const std::string& prefix = "", std::int64_t width = kWidth) {
  return {{prefix + "query", Numbers({width, 8}, 1).Store()},
          {prefix + "key", Numbers({width, 4}, 2).Store()},
          {prefix + "value", Numbers({width, 4}, 3).Store()},
          {prefix + "output", Numbers({8, width}, 4).Store()}};
}

void ExpectNumbers(const OwnedTensor& tensor, const Shape& shape, int seed) {
  EXPECT_EQ(tensor.shape, shape);
  EXPECT_EQ(FloatsOf(tensor), Numbers(shape, seed).Floats());
}

TEST(Schemes, OurOwnWithoutALayerNumber) {
  Tensors tensors = Ours();
  tensors["query_bias"] = Numbers({8}, 5).Store("F16");
  const auto file = Load(tensors, {}, {{"headlight.query_heads", "4"}});
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->layers.size(), 1U);
  const Layer& layer = *file->layers[0];
  EXPECT_EQ(layer.name(), "x");
  EXPECT_EQ(layer.facts().id, file->id);
  EXPECT_EQ(layer.facts().scheme, "headlight");
  EXPECT_EQ(layer.facts().tensors.at("query_bias"), "query_bias");
  EXPECT_EQ(layer.query_heads(), 4);
  EXPECT_EQ(layer.key_value_heads(), 2);  // as the widths make them
  ExpectNumbers(layer.matrices().query, {6, 8}, 1);
  ExpectNumbers(layer.matrices().key, {6, 4}, 2);
  ExpectNumbers(layer.matrices().value, {6, 4}, 3);
  ExpectNumbers(layer.matrices().output, {8, 6}, 4);
  ExpectNumbers(layer.matrices().query_bias, {8}, 5);
  EXPECT_TRUE(layer.matrices().key_bias.empty());
  EXPECT_EQ(file->bytes, layer.bytes());
  EXPECT_EQ(file->stack, nullptr);
}

TEST(Schemes, Gpt2SplitsWhatIsFused) {
  for (const std::string prefix : {"", "transformer."}) {
    Tensors tensors;
    for (const int n : {0, 1, 10}) {
      const std::string at = absl::StrCat(prefix, "h.", n, ".attn.");
      tensors[at + "c_attn.weight"] = Numbers({kWidth, 3 * kWidth}, n).Store("BF16");
      tensors[at + "c_attn.bias"] = Numbers({3 * kWidth}, n + 20).Store("BF16");
      tensors[at + "c_proj.weight"] = Numbers({kWidth, kWidth}, n + 40).Store("BF16");
      tensors[at + "c_proj.bias"] = Numbers({kWidth}, n + 60).Store("BF16");
      tensors[at + "bias"] = {"BOOL", {1}, "x"};  // the mask that old files carry
    }
    tensors[prefix + "wte.weight"] = Numbers({3, kWidth}, 9).Store("BF16");
    FileHints hints;
    hints.fallback_query_heads = 3;
    const auto file = Load(tensors, hints);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_EQ(file->layers.size(), 3U);
    EXPECT_EQ(file->layers[2]->name(), "x/10");
    EXPECT_EQ(file->layers[2]->facts().id, file->id + "/10");
    const Layer& layer = *file->layers[1];
    EXPECT_EQ(layer.facts().scheme, "gpt2");
    EXPECT_EQ(layer.facts().stored_kind, TensorKind::kBF16);
    EXPECT_EQ(layer.facts().tensors.at("value"), prefix + "h.1.attn.c_attn.weight");
    EXPECT_EQ(layer.query_heads(), 3);
    EXPECT_EQ(layer.key_value_heads(), 3);
    const Numbers fused({kWidth, 3 * kWidth}, 1), bias({3 * kWidth}, 21);
    const LayerMatrices& m = layer.matrices();
    for (std::int64_t c = 0; c < kWidth; ++c) {
      for (std::int64_t r = 0; r < kWidth; ++r) {
        EXPECT_EQ(m.query.floats()[r * kWidth + c], fused.At(r, c));
        EXPECT_EQ(m.key.floats()[r * kWidth + c], fused.At(r, kWidth + c));
        EXPECT_EQ(m.value.floats()[r * kWidth + c], fused.At(r, 2 * kWidth + c));
      }
      EXPECT_EQ(m.query_bias.floats()[c], bias.At(0, c));
      EXPECT_EQ(m.key_bias.floats()[c], bias.At(0, kWidth + c));
      EXPECT_EQ(m.value_bias.floats()[c], bias.At(0, 2 * kWidth + c));
    }
    ExpectNumbers(m.output, {6, 6}, 41);
    ExpectNumbers(m.output_bias, {6}, 61);
  }
}

TEST(Schemes, BertIsTurned) {
  for (const std::string prefix : {"", "bert."}) {
    const std::string at = prefix + "encoder.layer.0.attention.";
    Tensors tensors;
    int seed = 1;
    for (const char* name : {"self.query", "self.key", "self.value", "output.dense"}) {
      tensors[absl::StrCat(at, name, ".weight")] = Numbers({kWidth, kWidth}, seed).Store("F16", true);
      tensors[absl::StrCat(at, name, ".bias")] = Numbers({kWidth}, 10 + seed++).Store("F16");
    }
    tensors[at + "output.LayerNorm.weight"] = Numbers({kWidth}, 9).Store("F16");
    const auto file = Load(tensors);
    ASSERT_TRUE(file.ok()) << file.status();
    const Layer& layer = *file->layers.at(0);
    EXPECT_EQ(layer.name(), "x");
    EXPECT_EQ(layer.facts().scheme, "bert");
    EXPECT_EQ(layer.query_heads(), 0);  // nobody says
    ExpectNumbers(layer.matrices().query, {6, 6}, 1);
    ExpectNumbers(layer.matrices().value, {6, 6}, 3);
    ExpectNumbers(layer.matrices().output, {6, 6}, 4);
    ExpectNumbers(layer.matrices().output_bias, {6}, 14);
  }
}

TEST(Schemes, LlamaWithGroupedHeads) {
  const std::string at = "model.layers.0.self_attn.";
  FileHints hints;
  hints.query_heads = 4;
  const Tensors tensors = {{at + "q_proj.weight", Numbers({kWidth, 8}, 1).Store("BF16", true)},
                           {at + "k_proj.weight", Numbers({kWidth, 4}, 2).Store("BF16", true)},
                           {at + "v_proj.weight", Numbers({kWidth, 4}, 3).Store("BF16", true)},
                           {at + "o_proj.weight", Numbers({8, kWidth}, 4).Store("BF16", true)}};
  const auto file = Load(tensors, hints);
  ASSERT_TRUE(file.ok()) << file.status();
  const Layer& layer = *file->layers.at(0);
  EXPECT_EQ(layer.facts().scheme, "llama");
  EXPECT_EQ(layer.key_value_heads(), 2);
  ExpectNumbers(layer.matrices().key, {6, 4}, 2);
  ExpectNumbers(layer.matrices().output, {8, 6}, 4);
  // The same file without a word about heads.
  EXPECT_EQ(Load(tensors)->layers[0]->query_heads(), 0);
}

TEST(Schemes, LargeMatricesAreTurnedPieceByPiece) {
  const std::string at = "layers.0.self_attn.";
  Tensors tensors;
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    tensors[absl::StrCat(at, name, ".weight")] = Numbers({700, 700}, name[0]).Store("F32", true);
  }
  const auto file = Load(tensors);
  ASSERT_TRUE(file.ok()) << file.status();
  ExpectNumbers(file->layers[0]->matrices().query, {700, 700}, 'q');
  ExpectNumbers(file->layers[0]->matrices().output, {700, 700}, 'o');
}

TensorNames Names(const std::string& query, const std::string& key, const std::string& value,
                  const std::string& output) {
  TensorNames names;
  names.query = query;
  names.key = key;
  names.value = value;
  names.output = output;
  return names;
}

TEST(Schemes, AMappingCoversTheRest) {
  FileHints hints;
  hints.query_heads = 4;
  hints.names = TensorNames{"", "", "", "blk.{layer}.o", "blk.{layer}.qkv", "", "", "", "", "blk.{layer}.qkv.b", true};
  const Tensors tensors = {{"blk.7.qkv", Numbers({kWidth, 16}, 1).Store("F32", true)},
                           {"blk.7.qkv.b", Numbers({16}, 2).Store()},
                           {"blk.7.o", Numbers({8, kWidth}, 3).Store("F32", true)}};
  const auto file = Load(tensors, hints);
  ASSERT_TRUE(file.ok()) << file.status();
  const Layer& layer = *file->layers.at(0);
  EXPECT_EQ(layer.facts().scheme, "mapped");
  EXPECT_EQ(layer.matrices().query.shape, (Shape{6, 8}));
  EXPECT_EQ(layer.key_value_heads(), 2);
  const Numbers fused({kWidth, 16}, 1);
  EXPECT_EQ(layer.matrices().key.floats()[1 * 4 + 3], fused.At(1, 8 + 3));
  EXPECT_EQ(layer.matrices().value.floats()[5 * 4 + 2], fused.At(5, 12 + 2));
  hints.names->value = std::string("v");
  EXPECT_EQ(FirstOf(Load(tensors, hints)).field, "header.tensor_names");
  hints.names = Names("q", "", "v", "");
  EXPECT_EQ(DetailsOf(Load(tensors, hints).status()).violation_count, 2);
  hints.names = Names("q", "k", "v", "o");
  EXPECT_EQ(FirstOf(Load(tensors, hints)).got, "names of no tensor in the file");
  hints.names = Names("q.{layer}", "k", "v", "o");
  EXPECT_EQ(FirstOf(Load(tensors, hints)).field, "header.tensor_names");
}

TEST(Schemes, WhatCannotFitIsToldOf) {
  const auto with = [](const std::string& name, const Written& tensor) {
    Tensors tensors = Ours();
    tensors[name] = tensor;
    return tensors;
  };
  const auto field = [](const Tensors& tensors, const FileHints& hints = {}) {
    return FirstOf(Load(tensors, hints)).field;
  };
  EXPECT_EQ(field({{"other", Numbers({1}, 1).Store()}}), "tensors");
  EXPECT_EQ(field(with("h.0.attn.c_attn.weight", Numbers({6, 16}, 1).Store())), "tensors");
  EXPECT_EQ(field(with("layers.0.query", Numbers({6, 8}, 1).Store())), "tensors");
  Tensors missing = Ours();
  missing.erase("value");
  EXPECT_EQ(field(missing), "tensors[\"value\"]");
  EXPECT_EQ(field(with("query", {"I32", {6, 8}, std::string(192, '\0')})), "tensors[\"query\"].dtype");
  EXPECT_EQ(field(with("query", Numbers({8}, 1).Store())), "tensors[\"query\"].shape");
  EXPECT_EQ(field(with("query", {"F32", {0, 8}, ""})), "tensors[\"query\"].shape");
  EXPECT_EQ(field(with("value", Numbers({5, 4}, 1).Store())), "tensors[\"value\"].shape");
  EXPECT_EQ(field(with("key", Numbers({6, 3}, 1).Store())), "tensors[\"key\"].shape");
  EXPECT_EQ(field(with("output", Numbers({7, 6}, 1).Store())), "tensors[\"output\"].shape");
  EXPECT_EQ(field(with("key_bias", Numbers({5}, 1).Store())), "tensors[\"key_bias\"].shape");
  EXPECT_EQ(field(with("query", Numbers({20000, 8}, 1).Store())), "tensors[\"query\"].shape");
  EXPECT_EQ(field(with("ouput", Numbers({8, 6}, 1).Store())), "tensors[\"ouput\"]");
  EXPECT_EQ(field(with("layers.0.norm.weight", Numbers({6}, 1).Store())), "tensors[\"layers.0.norm.weight\"]");
  Tensors no_output = with("output_bias", Numbers({6}, 1).Store());
  no_output.erase("output");
  EXPECT_EQ(field(no_output), "tensors[\"output_bias\"].shape");
  FileHints hints;
  hints.query_heads = 3;
  EXPECT_EQ(field(Ours(), hints), "tensors[\"query\"].shape");
  hints.query_heads = 4;
  hints.key_value_heads = 4;
  EXPECT_EQ(field(Ours(), hints), "tensors[\"key\"].shape");
  hints.query_heads = 0;
  EXPECT_EQ(field(Ours(), hints), "header.query_heads");
  hints.query_heads = 1000;
  EXPECT_EQ(field(Ours(), hints), "header.query_heads");
  EXPECT_EQ(FirstOf(Load(Ours(), {}, {{"headlight.query_heads", "x"}})).field,
            "header.__metadata__[\"headlight.query_heads\"]");
}

TEST(Schemes, NumbersThatAreNoneAreRefusedWithTheirPlaceInTheFile) {
  const std::string at = "layers.0.self_attn.";
  std::vector<float> floats(48, 0.5F);
  floats[1 * 6 + 2] = std::nanf("");
  const Tensors tensors = {{at + "q_proj.weight", {"F32", {8, 6}, Numbers::Encode(floats, "F32")}},
                           {at + "k_proj.weight", Numbers({6, 8}, 2).Store("F32", true)},
                           {at + "v_proj.weight", Numbers({6, 8}, 3).Store("F32", true)},
                           {at + "o_proj.weight", {"F16", {6, 8}, std::string(96, '\x7c')}}};
  const auto file = Load(tensors);
  EXPECT_EQ(DetailsOf(file.status()).violation_count, 2);
  EXPECT_EQ(FirstOf(file).field, "tensors[\"layers.0.self_attn.q_proj.weight\"]");
  EXPECT_EQ(FirstOf(file).got, "nan at [1, 2]");
}

Tensors StackTensors() {
  Tensors tensors = Ours("layers.0.");
  for (auto& [name, tensor] : Ours("layers.1.")) tensors[name] = tensor;
  tensors["token_embedding"] = Numbers({3, kWidth}, 20).Store();
  tensors["position_embedding"] = Numbers({5, kWidth}, 21).Store();
  tensors["unembedding"] = Numbers({kWidth, 3}, 22).Store();
  tensors["unembedding_bias"] = Numbers({3}, 23).Store();
  tensors["layers.1.norm.weight"] = Numbers({kWidth}, 24).Store();
  tensors["final_norm.weight"] = Numbers({kWidth}, 25).Store();
  tensors["final_norm.bias"] = Numbers({kWidth}, 26).Store();
  return tensors;
}

std::map<std::string, std::string> StackMetadata() {
  return {{"headlight.query_heads", "4"},        {"headlight.key_value_heads", "2"},
          {"headlight.causal", "false"},         {"headlight.norm_epsilon", "1e-6"},
          {"headlight.vocabulary", "a\\nb\\nc"}, {"headlight.description", "three words"}};
}

TEST(Schemes, AStackWithAllThatItMayHave) {
  const auto file = Load(StackTensors(), {}, StackMetadata());
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_NE(file->stack, nullptr);
  const Stack& stack = *file->stack;
  EXPECT_EQ(stack.name, "x");
  EXPECT_EQ(stack.id, file->id);
  EXPECT_EQ(stack.description, "three words");
  ASSERT_EQ(stack.layers.size(), 2U);
  EXPECT_EQ(stack.layers[1], file->layers[1]);
  EXPECT_EQ(stack.vocabulary, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_FALSE(stack.causal);
  EXPECT_EQ(stack.norm_epsilon, 1e-6);
  ExpectNumbers(stack.token_embedding, {3, 6}, 20);
  ExpectNumbers(stack.position_embedding, {5, 6}, 21);
  ExpectNumbers(stack.unembedding, {6, 3}, 22);
  ExpectNumbers(stack.unembedding_bias, {3}, 23);
  ASSERT_EQ(stack.norms.size(), 2U);
  EXPECT_TRUE(stack.norms[0].weight.empty());
  ExpectNumbers(stack.norms[1].weight, {6}, 24);
  ExpectNumbers(stack.final_norm.weight, {6}, 25);
  ExpectNumbers(stack.final_norm.bias, {6}, 26);
  EXPECT_EQ(file->bytes, 2 * file->layers[0]->bytes() + BytesOf(stack));
}

TEST(Schemes, AStackThatCannotBe) {
  const auto field = [](const std::string& name, const Written* tensor, const std::string& key = "",
                        const std::string& value = "") {
    Tensors tensors = StackTensors();
    if (tensor == nullptr) tensors.erase(name);
    if (tensor != nullptr) tensors[name] = *tensor;
    std::map<std::string, std::string> metadata = StackMetadata();
    if (!key.empty()) metadata["headlight." + key] = value;
    return FirstOf(Load(tensors, {}, metadata)).field;
  };
  const Written vector = Numbers({5}, 1).Store(), matrix = Numbers({kWidth, 4}, 1).Store();
  EXPECT_EQ(field("token_embedding", nullptr), "tensors[\"token_embedding\"]");
  EXPECT_EQ(field("unembedding", &matrix), "tensors[\"unembedding\"].shape");
  EXPECT_EQ(field("unembedding_bias", &vector), "tensors[\"unembedding_bias\"].shape");
  EXPECT_EQ(field("position_embedding", &matrix), "tensors[\"position_embedding\"].shape");
  EXPECT_EQ(field("final_norm.bias", &vector), "tensors[\"final_norm.bias\"].shape");
  EXPECT_EQ(field("layers.1.output", nullptr), "tensors[\"layers.1.output\"]");
  EXPECT_EQ(field("layers.1.norm.weight", &vector), "tensors[\"layers.1.norm.weight\"].shape");
  EXPECT_EQ(field("layers.0.norm.bias", &vector), "tensors[\"layers.0.norm.bias\"]");
  const Written same = StackTensors().at("unembedding");
  EXPECT_EQ(field("unembedding", &same, "causal", "yes"), "header.__metadata__[\"headlight.causal\"]");
  EXPECT_EQ(field("unembedding", &same, "norm_epsilon", "0"), "header.__metadata__[\"headlight.norm_epsilon\"]");
  EXPECT_EQ(field("unembedding", &same, "vocabulary", "a\\nb\\nb"), "header.__metadata__[\"headlight.vocabulary\"]");
  EXPECT_EQ(field("unembedding", &same, "vocabulary", "a\\nb"), "header.__metadata__[\"headlight.vocabulary\"]");
  EXPECT_EQ(FirstOf(Load(StackTensors())).field, "header.query_heads");
  Tensors gap = StackTensors();
  for (const auto& [name, tensor] : Ours("layers.1.")) gap.erase(name);
  for (const auto& [name, tensor] : Ours("layers.2.")) gap[name] = tensor;
  EXPECT_EQ(FirstOf(Load(gap, {}, StackMetadata())).field, "tensors[\"layers.1.query\"]");
}

}  // namespace
}  // namespace headlight
