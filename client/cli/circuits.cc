#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/draw.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/parse_flags.h"
#include "client/cli/request_flags.h"
#include "client/cpp/tensors.h"
#include "headlight/v1/analysis_service.pb.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "A head's query-key circuit decides where to look, its output-value circuit what to copy. Copying: the "
    "eigenvalues'\n"
    "sum over the sum of their sizes, -1 (takes away) to 1 (copies). Compositions: how a head feeds one of the later\n"
    "layer, the strongest first; those above what random matrices score are marked with *.\n"
    "With --json the AnalyzeCircuitsResponse in protobuf's JSON mapping, tensors as numbers.\n"
    "Examples:\n"
    "  headlight circuits\n"
    "  headlight circuits --heads 0,2 --directions 2 --json\n"
    "  headlight circuits --layer two/0 --later two/1\n"
    "  headlight circuits --swap 0:2\n";

constexpr int kValuesShown = 4;
constexpr std::size_t kCompositionsShown = 20;

struct CircuitsFlags {
  std::string layer = "demo";
  std::uint32_t query_heads = 0, key_value_heads = 0;
  std::string heads;
  std::uint32_t directions = 0;
  std::string later;
  std::uint32_t later_query_heads = 0, later_key_value_heads = 0;
  std::string swap;  // "A:B"
  std::string embeddings;
  bool causal = false;
};

// A list of heads into its field.
absl::Status FillHeads(const std::string& text, v1::AnalyzeCircuitsRequest* request) {
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<std::vector<std::int64_t>> heads = ParseIntegers("--heads", text);
  if (!heads.ok()) return heads.status();
  for (const std::int64_t head : *heads) {
    if (head < 0 || head > UINT32_MAX) return absl::InvalidArgumentError(absl::StrCat("--heads: no head is ", head));
    request->add_heads(static_cast<std::uint32_t>(head));
  }
  return absl::OkStatus();
}

absl::Status FillSwapHeads(const std::string& text, v1::CircuitSwap* swap) {
  const std::size_t colon = text.find(':');
  const auto head = [](const std::string& number, auto set) {
    std::uint32_t value = 0;
    const bool good = RequireCount(number).empty() && absl::SimpleAtoi(number, &value);
    if (good) set(value);
    return good;
  };
  if (colon != std::string::npos && head(text.substr(0, colon), [&](std::uint32_t h) { swap->set_aim_head(h); }) &&
      head(text.substr(colon + 1), [&](std::uint32_t h) { swap->set_cargo_head(h); })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("--swap ", text, ": two heads, AIM:CARGO, such as 0:2"));
}

absl::StatusOr<v1::AnalyzeCircuitsRequest> RequestOf(const CircuitsFlags& flags) {
  v1::AnalyzeCircuitsRequest request;
  request.set_layer(flags.layer);
  request.set_query_heads(flags.query_heads);
  request.set_key_value_heads(flags.key_value_heads);
  request.set_directions(flags.directions);
  request.set_later_layer(flags.later);
  request.set_later_query_heads(flags.later_query_heads);
  request.set_later_key_value_heads(flags.later_key_value_heads);
  if (absl::Status status = FillHeads(flags.heads, &request); !status.ok()) return status;
  if (flags.swap.empty()) return request;
  v1::CircuitSwap* swap = request.mutable_swap();
  if (absl::Status status = FillSwapHeads(flags.swap, swap); !status.ok()) return status;
  if (flags.causal) {
    swap->mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  }
  if (!flags.embeddings.empty()) {
    absl::StatusOr<v1::Tensor> embeddings = ReadTensor(flags.embeddings, v1::TENSOR_KIND_F32);
    if (!embeddings.ok()) return embeddings.status();
    *swap->mutable_embeddings() = *std::move(embeddings);
  } else if (flags.layer != "demo") {
    return absl::InvalidArgumentError(
        "--swap needs --embeddings FILE.npy: only the demo layer has a sentence of its own");
  }
  return request;
}

