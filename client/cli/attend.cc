#include <iostream>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/execution.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/maps.h"
#include "client/cli/output_flags.h"
#include "client/cli/request_flags.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "With --json the AttendResponse in protobuf's JSON mapping, tensors as f32_values; what was written to a file is\n"
    "left out.\n"
    "Examples:\n"
    "  headlight attend --query q.npy --key k.npy --value v.npy --causal top-left --output out.npy\n"
    "  headlight attend --embeddings x.npy --layer demo --maps all --show --tokens the,cat,sat\n"
    "  headlight attend --seeded-embeddings 1,512,256 --seeded-weights 2 --heads 4 --maps 0,2:top=8 --maps-out maps\n"
    "  headlight attend --query q.npy --key k.npy --value v.npy --position rotary --layout halves --kind bf16\n"
    "  headlight attend --request request.json --json\n";

struct AttendFlags {
  RequestFlags request;
  OutputFlags outputs;
};

// In self-attention the keys are the queries' own tokens; elsewhere the tokens say nothing about the keys.
Words WordsOf(const v1::AttendRequest& request) {
  Words words;
  words.queries.assign(request.tokens().begin(), request.tokens().end());
  if (request.has_self_attention() && !request.self_attention().has_context()) words.keys = words.queries;
  return words;
}

absl::Status PrintMaps(const v1::AttendRequest& request, const v1::AttendResponse& response) {
  const Words words = WordsOf(request);
  const Style style = StyleOfOutput();
  for (const v1::WeightMap& map : response.maps()) {
    const absl::StatusOr<std::string> text = Show(map, words, style);
    if (!text.ok()) return text.status();
    std::cout << *text << "\n";
  }
  return absl::OkStatus();
}

ExitCode RunAttend(const Session& session, const AttendFlags& flags) {
  auto request = BuildRequest(flags.request);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  if (absl::Status status = AddOutputs(flags.outputs, request->mutable_outputs()); !status.ok()) {
    return Report(session, kExitUsage, status);
  }
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  auto response = (*client)->Attend(*request);
  if (!response.ok()) return ReportServer(session, response.status());
  if (flags.outputs.show && !session.json) {
    if (absl::Status status = PrintMaps(*request, *response); !status.ok()) {
      return Report(session, kExitOther, status);
    }
  }
  const std::string shape = ShapeText(response->output().shape());
  const bool output = response->has_output();
  const auto written = WriteOutputs(flags.outputs, &*response);
  if (!written.ok()) {
    return Report(session, absl::IsUnknown(written.status()) ? kExitUsage : kExitOther, written.status());
  }
  if (!session.json) {
    std::cout << Summary(response->execution()) << (output ? absl::StrCat("output     ", shape, "\n") : "");
    if (!written->empty()) std::cout << "written    " << absl::StrJoin(*written, ", ") << "\n";
    return kExitOk;
  }
  absl::Status status = SpellOut(&*response);
  const auto json = ToJson(*response);
  status.Update(json.status());
  if (!status.ok()) return Report(session, kExitOther, status);
  std::cout << *json << "\n";
  return kExitOk;
}

}  // namespace

void AddAttend(CLI::App& app, Session& session) {
  CLI::App* attend = app.add_subcommand("attend", "Computes attention.");
  const auto flags = std::make_shared<AttendFlags>();
  AddRequestFlags(*attend, flags->request);
  AddOutputFlags(*attend, flags->outputs);
  attend->footer(kHelp);
  attend->callback([&session, flags] { session.exit_code = RunAttend(session, *flags); });
}

}  // namespace headlight::cli
