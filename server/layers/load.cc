#include "server/layers/load.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/layers/conversion.h"
#include "server/layers/file_id.h"
#include "server/layers/safetensors.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kMostSidecarBytes = std::int64_t{1} << 20;

absl::StatusOr<std::string> ReadWhole(const fs::path& path, std::int64_t most) {
  std::error_code error;
  const auto size = static_cast<std::int64_t>(fs::file_size(path, error));
  if (error) return absl::UnavailableError(absl::StrCat("cannot be read: ", error.message()));
  if (size > most) return absl::InvalidArgumentError(absl::StrCat(size, " bytes, the limit is ", most));
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(bytes.data(), size)) return absl::UnavailableError("cannot be read");
  return bytes;
}

// A count of heads; 0 where there is none.
absl::Status ReadCount(const json& config, const char* name, std::int64_t* count) {
  const auto found = config.find(name);
  if (found == config.end() || found->is_null()) return absl::OkStatus();
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() > 1'000'000) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not a number of heads"));
  }
  *count = found->get<std::int64_t>();
  return absl::OkStatus();
}

absl::StatusOr<TensorNames> ReadNames(const json& object) {
  TensorNames names;
  const std::map<std::string, std::string*> fields = {{"query", &names.query},
                                                      {"key", &names.key},
                                                      {"value", &names.value},
                                                      {"output", &names.output},
                                                      {"query_key_value", &names.query_key_value},
                                                      {"query_bias", &names.query_bias},
                                                      {"key_bias", &names.key_bias},
                                                      {"value_bias", &names.value_bias},
                                                      {"output_bias", &names.output_bias},
                                                      {"query_key_value_bias", &names.query_key_value_bias}};
  if (!object.is_object()) return absl::InvalidArgumentError("tensor_names is no object");
  for (const auto& [name, value] : object.items()) {
    const auto field = fields.find(name);
    if (field != fields.end() && value.is_string()) {
      *field->second = value.get<std::string>();
    } else if (name == "transposed" && value.is_boolean()) {
      names.transposed = value.get<bool>();
    } else {
      return absl::InvalidArgumentError(absl::StrCat("tensor_names.", name, " is no field, or not of its type"));
    }
  }
  return names;
}

absl::StatusOr<FileHints> ReadSidecar(const fs::path& path) {
  FileHints hints;
  std::error_code error;
  if (!fs::exists(path, error)) return hints;
  const absl::StatusOr<std::string> text = ReadWhole(path, kMostSidecarBytes);
  if (!text.ok()) return text.status();
  const json config = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError("no JSON object");
  for (const char* name : {"n_head", "num_attention_heads"}) {
    if (absl::Status read = ReadCount(config, name, &hints.fallback_query_heads); !read.ok()) return read;
  }
  if (absl::Status read = ReadCount(config, "num_key_value_heads", &hints.fallback_key_value_heads); !read.ok()) {
    return read;
  }
  if (const auto names = config.find("tensor_names"); names != config.end()) {
    absl::StatusOr<TensorNames> read = ReadNames(*names);
    if (!read.ok()) return read.status();
    hints.names = *std::move(read);
  }
  return hints;
}

absl::Status Named(const fs::path& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path.string(), ": ", status.message()));
}

absl::Status LoadFile(const fs::path& path, const Limits& limits, const HoldBytes& hold, LayerStore& store) {
  const std::string name = path.stem().string();
  if (!IsLayerName(name)) {
    return absl::InvalidArgumentError("the name is not 1 to 64 letters, digits, \"-\", \"_\" and \".\"");
  }
  const fs::path sidecar = fs::path(path).replace_extension(".json");
  absl::StatusOr<FileHints> hints = ReadSidecar(sidecar);
  if (!hints.ok()) {
    return absl::Status(hints.status().code(),
                        absl::StrCat(sidecar.filename().string(), ": ", hints.status().message()));
  }
  const absl::StatusOr<std::string> bytes = ReadWhole(path, limits.max_layer_bytes);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<LayerFile> file = LoadLayers(*bytes, {name, LayerOrigin::kFolder, *std::move(hints)}, limits, hold);
  if (!file.ok()) return file.status();
  return store.Put(*std::move(file), /*replace=*/false).status();
}

}  // namespace

absl::StatusOr<std::shared_ptr<void>> NoBudget(std::int64_t /*bytes*/) { return std::shared_ptr<void>(); }

absl::StatusOr<LayerFile> LoadLayers(absl::string_view bytes, const LoadedAs& as, const Limits& limits,
                                     const HoldBytes& hold) {
  const absl::StatusOr<Safetensors> parsed = ParseSafetensors(bytes);
  if (!parsed.ok()) return parsed.status();
  absl::StatusOr<FileRecipe> recipe = RecognizeLayers(*parsed, as.hints, limits);
  if (!recipe.ok()) return recipe.status();
  const absl::StatusOr<std::shared_ptr<void>> held = hold(recipe->bytes);
  if (!held.ok()) return held.status();
  Conversion conversion(*std::move(recipe));
  conversion.RunAll();
  if (absl::Status finite = conversion.Check(); !finite.ok()) return finite;
  FileDigest digest;
  digest.Add(bytes);
  digest.Add(ReadingOf(as.hints));
  return conversion.Take(as.name, digest.Id(), as.origin, *held);
}

absl::Status LoadFolder(const std::string& folder, const Limits& limits, const HoldBytes& hold, LayerStore& store) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const fs::path& path = at->path();
    if (path.extension() == ".safetensors") paths.push_back(path);
  }
  if (error) return absl::UnavailableError(absl::StrCat(folder, ": cannot be read: ", error.message()));
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    if (absl::Status loaded = LoadFile(path, limits, hold, store); !loaded.ok()) return Named(path, loaded);
  }
  return absl::OkStatus();
}

}  // namespace headlight