std::string Leading(const google::protobuf::RepeatedField<double>& values) {
  std::string text;
  const int shown = std::min(values.size(), kValuesShown);
  for (int i = 0; i < shown; ++i) absl::StrAppend(&text, i == 0 ? "" : " ", absl::StrFormat("%.3g", values[i]));
  return absl::StrCat(text, values.size() > shown ? " ..." : "");
}

std::string Norm(double value) { return absl::StrFormat("%.4g", value); }

void PrintHeads(const v1::AnalyzeCircuitsResponse& answer) {
  std::vector<std::vector<std::string>> rows = {
      {"head", "QK norm", "QK singular values", "OV norm", "OV singular values", "copying"}};
  for (const v1::HeadCircuits& head : answer.heads()) {
    const v1::Circuit& qk = head.query_key();
    const v1::Circuit& ov = head.output_value();
    rows.push_back({absl::StrCat(head.head()), Norm(qk.frobenius_norm()), Leading(qk.singular_values()),
                    Norm(ov.frobenius_norm()), Leading(ov.singular_values()),
                    head.eigenvalues_real_size() == 0 ? "-" : absl::StrFormat("%.3f", head.copying_score())});
  }
  std::cout << "layer " << Printable(answer.layer_name()) << "\n"
            << Table(rows) << "copying: of embeddings, 1 writes back what it reads, -1 its opposite; not of words\n";
}

void PrintCompositions(const v1::AnalyzeCircuitsResponse& answer, const std::string& later) {
  struct Score {
    double score, baseline;
    const char* way;
    std::uint32_t head, later_head;
  };
  const v1::Composition& random = answer.random_baseline();
  std::vector<Score> scores;
  for (const v1::Composition& c : answer.compositions()) {
    scores.push_back({c.query(), random.query(), "queries", c.head(), c.later_head()});
    scores.push_back({c.key(), random.key(), "keys", c.head(), c.later_head()});
    scores.push_back({c.value(), random.value(), "values", c.head(), c.later_head()});
  }
  std::stable_sort(scores.begin(), scores.end(), [](const Score& a, const Score& b) { return a.score > b.score; });
  std::vector<std::vector<std::string>> rows = {{"head", "later head", "through", "score", "random", ""}};
  for (std::size_t i = 0; i < std::min(scores.size(), kCompositionsShown); ++i) {
    const Score& s = scores[i];
    rows.push_back({absl::StrCat(s.head), absl::StrCat(s.later_head), s.way, absl::StrFormat("%.4f", s.score),
                    absl::StrFormat("%.4f", s.baseline), s.score > s.baseline ? "*" : ""});
  }
  std::cout << "\nhow heads feed those of layer " << Printable(later) << "\n" << Table(rows);
  if (scores.size() > kCompositionsShown) {
    std::cout << "(" << scores.size() - kCompositionsShown << " weaker ones are left out; --json has all)\n";
  }
}

// The swapped head's map.
absl::Status PrintSwap(const v1::AnalyzeCircuitsResponse& answer, const v1::CircuitSwap& swap,
                       const std::vector<std::string>& words) {
  const absl::StatusOr<std::vector<float>> weights = client::FloatsOf(answer.swapped_map());
  if (!weights.ok()) return weights.status();
  LabelledMap map;
  const auto tokens =
      static_cast<std::size_t>(answer.swapped_map().shape_size() == 2 ? answer.swapped_map().shape(0) : 0);
  if (weights->empty() || tokens * tokens != weights->size()) {
    return absl::InvalidArgumentError("the swapped map of the answer is not square");
  }
  for (std::size_t t = 0; t < tokens; ++t) map.rows.push_back(t < words.size() ? words[t] : absl::StrCat(t));
  map.keys = map.rows;
  map.weights = *weights;
  std::cout << "\nhead " << swap.aim_head() << " looks, and carries what head " << swap.cargo_head() << " would\n"
            << DrawMap(map, StyleOfOutput());
  return absl::OkStatus();
}

