#include "server/layers/store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "server/base/errors.h"
#include "server/layers/load.h"
#include "server/problem/spec.h"
#include "tests/layers/files.h"

namespace headlight {
namespace {

TEST(LayerStore, KnowsTheBuiltInLayerAndNoOther) {
  const LayerStore store;
  const std::shared_ptr<const Layer> demo = store.FindLayer("demo");
  ASSERT_NE(demo, nullptr);
  EXPECT_EQ(demo->name(), "demo");
  EXPECT_EQ(store.FindLayer("demo"), demo);
  for (const char* name : {"", "Demo", "demo ", "demo\n", "gpt2"}) EXPECT_EQ(store.FindLayer(name), nullptr) << name;
}

// The form of every layer must pass the check that the same matrices would have to pass if they were sent.
TEST(LayerStore, HoldsLayersThatAreWellFormed) {
  const LayerStore store;
  EXPECT_FALSE(store.layers().empty());
  for (const auto& layer : store.layers()) {
    EXPECT_EQ(store.FindLayer(layer->name()), layer);
    const LayerForm form = layer->form();
    SelfAttentionForm input;
    input.embeddings = TensorForm{TensorKind::kF32, {5, form.query->shape[0]}, {}};
    input.layer = form;
    input.layer_name = layer->name();
    ProblemRequest request;
    for (const WeightsSource source : {WeightsSource::kNamed, WeightsSource::kExplicit}) {
      input.weights = source;
      request.input = input;
      request.query_heads = form.query_heads;
      const auto spec = CheckProblem(request, Limits());
      ASSERT_TRUE(spec.ok()) << spec.status();
      EXPECT_EQ(spec->dims.query_heads, form.query_heads);
    }
  }
}

LayerFile FileNamed(const std::string& name, int seed, LayerOrigin origin = LayerOrigin::kUpload,
                    const HoldBytes& hold = NoBudget) {
  using testing::Numbers;
  auto file = LoadLayers(testing::FileOf({{"query", Numbers({4, 4}, seed).Store()},
                                          {"key", Numbers({4, 4}, 2).Store()},
                                          {"value", Numbers({4, 4}, 3).Store()}}),
                         {name, origin, {}}, Limits(), hold);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

TEST(LayerStore, TakesAFileUnderItsNameAndItsId) {
  LayerStore store;
  const std::int64_t before = store.bytes();
  const LayerFile file = FileNamed("one", 1);
  EXPECT_EQ(file.id.size(), 7U + 64);
  const auto held = store.Put(file, false);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_FALSE(held->known);
  EXPECT_EQ(store.bytes(), before + 3 * 64);
  EXPECT_EQ(store.FindLayer("one"), file.layers[0]);
  EXPECT_EQ(store.FindLayer(file.id), file.layers[0]);
  const auto again = store.Put(FileNamed("one", 1), false);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->known);
  EXPECT_EQ(store.FindLayer("one"), file.layers[0]);
  EXPECT_EQ(store.bytes(), before + 3 * 64);
}

TEST(LayerStore, ReplacesWhenItIsAsked) {
  LayerStore store;
  ASSERT_TRUE(store.Put(FileNamed("one", 1), false).ok());
  const std::shared_ptr<const Layer> old = store.FindLayer("one");
  const std::string old_id = old->facts().id;
  EXPECT_EQ(store.Put(FileNamed("one", 9), false).status().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(store.Put(FileNamed("one", 9), true).ok());
  EXPECT_NE(store.FindLayer("one"), old);
  EXPECT_EQ(store.FindLayer(old_id), nullptr);
  EXPECT_EQ(old->matrices().query.floats()[0], testing::Numbers({}, 1).At(0, 0));
}

TEST(LayerStore, MemoryIsHeldAsLongAsAnybodyHoldsALayer) {
  LayerStore store;
  std::int64_t held_bytes = 0;
  const HoldBytes hold = [&held_bytes](std::int64_t bytes) -> absl::StatusOr<std::shared_ptr<void>> {
    held_bytes += bytes;
    return std::shared_ptr<void>(&held_bytes, [bytes](void* sum) { *static_cast<std::int64_t*>(sum) -= bytes; });
  };
  ASSERT_TRUE(store.Put(FileNamed("one", 1, LayerOrigin::kUpload, hold), false).ok());
  EXPECT_EQ(held_bytes, 3 * 64);
  std::shared_ptr<const Layer> call = store.FindLayer("one");
  const auto removed = store.Remove("one");
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_EQ(removed->layers, std::vector<std::string>{"one"});
  EXPECT_EQ(removed->id, call->facts().id);
  EXPECT_EQ(store.FindLayer("one"), nullptr);
  EXPECT_EQ(held_bytes, 3 * 64);
  call.reset();
  EXPECT_EQ(held_bytes, 0);
}

TEST(LayerStore, RemovesAllNamesOfAnId) {
  LayerStore store;
  const LayerFile one = FileNamed("one", 1);
  ASSERT_TRUE(store.Put(one, false).ok());
  ASSERT_TRUE(store.Put(FileNamed("two", 1), false).ok());
  const auto removed = store.Remove(one.id);
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_EQ(removed->layers, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(store.Remove(one.id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store.Remove("").status().code(), absl::StatusCode::kNotFound);
}

TEST(LayerStore, AFileGoesAsAWhole) {
  LayerStore store;
  const absl::Status status = store.Remove("induction/0").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "induction/0 is a layer of the file induction, which goes as a whole");
}

TEST(LayerStore, KeepsWhatIsBuiltInAndFromTheFolder) {
  LayerStore store;
  ASSERT_TRUE(store.Put(FileNamed("mine", 1, LayerOrigin::kFolder), false).ok());
  EXPECT_EQ(store.Put(FileNamed("demo", 1), true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store.Put(FileNamed("induction", 1), true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store.Put(FileNamed("mine", 2), true).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(store.Put(FileNamed("demo", 1, LayerOrigin::kFolder), false).status().code(),
            absl::StatusCode::kAlreadyExists);
  for (const char* name : {"demo", "induction", "mine"}) {
    EXPECT_EQ(store.Remove(name).status().code(), absl::StatusCode::kPermissionDenied) << name;
  }
  for (const char* name : {"", ".", "..", "-", ".hidden", "-x", "a/b", "a b", "sha256:00", "\n"}) {
    EXPECT_EQ(store.MayTake(name, "name").code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_FALSE(IsLayerName(std::string(65, 'a')));
  EXPECT_TRUE(IsLayerName("all-Mini_LM.v2"));
}

TEST(LayerStore, HasAStackThatIsBuiltIn) {
  const LayerStore store;
  const std::shared_ptr<const Stack> stack = store.FindStack("induction");
  ASSERT_NE(stack, nullptr);
  EXPECT_EQ(store.FindStack(stack->id), stack);
  EXPECT_EQ(stack->layers.size(), 2U);
  EXPECT_EQ(stack->layers[1], store.FindLayer("induction/1"));
  EXPECT_TRUE(stack->causal);
  EXPECT_EQ(static_cast<std::int64_t>(stack->vocabulary.size()), stack->vocabulary_size());
}

// A folder of its own that goes with the test.
class LayerFolder : public ::testing::Test {
 protected:
  LayerFolder() {
    char name[] = "/tmp/headlight-layers-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~LayerFolder() override { std::filesystem::remove_all(path_); }

  void Write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name) << text; }
  absl::Status Load() { return LoadFolder(path_.string(), Limits(), NoBudget, store_); }

  static std::string Bytes(const std::string& prefix = "") {
    using testing::Numbers;
    return testing::FileOf({{prefix + "query", Numbers({4, 4}, 1).Store()},
                            {prefix + "key", Numbers({4, 4}, 2).Store()},
                            {prefix + "value", Numbers({4, 4}, 3).Store()},
                            {prefix + "output", Numbers({4, 4}, 3).Store()}});
  }

  std::filesystem::path path_;
  LayerStore store_;
};

TEST_F(LayerFolder, LoadsFilesWithWhatStandsBesideThem) {
  std::filesystem::create_directory(path_ / "..data");
  Write("..data/linked.safetensors", Bytes());
  std::filesystem::create_symlink("..data/linked.safetensors", path_ / "linked.safetensors");
  Write("linked.json", R"({"num_attention_heads": 4, "num_key_value_heads": 4, "model_type": "x"})");
  Write("mapped.safetensors", Bytes("a."));
  Write("mapped.json", R"({"n_head": 2, "tensor_names": {"query": "a.query", "key": "a.key", "value": "a.value",
                           "output": "a.output", "transposed": true}})");
  Write("notes.txt", "nothing");
  ASSERT_TRUE(Load().ok()) << Load();
  EXPECT_EQ(store_.FindLayer("linked")->query_heads(), 4);
  EXPECT_EQ(store_.FindLayer("linked")->facts().origin, LayerOrigin::kFolder);
  EXPECT_EQ(store_.FindLayer("mapped")->query_heads(), 2);
  EXPECT_EQ(store_.FindLayer("mapped")->matrices().query.floats()[1], testing::Numbers({}, 1).At(1, 0));
}

TEST_F(LayerFolder, SaysWhichFileIsNoGood) {
  EXPECT_EQ(LoadFolder((path_ / "none").string(), Limits(), NoBudget, store_).code(), absl::StatusCode::kUnavailable);
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"bad.safetensors", "x"},
                                   {"no name.safetensors", Bytes()},
                                   {"demo.safetensors", Bytes()}}) {
    Write(name, text);
    const absl::Status status = Load();
    EXPECT_FALSE(status.ok());
    EXPECT_NE(std::string(status.message()).find(name), std::string::npos) << status;
    std::filesystem::remove(path_ / name);
  }
  Write("one.safetensors", Bytes());
  for (const char* sidecar : {"[]", "{", R"({"n_head": "4"})", R"({"n_head": -1})", R"({"tensor_names": {"x": "y"}})",
                              R"({"tensor_names": 1})"}) {
    Write("one.json", sidecar);
    EXPECT_NE(std::string(Load().message()).find("one.json"), std::string::npos) << sidecar;
  }
}

}  // namespace
}  // namespace headlight
