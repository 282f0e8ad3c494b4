#include "client/cli/output_flags.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/files.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/parse_flags.h"
#include "client/cli/request_flags.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

constexpr char kOutputs[] = "Outputs";

bool IsJson(absl::string_view path) { return absl::EndsWith(path, ".json"); }
bool IsNpy(absl::string_view path) { return absl::EndsWith(path, ".npy"); }

absl::Status WriteMessage(const std::string& path, const google::protobuf::Message& message) {
  const absl::StatusOr<std::string> json = ToJson(message);
  if (!json.ok()) return json.status();
  return WriteFile(path, absl::StrCat(*json, "\n"));
}

absl::Status WriteTensor(const std::string& path, v1::Tensor tensor) {
  if (IsJson(path)) {
    if (absl::Status status = SpellOut(&tensor); !status.ok()) return status;
    return WriteMessage(path, tensor);
  }
  const absl::StatusOr<std::vector<float>> values = client::FloatsOf(tensor);
  if (!values.ok()) return values.status();
  return WriteNpy(path, *values, tensor.shape());
}

absl::Status WriteMapsAsJson(const std::string& path, const v1::AttendResponse& response) {
  std::vector<std::string> maps;
  for (v1::WeightMap map : response.maps()) {
    if (map.has_weights()) {
      if (absl::Status status = SpellOut(map.mutable_weights()); !status.ok()) return status;
    }
    absl::StatusOr<std::string> json = ToJson(map);
    if (!json.ok()) return json.status();
    maps.push_back(*std::move(json));
  }
  return WriteFile(path, absl::StrCat("[", absl::StrJoin(maps, ","), "]\n"));
}

// One array of all maps: [maps, rows, keys], or [maps, keys] for column sums.
absl::Status WriteMapsAsNpy(const std::string& path, const v1::AttendResponse& response) {
  std::vector<float> all;
  std::vector<std::int64_t> shape = {response.maps_size()};
  for (const v1::WeightMap& map : response.maps()) {
    const absl::StatusOr<std::vector<float>> values = client::FloatsOf(map.weights());
    if (!values.ok()) return values.status();
    if (shape.size() == 1) shape.insert(shape.end(), map.weights().shape().begin(), map.weights().shape().end());
    if (!std::equal(shape.begin() + 1, shape.end(), map.weights().shape().begin(), map.weights().shape().end())) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": the maps differ in shape; name a folder instead"));
    }
    all.insert(all.end(), values->begin(), values->end());
  }
  return WriteNpy(path, all, shape);
}