absl::Status PrintAsJson(v1::AnalyzeCircuitsResponse answer) {
  std::vector<v1::Tensor*> tensors;
  for (v1::HeadCircuits& head : *answer.mutable_heads()) {
    for (v1::Circuit* circuit : {head.mutable_query_key(), head.mutable_output_value()}) {
      if (circuit->has_left()) tensors.push_back(circuit->mutable_left());
      if (circuit->has_right()) tensors.push_back(circuit->mutable_right());
    }
    if (head.has_scores()) tensors.push_back(head.mutable_scores());
  }
  if (answer.has_swapped_output()) tensors.push_back(answer.mutable_swapped_output());
  if (answer.has_swapped_map()) tensors.push_back(answer.mutable_swapped_map());
  if (answer.has_swapped_contribution()) tensors.push_back(answer.mutable_swapped_contribution());
  for (v1::Tensor* tensor : tensors) {
    if (absl::Status status = SpellOut(tensor); !status.ok()) return status;
  }
  return PrintJson(answer);
}

ExitCode RunCircuits(const Session& session, const CircuitsFlags& flags) {
  absl::StatusOr<v1::AnalyzeCircuitsRequest> request = RequestOf(flags);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  std::vector<std::string> words;
  if (request->has_swap() && !request->swap().has_embeddings()) {
    auto demo = (*client)->GetDemo();
    if (!demo.ok()) return ReportServer(session, demo.status());
    request->mutable_swap()->mutable_embeddings()->Swap(demo->mutable_embeddings());
    for (const std::string& word : demo->tokens()) words.push_back(Printable(word));
  }
  const auto answer = (*client)->AnalyzeCircuits(*request);
  if (!answer.ok()) return ReportServer(session, answer.status());
  absl::Status printed;
  if (session.json) {
    printed = PrintAsJson(*answer);
  } else {
    PrintHeads(*answer);
    if (answer->compositions_size() > 0) PrintCompositions(*answer, flags.later);
    if (request->has_swap()) printed = PrintSwap(*answer, request->swap(), words);
  }
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

}  // namespace

void AddCircuits(CLI::App& app, Session& session) {
  CLI::App* circuits = app.add_subcommand("circuits", "What heads look for and what they copy, from their weights.");
  const auto flags = std::make_shared<CircuitsFlags>();
  circuits->add_option("--layer", flags->layer, "The layer, by name or id")->check(RefuseEmpty)->capture_default_str();
  circuits->add_option("--query-heads", flags->query_heads, "Its query heads, where it does not say");
  circuits->add_option("--kv-heads", flags->key_value_heads, "Its key/value heads, where it does not say");
  circuits->add_option("--heads", flags->heads, "These heads alone: 0,2")->check(RefuseEmpty);
  circuits->add_option("--directions", flags->directions, "Singular directions of each circuit, for --json: 0 to 64");
  CLI::Option* later = circuits->add_option("--later", flags->later, "A later layer that these heads feed");
  later->check(RefuseEmpty);
  circuits->add_option("--later-query-heads", flags->later_query_heads, "Its query heads, where it does not say")
      ->needs(later);
  circuits->add_option("--later-kv-heads", flags->later_key_value_heads, "Its key/value heads, where it does not say")
      ->needs(later);
  CLI::Option* swap =
      circuits->add_option("--swap", flags->swap, "AIM:CARGO: where the one looks, what the other copies");
  swap->check(RefuseEmpty);
  circuits->add_option("--embeddings", flags->embeddings, "[T, E] that the swap reads, .npy; else the demo's sentence")
      ->needs(swap)
      ->check(RefuseEmpty);
  circuits->add_flag("--causal", flags->causal, "The swap sees nothing after a token")->needs(swap);
  circuits->footer(kHelp);
  circuits->callback([&session, flags] { session.exit_code = RunCircuits(session, *flags); });
}

}  // namespace headlight::cli
