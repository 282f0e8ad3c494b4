#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/files.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/npy.h"
#include "client/cli/parse_flags.h"
#include "client/cli/request_flags.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "Without --embeddings: the demo's own sentence. Files and --token-ids go together in their order.\n"
    "An attention share is the mean over the tokens for which there is such a key. Weighted by values: each weight\n"
    "times the length of what it adds to the output (Kobayashi et al. 2020). Scores: TransformerLens' head detector.\n"
    "With --json the AnalyzeHeadsResponse in protobuf's JSON mapping.\n"
    "Examples:\n"
    "  headlight heads\n"
    "  headlight heads --layer mine/0 --causal top-left --embeddings a.npy --token-ids 5,3,9,5,3\n"
    "  headlight heads --layer mine/0 --embeddings a.npy b.npy --token-ids a_ids.npy b_ids.npy\n"
    "  headlight heads --json | jq -r '.heads[].description'\n";

struct HeadsFlags {
  std::string layer = "demo";
  std::vector<std::string> embeddings;  // paths; none: the demo's
  std::vector<std::string> token_ids;   // lists or paths, as many as embeddings, or none
  std::vector<std::string> patterns;    // paths, likewise
  std::uint32_t query_heads = 0, key_value_heads = 0;
  std::string causal;  // an alignment
  std::optional<double> cluster_distance;
};

// "1,2,3" or the path of a .npy file.
absl::StatusOr<std::vector<std::int64_t>> TokenIds(const std::string& given) {
  if (!absl::EndsWith(given, ".npy")) return ParseIntegers("--token-ids", given);
  constexpr float kMost = 1 << 24;
  const absl::StatusOr<NpyArray> array = ReadNpy(given);
  if (!array.ok()) return array.status();
  std::vector<std::int64_t> ids;
  for (const float value : array->values) {
    // Beyond, neighbours would become one: files are read as float32.
    if (!(value >= -kMost && value <= kMost)) {
      return absl::InvalidArgumentError(absl::StrCat(given, ": ids from -2^24 to 2^24 are read from a file"));
    }
    ids.push_back(static_cast<std::int64_t>(value));
  }
  return ids;
}

