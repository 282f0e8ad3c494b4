#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/parse_flags.h"
#include "client/cli/request_flags.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "Without --embeddings: the demo's own sentence.\n"
    "With --json the AblateHeadsResponse in protobuf's JSON mapping; --output takes the output out of it.\n"
    "Examples:\n"
    "  headlight ablate\n"
    "  headlight ablate --heads 0,2 --mode mean\n"
    "  headlight ablate --layer mine --embeddings x.npy --causal top-left --heads 3 --output without_3.npy\n"
    "  headlight ablate --json | jq '[.redundancy[].head]'\n";

struct AblateFlags {
  std::string layer = "demo";
  std::string embeddings;  // path; empty: the demo's
  std::vector<std::uint32_t> heads;
  std::string mode = "zero";
  std::uint32_t query_heads = 0, key_value_heads = 0;
  std::string causal;  // an alignment
  std::string output;  // path; empty: not written
};

absl::StatusOr<v1::AblateHeadsRequest> RequestFor(const AblateFlags& flags) {
  v1::AblateHeadsRequest request;
  request.set_layer(flags.layer);
  request.mutable_heads()->Assign(flags.heads.begin(), flags.heads.end());
  request.set_mode(flags.mode == "mean" ? v1::ABLATION_MODE_MEAN : v1::ABLATION_MODE_ZERO);
  request.mutable_options()->set_query_heads(flags.query_heads);
  request.mutable_options()->set_key_value_heads(flags.key_value_heads);
  if (!flags.causal.empty()) {
    const absl::StatusOr<Alignment> causal = ParseAlignment("--causal", flags.causal);
    if (!causal.ok()) return causal.status();
    v1::CausalMask* mask = request.mutable_options()->mutable_mask()->mutable_causal();
    mask->set_alignment(causal->alignment);
    if (causal->offset.has_value()) mask->set_offset(*causal->offset);
  }
  if (!flags.embeddings.empty()) {
    absl::StatusOr<v1::Tensor> embeddings = ReadTensor(flags.embeddings, v1::TENSOR_KIND_F32);
    if (!embeddings.ok()) return embeddings.status();
    *request.mutable_embeddings() = *std::move(embeddings);
  }
  return request;
}

std::vector<std::string> Row(const std::string& name, const v1::OutputChange& change) {
  return {name, absl::StrFormat("%.4f", change.relative_l2()), absl::StrFormat("%.4f", change.cosine())};
}

void PrintForPeople(const AblateFlags& flags, const v1::AblateHeadsResponse& answer) {
  std::cout << "layer " << Printable(answer.layer()) << ", " << answer.losses_size() << " heads, output "
            << ShapeText(answer.output().shape()) << ", in a head's place "
            << (flags.mode == "mean" ? "its mean" : "nothing") << "\n\n";
  std::vector<std::vector<std::string>> losses = {{"without", "relative L2", "cosine"}};
  for (const v1::HeadLoss& loss : answer.losses())
    losses.push_back(Row(absl::StrCat("head ", loss.head()), loss.change()));
  if (!flags.heads.empty()) {
    losses.push_back(Row(absl::StrCat(flags.heads.size() == 1 ? "head " : "heads ", absl::StrJoin(flags.heads, ", ")),
                         answer.change()));
  }
  std::vector<std::vector<std::string>> order = {{"most redundant first", "relative L2", "cosine"}};
  for (const v1::RedundancyStep& step : answer.redundancy()) {
    order.push_back(Row(absl::StrCat(order.size(), ". head ", step.head()), step.change()));
  }
  std::cout << Table(losses) << "\n"
            << Table(order)
            << "Each step takes the head whose loss, together with all before, changes the output least.\n"
            << "relative L2: ||with - without|| / ||with||; cosine: 1 is no change of direction.\n";
}

absl::Status WriteOutput(const std::string& path, const v1::Tensor& output) {
  const absl::StatusOr<std::vector<float>> values = client::FloatsOf(output);
  if (!values.ok()) return values.status();
  return WriteNpy(path, *values, output.shape());
}

absl::Status PrintAsJson(v1::AblateHeadsResponse answer) {
  absl::Status status;
  if (answer.has_output()) status.Update(SpellOut(answer.mutable_output()));
  if (answer.has_mean_contribution()) status.Update(SpellOut(answer.mutable_mean_contribution()));
  if (!status.ok()) return status;
  return PrintJson(answer);
}

ExitCode RunAblate(const Session& session, const AblateFlags& flags) {
  absl::StatusOr<v1::AblateHeadsRequest> request = RequestFor(flags);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  if (!request->has_embeddings()) {
    const auto demo = (*client)->GetDemo();
    if (!demo.ok()) return ReportServer(session, demo.status());
    *request->mutable_embeddings() = demo->embeddings();
  }
  auto answer = (*client)->AblateHeads(*request);
  if (!answer.ok()) return ReportServer(session, answer.status());
  if (!flags.output.empty()) {
    const absl::Status written = WriteOutput(flags.output, answer->output());
    if (!written.ok()) return Report(session, absl::IsUnknown(written) ? kExitUsage : kExitOther, written);
  }
  if (session.json) {
    if (!flags.output.empty()) answer->clear_output();
    const absl::Status printed = PrintAsJson(*std::move(answer));
    return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
  }
  PrintForPeople(flags, *answer);
  if (!flags.output.empty()) std::cout << "written    " << Printable(flags.output) << "\n";
  return kExitOk;
}

}  // namespace

void AddAblate(CLI::App& app, Session& session) {
  CLI::App* ablate =
      app.add_subcommand("ablate", "What a layer's output becomes without some heads, and which can go.");
  const auto flags = std::make_shared<AblateFlags>();
  ablate->add_option("--layer", flags->layer, "A layer that the server holds")->capture_default_str();
  ablate->add_option("--embeddings", flags->embeddings, "[T,E] or [B,T,E]")->type_name("FILE.npy");
  ablate->add_option("--heads", flags->heads, "Off together, such as 0,2; none: the layer's own output")
      ->delimiter(',')
      ->check(RefuseMinus)
      ->type_name("LIST")
      ->allow_extra_args(false);
  ablate->add_option("--mode", flags->mode, "What stands in a head's place: nothing, or its mean over all rows")
      ->check(CLI::IsMember({"zero", "mean"}))
      ->capture_default_str();
  ablate->add_option("--causal", flags->causal, "No key after the row's own: top-left, bottom-right or explicit:OFFSET")
      ->type_name("ALIGNMENT")
      ->check(RefuseEmpty);
  ablate->add_option("--query-heads", flags->query_heads, "How many the layer has, where it does not say")
      ->check(RefuseMinus);
  ablate->add_option("--kv-heads", flags->key_value_heads, "Likewise its key/value heads; else as many")
      ->check(RefuseMinus);
  ablate->add_option("--output", flags->output, "Where the output without the heads goes")->type_name("FILE.npy");
  ablate->footer(kHelp);
  ablate->callback([&session, flags] { session.exit_code = RunAblate(session, *flags); });
}

}  // namespace headlight::cli
