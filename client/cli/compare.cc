#include <cmath>
#include <iostream>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/execution.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/request_flags.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "Without an input: random Q, K and V of --tokens-count tokens, --heads (8) heads of --head-size (64).\n"
    "GFLOP/s count the pairs that the mask lets through, over the time of projections and attention.\n"
    "With --json the CompareAlgorithmsResponse in protobuf's JSON mapping.\n"
    "Examples:\n"
    "  headlight compare\n"
    "  headlight compare --tokens-count 4096 --heads 8 --head-size 64 --causal top-left\n"
    "  headlight compare --query q.npy --key k.npy --value v.npy --json\n";

struct CompareFlags {
  RequestFlags request;
  std::int64_t tokens = 2048;
  std::uint64_t seed = 0;
};

// SplitMix64: the same numbers everywhere, which the standard library's distributions do not promise.
class RandomFloats {
 public:
  explicit RandomFloats(std::uint64_t seed) : state_(seed) {}

  // Uniform, of mean 0 and variance 1.
  float Next() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x ^= x >> 31;
    return (static_cast<float>(x >> 40) * 0x1p-23F - 1.0F) * std::sqrt(3.0F);
  }

 private:
  std::uint64_t state_;
};

// [1, heads, tokens, head size] three times. The server would refuse what is too large only after it was made and sent.
absl::StatusOr<v1::AttendRequest> RandomRequest(const CompareFlags& flags) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 28;
  OptionFlags options = flags.request.options;
  if (options.heads == 0) options.heads = 8;
  if (options.head_size == 0) options.head_size = 64;
  const std::int64_t kv_heads = options.kv_heads == 0 ? options.heads : options.kv_heads;
  RandomFloats random(flags.seed);
  v1::AttendRequest request;
  v1::QueryKeyValue* input = request.mutable_query_key_value();
  for (v1::Tensor* tensor : {input->mutable_query(), input->mutable_key(), input->mutable_value()}) {
    const std::int64_t heads = tensor == &input->query() ? std::int64_t{options.heads} : kv_heads;
    const std::vector<std::int64_t> shape = {1, heads, flags.tokens, options.head_size};
    const std::optional<std::int64_t> count = client::ElementCount(shape);
    if (!count.has_value() || *count > kMostElements) {
      return absl::InvalidArgumentError(absl::StrCat("a tensor of shape ", ShapeText(shape), " is too large to send"));
    }
    std::vector<float> values(static_cast<std::size_t>(*count));
    for (float& value : values) value = random.Next();
    absl::StatusOr<v1::Tensor> made = client::MakeTensor(values, shape, KindNamed(options.kind));
    if (!made.ok()) return made.status();
    *tensor = *std::move(made);
  }
  if (absl::Status status = FillOptions(options, &request); !status.ok()) return status;
  return request;
}

v1::CompareAlgorithmsRequest AsCompare(v1::AttendRequest request) {
  v1::CompareAlgorithmsRequest compare;
  if (request.has_self_attention()) compare.mutable_self_attention()->Swap(request.mutable_self_attention());
  if (request.has_query_key_value()) compare.mutable_query_key_value()->Swap(request.mutable_query_key_value());
  compare.mutable_options()->Swap(request.mutable_options());
  compare.mutable_outputs()->Swap(request.mutable_outputs());
  compare.mutable_tokens()->Swap(request.mutable_tokens());
  compare.set_priority(request.priority());
  return compare;
}

std::vector<std::string> RunRow(const std::string& name, const v1::Execution& e, bool per_worker) {
  const std::uint64_t workers = e.workers();
  return {name,
          HumanSeconds(SecondsOf(e.total())),
          HumanRate(e.flops(), ComputeSeconds(e)),
          HumanBytes(e.scratch_bytes()),
          per_worker && workers > 0 ? HumanBytes(e.scratch_bytes() / workers) : "-",
          HumanBytes(e.workspace_bytes()),
          HumanBytes(e.score_grid_bytes())};
}

std::vector<std::string> DifferenceRow(const std::string& name, const v1::Difference& difference) {
  const auto number = [](double x) { return absl::StrFormat("%.3g", x); };
  return {name, number(difference.max_abs_difference()), number(difference.mean_abs_difference()),
          ShapeText(difference.index()), absl::StrCat(difference.rows_compared())};
}

void PrintForPeople(const v1::CompareAlgorithmsResponse& answer) {
  const v1::ReferenceExecution& reference = answer.reference();
  const double seconds = SecondsOf(reference.total());
  std::cout << Table({{"", "time", "speed", "scratch", "per worker", "workspace", "full grid"},
                      RunRow("naive", answer.naive(), false),
                      RunRow("flash", answer.flash(), true),
                      {"reference", HumanSeconds(seconds), HumanRate(reference.flops(), seconds), "-", "-",
                       HumanBytes(reference.workspace_bytes()), "-"}})
            << "The reference computed " << reference.rows() << " of " << reference.rows_total()
            << " rows in double precision.\n\n"
            << Table({{"difference", "largest", "mean", "at", "rows compared"},
                      DifferenceRow("naive, flash", answer.naive_flash()),
                      DifferenceRow("naive, reference", answer.naive_reference()),
                      DifferenceRow("flash, reference", answer.flash_reference())});
}

ExitCode RunCompare(const Session& session, const CompareFlags& flags) {
  auto request = flags.request.input.Any() ? BuildRequest(flags.request) : RandomRequest(flags);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  const auto answer = (*client)->CompareAlgorithms(AsCompare(*std::move(request)));
  if (!answer.ok()) return ReportServer(session, answer.status());
  if (!session.json) {
    PrintForPeople(*answer);
    return kExitOk;
  }
  const absl::Status printed = PrintJson(*answer);
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

}  // namespace

void AddCompare(CLI::App& app, Session& session) {
  CLI::App* compare = app.add_subcommand("compare", "Runs naive, flash and a double-precision reference on one input.");
  const auto flags = std::make_shared<CompareFlags>();
  AddRequestFlags(*compare, flags->request);
  compare->remove_option(compare->get_option("--algorithm"));
  CLI::Option* random[] = {
      compare->add_option("--tokens-count", flags->tokens, "Random input: how many tokens")->capture_default_str(),
      compare->add_option("--seed", flags->seed, "Random input: its seed")->check(RefuseMinus)->capture_default_str()};
  for (CLI::Option* option : random) {
    option->group("Input");
    for (const char* input : {"--request", "--query", "--embeddings", "--seeded-embeddings"}) {
      option->excludes(compare->get_option(input));
    }
  }
  compare->footer(kHelp);
  compare->callback([&session, flags] { session.exit_code = RunCompare(session, *flags); });
}

}  // namespace headlight::cli
