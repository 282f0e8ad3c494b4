#include "server/layers/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/errors.h"
#include "server/layers/built_in.h"
#include "server/layers/demo.h"

namespace headlight {
namespace {

template <typename T>
std::shared_ptr<const T> Find(const std::map<std::string, std::shared_ptr<const T>>& by_name, absl::string_view name,
                              const std::string& (*id_of)(const T&)) {
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

absl::string_view WhyKept(LayerOrigin origin) {
  return origin == LayerOrigin::kBuiltIn ? "is part of the server" : "is from the server's folder of layers";
}

}  // namespace

bool IsLayerName(absl::string_view name) {
  constexpr std::size_t kMost = 64;
  const auto is_word = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  return !name.empty() && name.size() <= kMost && is_word(name[0]) &&
         std::all_of(name.begin(), name.end(), [&is_word](char c) { return is_word(c) || c == '-' || c == '.'; });
}

LayerStore::LayerStore() {
  const std::shared_ptr<const Layer> demo(std::shared_ptr<void>(), &GetDemo().layer);
  const absl::MutexLock lock(&mutex_);
  Add({demo->name(), demo->facts().id, LayerOrigin::kBuiltIn, {demo}, nullptr, demo->bytes()});
  Add(InductionStack());
}

std::shared_ptr<const Layer> LayerStore::FindLayer(absl::string_view name) const {
  const absl::MutexLock lock(&mutex_);
  return Find<Layer>(layers_, name, [](const Layer& layer) -> const std::string& { return layer.facts().id; });
}

std::shared_ptr<const Stack> LayerStore::FindStack(absl::string_view name) const {
  const absl::MutexLock lock(&mutex_);
  return Find<Stack>(stacks_, name, [](const Stack& stack) -> const std::string& { return stack.id; });
}

std::vector<std::shared_ptr<const Layer>> LayerStore::layers() const {
  const absl::MutexLock lock(&mutex_);
  return All(layers_);
}

std::vector<std::shared_ptr<const Stack>> LayerStore::stacks() const {
  const absl::MutexLock lock(&mutex_);
  return All(stacks_);
}

std::int64_t LayerStore::bytes() const {
  const absl::MutexLock lock(&mutex_);
  std::int64_t bytes = 0;
  for (const auto& [_, file] : files_) bytes += file->bytes;
  return bytes;
}

std::shared_ptr<const LayerFile> LayerStore::FindFile(absl::string_view name) const {
  const absl::MutexLock lock(&mutex_);
  const auto found = files_.find(std::string(name));
  return found == files_.end() ? nullptr : found->second;
}

absl::Status LayerStore::MayTake(absl::string_view name, absl::string_view field) const {
  const absl::MutexLock lock(&mutex_);
  return MayTakeLocked(name, field);
}

absl::Status LayerStore::MayTakeLocked(absl::string_view name, absl::string_view field) const {
  Violations violations;
  if (!IsLayerName(name)) {
    violations.Add(std::string(field), std::string(name),
                   "1 to 64 letters, digits, \"-\", \"_\" and \".\", the first none of \"-\" and \".\"");
    return violations.ToStatus();
  }
  const auto found = files_.find(std::string(name));
  if (found == files_.end() || found->second->origin == LayerOrigin::kUpload) return absl::OkStatus();
  if (found->second->origin == LayerOrigin::kBuiltIn) {
    violations.Add(std::string(field), std::string(name), "another name: this one is part of the server");
    return violations.ToStatus();
  }
  return absl::PermissionDeniedError(absl::StrCat("the layer ", name, " ", WhyKept(found->second->origin)));
}

absl::StatusOr<LayerStore::Held> LayerStore::Put(LayerFile file, bool replace) {
  std::shared_ptr<const LayerFile> replaced;  // freed when others may go on
  const absl::MutexLock lock(&mutex_);
  const auto found = files_.find(file.name);
  if (file.origin == LayerOrigin::kUpload) {
    if (absl::Status may = MayTakeLocked(file.name, "header.name"); !may.ok()) return may;
  } else if (found != files_.end()) {
    return absl::AlreadyExistsError(absl::StrCat("the name ", file.name, " ", WhyKept(found->second->origin)));
  }
  if (found != files_.end()) {
    if (found->second->id == file.id) return Held{found->second, true};
    if (!replace) {
      return absl::AlreadyExistsError(
          absl::StrCat("the name ", file.name, " holds other bytes, ", found->second->id, "; replace takes it"));
    }
    replaced = found->second;
    Drop(*replaced);
  }
  return Held{Add(std::move(file)), false};
}

absl::StatusOr<LayerStore::Removed> LayerStore::Remove(absl::string_view name) {
  std::vector<std::shared_ptr<const LayerFile>> files;  // freed when others may go on
  const absl::MutexLock lock(&mutex_);
  for (const auto& [_, file] : files_) {
    if (file->name == name || (!name.empty() && file->id == name)) files.push_back(file);
  }
  if (files.empty()) {
    const auto part = layers_.find(std::string(name));
    if (part == layers_.end()) {
      return absl::NotFoundError("no file of layers has this name or id; ListLayers lists those there are");
    }
    const absl::string_view file = name.substr(0, name.rfind('/'));
    return absl::NotFoundError(absl::StrCat(name, " is a layer of the file ", file, ", which goes as a whole"));
  }
  Removed removed;
  for (const auto& file : files) {
    if (file->origin != LayerOrigin::kUpload) {
      return absl::PermissionDeniedError(absl::StrCat("the layer ", file->name, " ", WhyKept(file->origin)));
    }
    removed.id = file->id;
    for (const auto& layer : file->layers) removed.layers.push_back(layer->name());
  }
  for (const auto& file : files) Drop(*file);
  return removed;
}

std::shared_ptr<const LayerFile> LayerStore::Add(LayerFile file) {
  auto added = std::make_shared<const LayerFile>(std::move(file));
  for (const auto& layer : added->layers) layers_[layer->name()] = layer;
  if (added->stack != nullptr) stacks_[added->name] = added->stack;
  files_[added->name] = added;
  return added;
}

void LayerStore::Drop(const LayerFile& file) {
  const std::string name = file.name;
  for (const auto& layer : file.layers) layers_.erase(layer->name());
  stacks_.erase(name);
  files_.erase(name);
}

}  // namespace headlight