// A file per map: request0_batch0_head2.npy, or .json for top keys; with the first row where that is not 0, and
// the end of the range where two begin at one row.
absl::Status WriteMapsToFolder(const std::string& path, const v1::AttendResponse& response) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::UnknownError(absl::StrCat(path, ": ", error.message()));
  std::set<std::string> taken;
  for (const v1::WeightMap& map : response.maps()) {
    std::string stem = absl::StrCat(path, "/request", map.request_index(), "_batch", map.batch(), "_head", map.head(),
                                    map.row_begin() > 0 ? absl::StrCat("_row", map.row_begin()) : "");
    if (!taken.insert(stem).second) absl::StrAppend(&stem, "_to", map.row_end());
    absl::Status status = map.has_top_keys() ? WriteMessage(absl::StrCat(stem, ".json"), map)
                                             : WriteTensor(absl::StrCat(stem, ".npy"), map.weights());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status WriteMaps(const std::string& path, const v1::AttendResponse& response) {
  if (IsJson(path)) return WriteMapsAsJson(path, response);
  if (IsNpy(path)) return WriteMapsAsNpy(path, response);
  return WriteMapsToFolder(path, response);
}

void AddFileFlags(CLI::App& app, OutputFlags& flags) {
  CLI::Option* options[] = {
      app.add_option("--output", flags.output, "Write the output, as float32 in .npy or numbers in .json"),
      app.add_option("--log-sum-exp", flags.log_sum_exp, "Write the log-sum-exp [B,H,Tq] likewise"),
      app.add_option("--head-outputs", flags.head_outputs, "Write each head's output [B,H,Tq,Dv] likewise"),
      app.add_option("--maps-out", flags.maps_out,
                     "Write the maps: one .npy [maps,rows,keys], one .json, or a folder of files")};
  for (CLI::Option* option : options) option->group(kOutputs)->type_name("FILE");
}

void AddMapFlags(CLI::App& app, OutputFlags& flags) {
  CLI::Option* options[] = {
      app.add_option("--maps", flags.maps,
                     "Maps of all heads or of heads 0,2; FORM: full, top=K, pooled=ROWSxCOLUMNS,max|mean|sum or "
                     "columns (sums over rows); STAGE: weights, scaled, softcapped or biased; may be repeated")
          ->allow_extra_args(false)
          ->type_name("HEADS[:FORM][@STAGE]"),
      app.add_option("--map-rows", flags.map_rows, "Rows of the maps, such as 0:4,10:12; else all")
          ->check(RefuseEmpty)
          ->type_name("BEGIN:END,..."),
      app.add_option("--map-keys", flags.map_keys, "Keys of the maps, such as 0:100; else all")
          ->check(RefuseEmpty)
          ->type_name("BEGIN:END"),
      app.add_option("--map-batches", flags.map_batches, "Batches of the maps, such as 0,2; else all")
          ->delimiter(',')
          ->check(RequireCount)
          ->type_name("LIST")
          ->allow_extra_args(false),
      app.add_flag("--show", flags.show, "Draw the maps in the terminal; without --maps all heads")};
  for (CLI::Option* option : options) option->group(kOutputs);
}

// Rows, keys and batches of one map.
absl::Status AddRanges(const OutputFlags& flags, v1::WeightMaps* maps) {
  maps->mutable_batches()->Assign(flags.map_batches.begin(), flags.map_batches.end());
  if (!flags.map_rows.empty()) {
    const absl::StatusOr<std::vector<v1::RowRange>> rows = ParseRanges("--map-rows", flags.map_rows);
    if (!rows.ok()) return rows.status();
    maps->mutable_rows()->Assign(rows->begin(), rows->end());
  }
  if (flags.map_keys.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<v1::RowRange>> keys = ParseRanges("--map-keys", flags.map_keys);
  if (!keys.ok()) return keys.status();
  if (keys->size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("--map-keys ", flags.map_keys, " is not one range BEGIN:END"));
  }
  *maps->mutable_keys() = keys->front();
  return absl::OkStatus();
}

absl::Status AddMaps(const OutputFlags& flags, v1::OutputSelection* outputs) {
  std::vector<v1::WeightMaps> added;
  for (const std::string& text : flags.maps) {
    absl::StatusOr<v1::WeightMaps> maps = ParseMaps(text);
    if (!maps.ok()) return maps.status();
    added.push_back(*std::move(maps));
  }
  if (added.empty() && outputs->maps().empty()) {
    if (flags.show) {
      added.emplace_back().mutable_full();
    } else if (flags.explain) {
      added.emplace_back().mutable_top_keys()->set_k(1);
    }
  }
  for (v1::WeightMaps& maps : added) {
    if (absl::Status status = AddRanges(flags, &maps); !status.ok()) return status;
    *outputs->add_maps() = std::move(maps);
  }
  const char* unused = nullptr;
  if (!flags.map_rows.empty()) unused = "--map-rows";
  if (!flags.map_keys.empty()) unused = "--map-keys";
  if (!flags.map_batches.empty()) unused = "--map-batches";
  if (added.empty() && unused != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(unused, " has no use without --maps"));
  }
  if (flags.maps_out.empty()) return absl::OkStatus();
  if (outputs->maps().empty()) return absl::InvalidArgumentError("--maps-out has no use without --maps");
  for (const v1::WeightMaps& maps : outputs->maps()) {
    if (maps.has_top_keys() && IsNpy(flags.maps_out)) {
      return absl::InvalidArgumentError("top keys are no array; name a .json file or a folder for --maps-out");
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddOutputFlags(CLI::App& app, OutputFlags& flags) {
  AddFileFlags(app, flags);
  AddMapFlags(app, flags);
  CLI::Option* options[] = {
      app.add_flag("--no-output", flags.no_output, "Leave the output out: maps or statistics alone")
          ->excludes(app.get_option("--output")),
      app.add_flag("--statistics", flags.statistics, "Statistics of every head"),
      app.add_option("--verify-rows", flags.verify_rows, "Compute N rows again in double precision")
          ->check(RequireCount)
          ->type_name("N"),
      app.add_option("--out-kind", flags.kind, "Kind of number that comes back; else that of the input")
          ->check(CLI::IsMember({"f32", "f16", "bf16"})),
      app.add_option("--max-response-bytes", flags.max_response_bytes, "A larger answer is refused before computing")
          ->check(RequireCount)
          ->type_name("N"),
      app.add_flag(
          "--explain", flags.explain,
          "Tell the plan, the conventions and where each row looks; without --maps by the top key of all heads")};
  for (CLI::Option* option : options) option->group(kOutputs);
}

absl::Status AddOutputs(const OutputFlags& flags, v1::OutputSelection* outputs) {
  if (flags.no_output) outputs->set_omit_output(true);
  if (!flags.log_sum_exp.empty()) outputs->set_log_sum_exp(true);
  if (!flags.head_outputs.empty()) outputs->set_head_outputs(true);
  if (flags.statistics) outputs->set_head_statistics(true);
  if (flags.verify_rows.has_value()) outputs->set_verify_rows(*flags.verify_rows);
  if (!flags.kind.empty()) outputs->set_tensor_kind(KindNamed(flags.kind));
  if (flags.max_response_bytes.has_value()) outputs->set_max_response_bytes(*flags.max_response_bytes);
  return AddMaps(flags, outputs);
}

absl::StatusOr<std::vector<std::string>> WriteOutputs(const OutputFlags& flags, v1::AttendResponse* response) {
  std::vector<std::string> written;
  const auto write = [&](const std::string& path, const v1::Tensor& tensor, void (v1::AttendResponse::*clear)()) {
    if (path.empty()) return absl::OkStatus();
    absl::Status status = WriteTensor(path, tensor);
    (response->*clear)();
    written.push_back(path);
    return status;
  };
  absl::Status status = write(flags.output, response->output(), &v1::AttendResponse::clear_output);
  status.Update(write(flags.log_sum_exp, response->log_sum_exp(), &v1::AttendResponse::clear_log_sum_exp));
  status.Update(write(flags.head_outputs, response->head_outputs(), &v1::AttendResponse::clear_head_outputs));
  if (!flags.maps_out.empty()) {
    status.Update(WriteMaps(flags.maps_out, *response));
    response->clear_maps();
    written.push_back(flags.maps_out);
  }
  if (!status.ok()) return status;
  return written;
}

}  // namespace headlight::cli
