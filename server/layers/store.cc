#include "server/layers/store.h"

#include <utility>

#include "server/layers/demo.h"

namespace headlight {
namespace {

template <typename T>
std::shared_ptr<const T> Find(const std::map<std::string, std::shared_ptr<const T>>& by_name, absl::string_view name,
                              std::string (*id_of)(const T&)) {
  if (const auto found = by_name.find(std::string(name)); found != by_name.end()) return found->second;
  for (const auto& [_, held] : by_name) {
    if (!name.empty() && id_of(*held) == name) return held;
  }
  return nullptr;
}

template <typename T>
std::vector<std::shared_ptr<const T>> All(const std::map<std::string, std::shared_ptr<const T>>& by_name) {
  std::vector<std::shared_ptr<const T>> all;
  for (const auto& [_, held] : by_name) all.push_back(held);
  return all;
}

}  // namespace

LayerStore::LayerStore() {
  const std::shared_ptr<const Layer> demo(std::shared_ptr<void>(), &GetDemo().layer);
  layers_.emplace(demo->name(), demo);
}

std::shared_ptr<const Layer> LayerStore::FindLayer(absl::string_view name) const {
  const absl::MutexLock lock(&mutex_);
  return Find<Layer>(layers_, name, [](const Layer& layer) { return layer.facts().id; });
}

std::shared_ptr<const Stack> LayerStore::FindStack(absl::string_view name) const {
  const absl::MutexLock lock(&mutex_);
  return Find<Stack>(stacks_, name, [](const Stack& stack) { return stack.id; });
}

void LayerStore::AddStack(std::shared_ptr<const Stack> stack) {
  const absl::MutexLock lock(&mutex_);
  stacks_[stack->name] = std::move(stack);
}

std::vector<std::shared_ptr<const Layer>> LayerStore::layers() const {
  const absl::MutexLock lock(&mutex_);
  return All(layers_);
}

std::vector<std::shared_ptr<const Stack>> LayerStore::stacks() const {
  const absl::MutexLock lock(&mutex_);
  return All(stacks_);
}

}  // namespace headlight
