#include "client/cpp/plan.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/explain.h"
#include "client/cli/json.h"
#include "client/cli/output_flags.h"
#include "client/cli/request_flags.h"
#include "client/cpp/streaming.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "Takes the flags of `headlight attend`, sends shapes in place of numbers, and computes and writes nothing. "
    "Without\n"
    "an input: Q, K and V of --tokens-count tokens, --heads (8) heads of --head-size (64).\n"
    "What is too large is told line by line; the exit code is still 0. With --json the PlanAttentionResponse in\n"
    "protobuf's JSON mapping.\n"
    "Examples:\n"
    "  headlight plan --tokens-count 16384\n"
    "  headlight plan --tokens-count 4096 --heads 1 --head-size 512 --algorithm naive\n"
    "  headlight plan --seeded-embeddings 1,16384,512 --seeded-weights 2 --heads 8 --maps all:pooled=64x64,max\n"
    "  headlight plan --query q.npy --key k.npy --value v.npy --causal top-left --json\n";

struct PlanFlags {
  RequestFlags request;
  OutputFlags outputs;
  std::int64_t tokens = 2048;
};

// Q, K and V of [1, heads, tokens, head size], and the options of the flags.
absl::StatusOr<v1::PlanAttentionRequest> SizesRequest(const PlanFlags& flags) {
  OptionFlags options = flags.request.options;
  if (options.heads == 0) options.heads = 8;
  if (options.head_size == 0) options.head_size = 64;
  const std::int64_t kv_heads = options.kv_heads == 0 ? options.heads : options.kv_heads;
  v1::AttendRequest rest;
  if (absl::Status status = FillOptions(options, &rest); !status.ok()) return status;
  v1::PlanAttentionRequest plan = client::PlanRequestOf(rest);
  v1::QueryKeyValueSpec* input = plan.mutable_query_key_value();
  for (v1::TensorSpec* spec : {input->mutable_query(), input->mutable_key(), input->mutable_value()}) {
    const std::int64_t heads = spec == &input->query() ? std::int64_t{options.heads} : kv_heads;
    const std::vector<std::int64_t> shape = {1, heads, flags.tokens, options.head_size};
    spec->mutable_shape()->Assign(shape.begin(), shape.end());
    spec->set_kind(KindNamed(options.kind));
  }
  return plan;
}

absl::StatusOr<v1::PlanAttentionRequest> RequestFor(const PlanFlags& flags) {
  absl::StatusOr<v1::PlanAttentionRequest> plan;
  if (flags.request.input.Any()) {
    const absl::StatusOr<v1::AttendRequest> request = BuildRequest(flags.request);
    if (!request.ok()) return request.status();
    plan = client::PlanRequestOf(*request);
  } else {
    plan = SizesRequest(flags);
    if (!plan.ok()) return plan;
  }
  if (absl::Status status = AddOutputs(flags.outputs, plan->mutable_outputs()); !status.ok()) return status;
  plan->set_streamed(client::NeedsStream(*plan));
  return plan;
}

ExitCode RunPlan(const Session& session, const PlanFlags& flags) {
  const auto request = RequestFor(flags);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  const auto plan = (*client)->PlanAttention(*request);
  if (!plan.ok()) return ReportServer(session, plan.status());
  if (!session.json) {
    std::cout << PlanText(*plan);
    return kExitOk;
  }
  const absl::Status printed = PrintJson(*plan);
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

}  // namespace

void AddPlan(CLI::App& app, Session& session) {
  CLI::App* plan = app.add_subcommand("plan", "Says what an attention call would compute and take, without doing it.");
  const auto flags = std::make_shared<PlanFlags>();
  AddRequestFlags(*plan, flags->request);
  AddOutputFlags(*plan, flags->outputs);
  CLI::Option* tokens = plan->add_option("--tokens-count", flags->tokens, "Sizes without an input: how many tokens");
  tokens->group("Input")->capture_default_str();
  for (const char* input : {"--request", "--query", "--embeddings", "--seeded-embeddings"}) {
    tokens->excludes(plan->get_option(input));
  }
  plan->footer(kHelp);
  plan->callback([&session, flags] { session.exit_code = RunPlan(session, *flags); });
}

}  // namespace headlight::cli