absl::Status AddSequences(const HeadsFlags& flags, v1::AnalyzeHeadsRequest* request) {
  for (const auto* list : {&flags.token_ids, &flags.patterns}) {
    if (list->empty() || list->size() == flags.embeddings.size()) continue;
    return absl::InvalidArgumentError(absl::StrCat(list == &flags.token_ids ? "--token-ids" : "--pattern",
                                                   " was given ", list->size(), " times, --embeddings ",
                                                   flags.embeddings.size()));
  }
  for (std::size_t i = 0; i < flags.embeddings.size(); ++i) {
    v1::HeadSequence* sequence = request->add_sequences();
    absl::StatusOr<v1::Tensor> embeddings = ReadTensor(flags.embeddings[i], v1::TENSOR_KIND_F32);
    if (!embeddings.ok()) return embeddings.status();
    *sequence->mutable_embeddings() = *std::move(embeddings);
    if (!flags.token_ids.empty()) {
      const absl::StatusOr<std::vector<std::int64_t>> ids = TokenIds(flags.token_ids[i]);
      if (!ids.ok()) return ids.status();
      sequence->mutable_token_ids()->Assign(ids->begin(), ids->end());
    }
    if (flags.patterns.empty()) continue;
    absl::StatusOr<v1::Tensor> pattern = ReadTensor(flags.patterns[i], v1::TENSOR_KIND_F32, true);
    if (!pattern.ok()) return pattern.status();
    *sequence->mutable_pattern() = *std::move(pattern);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::AnalyzeHeadsRequest> RequestFor(const HeadsFlags& flags) {
  v1::AnalyzeHeadsRequest request;
  request.set_layer(flags.layer);
  request.mutable_options()->set_query_heads(flags.query_heads);
  request.mutable_options()->set_key_value_heads(flags.key_value_heads);
  if (flags.cluster_distance.has_value()) request.set_cluster_distance(*flags.cluster_distance);
  if (!flags.causal.empty()) {
    const absl::StatusOr<Alignment> causal = ParseAlignment("--causal", flags.causal);
    if (!causal.ok()) return causal.status();
    v1::CausalMask* mask = request.mutable_options()->mutable_mask()->mutable_causal();
    mask->set_alignment(causal->alignment);
    if (causal->offset.has_value()) mask->set_offset(*causal->offset);
  }
  if (absl::Status status = AddSequences(flags, &request); !status.ok()) return status;
  return request;
}

// The demo's sentence; equal words are the same token.
void AddDemoSentence(const v1::GetDemoResponse& demo, v1::AnalyzeHeadsRequest* request) {
  v1::HeadSequence* sequence = request->add_sequences();
  *sequence->mutable_embeddings() = demo.embeddings();
  std::map<std::string, std::int64_t> ids;
  for (const std::string& word : demo.tokens()) {
    sequence->add_token_ids(ids.emplace(word, static_cast<std::int64_t>(ids.size())).first->second);
  }
}

std::string Number(double x) { return absl::StrFormat("%.2f", x); }

std::string NameOf(const v1::HeadReport& head) { return absl::StrCat("head ", head.head()); }

void AddShares(const v1::AttentionShares& shares, std::vector<std::string>* row) {
  for (const double share :
       {shares.previous(), shares.same(), shares.first(), shares.last(), shares.duplicate(), shares.induction()}) {
    row->push_back(Number(share));
  }
}

void PrintDistances(const v1::AnalyzeHeadsResponse& answer, double nearest) {
  constexpr std::size_t kMost = 10;
  std::vector<const v1::HeadDistance*> pairs;
  for (const v1::HeadDistance& pair : answer.distances()) pairs.push_back(&pair);
  std::stable_sort(pairs.begin(), pairs.end(), [](const v1::HeadDistance* a, const v1::HeadDistance* b) {
    return a->jensen_shannon() < b->jensen_shannon();
  });
  if (pairs.empty()) return;
  std::vector<std::vector<std::string>> rows = {{"nearest heads", "distance"}};
  for (const v1::HeadDistance* pair : pairs) {
    if (rows.size() > kMost) break;
    rows.push_back(
        {absl::StrCat(pair->head(), " and ", pair->other()), absl::StrFormat("%.3f", pair->jensen_shannon())});
  }
  std::cout << "\n" << Table(rows);
  if (pairs.size() > kMost) std::cout << "and " << pairs.size() - kMost << " pairs farther apart\n";
  std::cout << "distance: Jensen-Shannon divergence of where they look, 0 alike to 0.693 nowhere together\n\n";
  for (const v1::HeadCluster& cluster : answer.clusters()) {
    std::cout << "look-alikes: heads " << absl::StrJoin(cluster.heads(), ", ") << "\n";
  }
  if (answer.clusters_size() == 0) std::cout << "no look-alikes: no two heads are nearer than " << nearest << "\n";
}

void PrintForPeople(const v1::AnalyzeHeadsRequest& request, const v1::AnalyzeHeadsResponse& answer) {
  std::cout << "layer " << Printable(answer.layer()) << ", " << answer.heads_size() << " heads, " << answer.rows()
            << " tokens of " << request.sequences_size() << (request.sequences_size() == 1 ? " text\n" : " texts\n");
  for (const v1::HeadReport& head : answer.heads()) {
    std::cout << NameOf(head) << " " << Printable(head.description()) << "\n";
  }
  std::vector<std::vector<std::string>> shares = {{"attention", "entropy", "confidence", "distance", "previous", "same",
                                                   "first", "last", "duplicate", "induction"}};
  std::vector<std::vector<std::string>> by_value = {
      {"weighted by values", "previous", "same", "first", "last", "duplicate", "induction"}};
  std::vector<std::vector<std::string>> scores = {
      {"scores", "previous token", "duplicate token", "induction", "pattern"}};
  for (const v1::HeadReport& head : answer.heads()) {
    shares.push_back(
        {NameOf(head), Number(head.mean_entropy()), Number(head.mean_largest_weight()), Number(head.mean_distance())});
    AddShares(head.shares(), &shares.back());
    by_value.push_back({NameOf(head)});
    AddShares(head.value_weighted(), &by_value.back());
    scores.push_back({NameOf(head), Number(head.previous_token_score()), Number(head.duplicate_token_score()),
                      Number(head.induction_score()), head.has_pattern_score() ? Number(head.pattern_score()) : "-"});
  }
  std::cout << "\n" << Table(shares) << "\n" << Table(by_value) << "\n" << Table(scores);
  PrintDistances(answer, request.has_cluster_distance() ? request.cluster_distance() : 0.05);
}

ExitCode RunHeads(const Session& session, const HeadsFlags& flags) {
  absl::StatusOr<v1::AnalyzeHeadsRequest> request = RequestFor(flags);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  if (request->sequences_size() == 0) {
    const auto demo = (*client)->GetDemo();
    if (!demo.ok()) return ReportServer(session, demo.status());
    AddDemoSentence(*demo, &*request);
  }
  const auto answer = (*client)->AnalyzeHeads(*request);
  if (!answer.ok()) return ReportServer(session, answer.status());
  if (!session.json) {
    PrintForPeople(*request, *answer);
    return kExitOk;
  }
  const absl::Status printed = PrintJson(*answer);
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

}  // namespace

void AddHeads(CLI::App& app, Session& session) {
  CLI::App* heads = app.add_subcommand("heads", "What each head of a layer does: habits, scores, look-alikes.");
  const auto flags = std::make_shared<HeadsFlags>();
  heads->add_option("--layer", flags->layer, "A layer of the server, by name or id")->capture_default_str();
  heads->add_option("--embeddings", flags->embeddings, ".npy file, [T, E]: a text's; may be given again");
  heads->add_option("--token-ids", flags->token_ids, "Of each text: 1,2,3 or a .npy file; equal ids are the same token")
      ->needs("--embeddings");
  heads->add_option("--pattern", flags->patterns, "Of each text: .npy file of booleans, [T, T]: attention to score")
      ->needs("--embeddings");
  heads->add_option("--causal", flags->causal, "top-left, bottom-right or explicit:OFFSET");
  heads->add_option("--heads", flags->query_heads, "Query heads, where the layer does not say")->check(RefuseMinus);
  heads->add_option("--kv-heads", flags->key_value_heads, "Key/value heads, likewise")->check(RefuseMinus);
  heads->add_option("--cluster-distance", flags->cluster_distance, "Heads nearer than this are look-alikes (0.05)");
  heads->footer(kHelp);
  heads->callback([&session, flags] { session.exit_code = RunHeads(session, *flags); });
}

}  // namespace headlight::cli
