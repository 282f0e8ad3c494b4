#include "client/cli/output_flags.h"

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/files.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

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

// One array [maps, rows, keys].
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

// A file per map: request0_batch0_head2.npy, or .json for top keys; with the first row where a head has several ranges.
absl::Status WriteMapsToFolder(const std::string& path, const v1::AttendResponse& response) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return absl::UnknownError(absl::StrCat(path, ": ", error.message()));
  for (const v1::WeightMap& map : response.maps()) {
    const std::string stem = absl::StrCat(path, "/request", map.request_index(), "_batch", map.batch(), "_head",
                                          map.head(), map.row_begin() > 0 ? absl::StrCat("_row", map.row_begin()) : "");
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

}  // namespace

void AddOutputFlags(CLI::App& app, OutputFlags& flags) {
  CLI::Option* output =
      app.add_option("--output", flags.output, "Write the output, as float32 in .npy or numbers in .json");
  CLI::Option* maps_out = app.add_option("--maps-out", flags.maps_out,
                                         "Write the maps: one .npy [maps,rows,keys], one .json, or a folder of files");
  CLI::Option* options[] = {
      output,
      app.add_option("--log-sum-exp", flags.log_sum_exp, "Write the log-sum-exp [B,H,Tq] likewise"),
      app.add_option("--head-outputs", flags.head_outputs, "Write each head's output [B,H,Tq,Dv] likewise"),
      app.add_option("--maps", flags.maps, "Weight maps: all, 0,2, all:full or 0,2:top=8; may be repeated")
          ->allow_extra_args(false)
          ->type_name("HEADS[:full|:top=K]"),
      maps_out,
      app.add_flag("--show", flags.show, "Draw the maps in the terminal; without --maps all heads"),
      app.add_flag("--no-output", flags.no_output, "Leave the output out: maps or statistics alone")->excludes(output)};
  for (CLI::Option* option : options) {
    option->group("Outputs");
    if (option->get_type_name() == "TEXT") option->type_name("FILE");
  }
}

absl::StatusOr<v1::WeightMaps> ParseMaps(absl::string_view text) {
  const absl::Status error = absl::InvalidArgumentError(
      absl::StrCat("--maps ", text, " is not HEADS, HEADS:full or HEADS:top=K, with HEADS all or numbers such as 0,2"));
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  v1::WeightMaps maps;
  if (parts.first != "all") {
    for (const absl::string_view head : absl::StrSplit(parts.first, ',')) {
      std::uint32_t number = 0;
      if (!absl::SimpleAtoi(head, &number)) return error;
      maps.add_heads(number);
    }
  }
  absl::string_view form = parts.second;
  std::uint32_t k = 0;
  if (absl::ConsumePrefix(&form, "top=")) {
    if (!absl::SimpleAtoi(form, &k)) return error;
    maps.mutable_top_keys()->set_k(k);
  } else if (form == "full" || !absl::StrContains(text, ':')) {
    maps.mutable_full();
  } else {
    return error;
  }
  return maps;
}

absl::Status AddOutputs(const OutputFlags& flags, v1::OutputSelection* outputs) {
  if (flags.no_output) outputs->set_omit_output(true);
  if (!flags.log_sum_exp.empty()) outputs->set_log_sum_exp(true);
  if (!flags.head_outputs.empty()) outputs->set_head_outputs(true);
  for (const std::string& text : flags.maps) {
    absl::StatusOr<v1::WeightMaps> maps = ParseMaps(text);
    if (!maps.ok()) return maps.status();
    *outputs->add_maps() = *std::move(maps);
  }
  if (flags.show && outputs->maps().empty()) outputs->add_maps()->mutable_full();
  if (flags.maps_out.empty()) return absl::OkStatus();
  if (outputs->maps().empty()) return absl::InvalidArgumentError("--maps-out has no use without --maps");
  for (const v1::WeightMaps& maps : outputs->maps()) {
    if (maps.has_top_keys() && IsNpy(flags.maps_out)) {
      return absl::InvalidArgumentError("top keys are no array; name a .json file or a folder for --maps-out");
    }
  }
  return absl::OkStatus();
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
