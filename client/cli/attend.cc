#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/execution.h"
#include "client/cli/explain.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/maps.h"
#include "client/cli/output_flags.h"
#include "client/cli/progress.h"
#include "client/cli/request_flags.h"
#include "client/cli/statistics.h"
#include "client/cpp/plan.h"
#include "client/cpp/streaming.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "More than 120 MiB or 16,384 tokens go in chunks, by AttendStream, and a terminal shows how far the call is; such\n"
    "calls may need a longer --timeout.\n"
    "With --json the AttendResponse in protobuf's JSON mapping, tensors as f32_values; what was written to a file is\n"
    "left out; under --explain {\"plan\": PlanAttentionResponse, \"response\": AttendResponse}.\n"
    "Examples:\n"
    "  headlight attend --query q.npy --key k.npy --value v.npy --causal top-left --output out.npy\n"
    "  headlight attend --embeddings x.npy --layer demo --maps all --show --tokens the,cat,sat\n"
    "  headlight attend --seeded-embeddings 1,512,256 --seeded-weights 2 --heads 4 --maps 0,2:top=8 --maps-out maps\n"
    "  headlight attend --query q.npy --key k.npy --value v.npy --position rotary --layout halves --kind bf16\n"
    "  headlight attend --embeddings x.npy --layer demo --tokens the,cat,sat --explain\n"
    "  headlight attend --query q.npy --key k.npy --value v.npy --window 128,0 --maps all:pooled=16x32,max --show\n"
    "  headlight attend --request request.json --json\n";

struct AttendFlags {
  RequestFlags request;
  OutputFlags outputs;
  bool stream = false;
};

// In one message or, where asked for or needed, in chunks with a progress bar.
absl::StatusOr<v1::AttendResponse> Send(const client::Client& client, bool stream, const v1::AttendRequest& request) {
  if (!stream && !client::NeedsStream(request)) return client.Attend(request);
  ProgressBar bar;
  return client.AttendStream(request, [&bar](const client::StreamProgress& progress) { bar.Show(progress); });
}

absl::Status PrintMaps(const v1::AttendRequest& request, const v1::AttendResponse& response, bool sentences) {
  const Words words = WordsOf(request);
  const Style style = StyleOfOutput();
  for (const v1::WeightMap& map : response.maps()) {
    MapForm form = FormOf(request, map);
    form.sentences = sentences;
    const absl::StatusOr<std::string> text = Show(map, words, style, form);
    if (!text.ok()) return text.status();
    std::cout << *text << "\n";
  }
  return absl::OkStatus();
}

// Draws and explains what the answer holds before parts of it go to files, then writes them.
ExitCode PrintForPeople(const Session& session, const OutputFlags& flags, const v1::AttendRequest& request,
                        v1::AttendResponse* response) {
  if (flags.show) {
    absl::Status status = PrintMaps(request, *response, !flags.explain);
    if (!status.ok()) return Report(session, kExitOther, status);
  }
  absl::StatusOr<std::string> sentences = "";
  if (flags.explain) sentences = SentencesText(request, *response);
  if (!sentences.ok()) return Report(session, kExitOther, sentences.status());
  const std::string output =
      response->has_output() ? absl::StrCat("output     ", ShapeText(response->output().shape()), "\n") : "";
  const auto written = WriteOutputs(flags, response);
  if (!written.ok()) {
    return Report(session, absl::IsUnknown(written.status()) ? kExitUsage : kExitOther, written.status());
  }
  std::cout << Summary(response->execution()) << output;
  if (!written->empty()) std::cout << "written    " << absl::StrJoin(*written, ", ") << "\n";
  const std::string statistics = StatisticsText(*response);
  if (!statistics.empty()) std::cout << "\n" << statistics;
  if (flags.explain) std::cout << "\n" << ConventionsText(response->execution()) << "\n" << *sentences;
  return kExitOk;
}

// The response; under --explain {"plan": ..., "response": ...}.
ExitCode PrintAsJson(const Session& session, const OutputFlags& flags,
                     const std::optional<v1::PlanAttentionResponse>& plan, v1::AttendResponse* response) {
  const auto written = WriteOutputs(flags, response);
  if (!written.ok()) {
    return Report(session, absl::IsUnknown(written.status()) ? kExitUsage : kExitOther, written.status());
  }
  absl::Status status = SpellOut(response);
  const auto json = ToJson(*response);
  status.Update(json.status());
  const auto plan_json = plan.has_value() ? ToJson(*plan) : "";
  status.Update(plan_json.status());
  if (!status.ok()) return Report(session, kExitOther, status);
  if (plan.has_value()) {
    std::cout << "{\"plan\":" << *plan_json << ",\"response\":" << *json << "}\n";
  } else {
    std::cout << *json << "\n";
  }
  return kExitOk;
}

ExitCode RunAttend(const Session& session, const AttendFlags& flags) {
  auto request = BuildRequest(flags.request);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  if (absl::Status status = AddOutputs(flags.outputs, request->mutable_outputs()); !status.ok()) {
    return Report(session, kExitUsage, status);
  }
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  std::optional<v1::PlanAttentionResponse> plan;
  if (flags.outputs.explain) {
    auto planned = (*client)->PlanAttention(client::PlanRequestOf(*request));
    if (!planned.ok()) return ReportServer(session, planned.status());
    plan = *std::move(planned);
    // Before the work, which may take long.
    if (!session.json) std::cout << PlanText(*plan) << "\n" << std::flush;
  }
  auto response = Send(**client, flags.stream, *request);
  if (!response.ok()) return ReportServer(session, response.status());
  return session.json ? PrintAsJson(session, flags.outputs, plan, &*response)
                      : PrintForPeople(session, flags.outputs, *request, &*response);
}

}  // namespace

void AddAttend(CLI::App& app, Session& session) {
  CLI::App* attend = app.add_subcommand("attend", "Computes attention.");
  const auto flags = std::make_shared<AttendFlags>();
  AddRequestFlags(*attend, flags->request);
  AddOutputFlags(*attend, flags->outputs);
  attend->add_flag("--stream", flags->stream, "Send and receive in chunks, which larger calls always do");
  attend->footer(kHelp);
  attend->callback([&session, flags] { session.exit_code = RunAttend(session, *flags); });
}

}  // namespace headlight::cli
