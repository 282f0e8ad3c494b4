#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/maps.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "Without words: Mr and Mrs Potter thanked the driver ; then Mrs\n"
    "Every word is one argument, a word of the stack's own. Words that begin with - go after --.\n"
    "With --json the TraceStackResponse in protobuf's JSON mapping.\n"
    "Examples:\n"
    "  headlight trace\n"
    "  headlight trace --maps\n"
    "  headlight trace --off 0:3 --target Potter\n"
    "  headlight trace --json | jq -r '.bets[0].token'\n";

constexpr const char* kText[] = {"Mr", "and", "Mrs", "Potter", "thanked", "the", "driver", ";", "then", "Mrs"};

struct TraceFlags {
  std::vector<std::string> words;
  std::string stack = "induction";
  std::vector<std::string> off;
  std::string target;
  bool maps = false;
  std::uint32_t bets = 5;
};

// "1:3".
absl::StatusOr<v1::StackHead> ParseHead(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  std::uint32_t layer = 0;
  std::uint32_t head = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &layer) || !absl::SimpleAtoi(parts[1], &head)) {
    return absl::InvalidArgumentError(absl::StrCat("--off ", text, ": expected LAYER:HEAD, as in 0:3"));
  }
  v1::StackHead parsed;
  parsed.set_layer(layer);
  parsed.set_head(head);
  return parsed;
}

absl::StatusOr<v1::TraceStackRequest> RequestFor(const TraceFlags& flags) {
  v1::TraceStackRequest request;
  request.set_stack(flags.stack);
  request.mutable_tokens()->Assign(flags.words.begin(), flags.words.end());
  if (flags.words.empty()) request.mutable_tokens()->Assign(std::begin(kText), std::end(kText));
  for (const std::string& off : flags.off) {
    absl::StatusOr<v1::StackHead> head = ParseHead(off);
    if (!head.ok()) return head.status();
    *request.add_off() = *std::move(head);
  }
  request.set_target(flags.target);
  request.set_maps(flags.maps);
  request.set_bets(flags.bets);
  return request;
}

std::string NameOf(const v1::Bet& bet) {
  return bet.token().empty() ? absl::StrCat("id ", bet.id()) : Printable(bet.token());
}

std::string HeadName(std::uint64_t layer, std::uint64_t head) { return absl::StrCat("layer ", layer, ", head ", head); }

// Without the sign of what rounds to 0.
std::string Number(double x) { return absl::StrFormat("%.3f", std::abs(x) < 0.0005 ? 0 : x); }

std::string BetsText(const v1::TraceStackResponse& answer) {
  std::vector<std::vector<std::string>> rows = {{"next", "logit", "probability"}};
  for (const v1::Bet& bet : answer.bets())
    rows.push_back({NameOf(bet), Number(bet.logit()), Number(bet.probability())});
  return Table(rows);
}

// What adds most first.
std::string AttributionText(const v1::TraceStackResponse& answer) {
  struct Part {
    std::string name;
    double logit = 0;
    std::optional<double> centered;
  };
  std::vector<Part> parts = {{"embedding", answer.embedding_logit(), std::nullopt},
                             {"biases", answer.bias_logit(), std::nullopt}};
  for (const v1::HeadAttribution& head : answer.attributions()) {
    parts.push_back({HeadName(head.layer(), head.head()), head.logit(), head.centered_logit()});
  }
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.logit > b.logit; });
  std::vector<std::vector<std::string>> rows = {
      {absl::StrCat("adds to ", NameOf(answer.target())), "logit", "beside all words"}};
  for (const Part& part : parts) {
    rows.push_back({part.name, Number(part.logit), part.centered.has_value() ? Number(*part.centered) : "-"});
  }
  rows.push_back({"together", Number(answer.target().logit()), "-"});
  return Table(rows);
}

std::string HeadsText(const v1::TraceStackResponse& answer) {
  std::vector<std::vector<std::string>> rows = {
      {"statistics", "entropy", "largest weight", "distance", "on previous", "on same", "on first"}};
  for (int l = 0; l < answer.layers_size(); ++l) {
    for (const v1::HeadStatistics& head : answer.layers(l).head_statistics()) {
      rows.push_back({HeadName(static_cast<std::uint64_t>(l), head.head()), Number(head.mean_entropy()),
                      Number(head.mean_largest_weight()), Number(head.mean_distance()),
                      Number(head.share_on_previous()), Number(head.share_on_same()), Number(head.share_on_first())});
    }
  }
  return Table(rows);
}

absl::Status PrintMaps(const v1::TraceStackResponse& answer) {
  const Words words = {{answer.tokens().begin(), answer.tokens().end()},
                       {answer.tokens().begin(), answer.tokens().end()}};
  const Style style = StyleOfOutput();
  for (int l = 0; l < answer.layers_size(); ++l) {
    for (const v1::WeightMap& map : answer.layers(l).maps()) {
      const absl::StatusOr<LabelledMap> labelled = Label(map, words);
      if (!labelled.ok()) return labelled.status();
      std::cout << "\n" << HeadName(static_cast<std::uint64_t>(l), map.head()) << "\n" << DrawMap(*labelled, style);
    }
  }
  return absl::OkStatus();
}

absl::Status PrintForPeople(const v1::TraceStackResponse& answer) {
  std::cout << Printable(answer.tokens().empty() ? absl::StrJoin(answer.token_ids(), " ")
                                                 : absl::StrJoin(answer.tokens(), " "))
            << "\n\n"
            << BetsText(answer) << "\n"
            << AttributionText(answer) << "\n"
            << HeadsText(answer);
  return PrintMaps(answer);
}

absl::Status PrintAsJson(v1::TraceStackResponse answer) {
  for (v1::LayerTrace& layer : *answer.mutable_layers()) {
    for (v1::WeightMap& map : *layer.mutable_maps()) {
      if (!map.has_weights()) continue;
      if (absl::Status status = SpellOut(map.mutable_weights()); !status.ok()) return status;
    }
  }
  return PrintJson(answer);
}

ExitCode RunTrace(const Session& session, const TraceFlags& flags) {
  const auto request = RequestFor(flags);
  if (!request.ok()) return Report(session, kExitUsage, request.status());
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  const auto answer = (*client)->TraceStack(*request);
  if (!answer.ok()) return ReportServer(session, answer.status());
  const absl::Status printed = session.json ? PrintAsJson(*answer) : PrintForPeople(*answer);
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

}  // namespace

void AddTrace(CLI::App& app, Session& session) {
  CLI::App* trace = app.add_subcommand("trace", "Runs a stack of layers over words: what it bets on, and why.");
  const auto flags = std::make_shared<TraceFlags>();
  trace->add_option("WORD", flags->words, "The text");
  trace->add_option("--stack", flags->stack, "Its name or id")->capture_default_str();
  trace->add_option("--off", flags->off, "LAYER:HEAD that is switched off; may be given again")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  trace->add_option("--target", flags->target, "The word whose logit is explained, else the best bet");
  trace->add_flag("--maps", flags->maps, "Draw every layer's and head's map");
  trace->add_option("--bets", flags->bets, "How many words")->capture_default_str();
  trace->footer(kHelp);
  trace->callback([&session, flags] { session.exit_code = RunTrace(session, *flags); });
}

}  // namespace headlight::cli
