#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/maps.h"

namespace headlight::cli {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  headlight demo\n"
    "  headlight demo --head 2 --row it\n"
    "  headlight demo --json | jq -r '.heads[].sentences[]'\n";

struct DemoFlags {
  std::optional<std::uint32_t> head;
  std::string row;
};

struct DemoHead {
  std::uint32_t head = 0;
  std::string description;
  LabelledMap map;
};

v1::AttendRequest RequestFor(const v1::GetDemoResponse& demo, const DemoFlags& flags) {
  v1::AttendRequest request;
  *request.mutable_self_attention()->mutable_embeddings() = demo.embeddings();
  request.mutable_self_attention()->set_layer(demo.layer());
  *request.mutable_tokens() = demo.tokens();
  request.mutable_outputs()->set_omit_output(true);
  v1::WeightMaps* maps = request.mutable_outputs()->add_maps();
  maps->mutable_full();
  if (flags.head.has_value()) maps->add_heads(*flags.head);
  return request;
}

// What the flags ask for that the demo does not have.
absl::Status Check(const DemoFlags& flags, const v1::GetDemoResponse& demo) {
  const auto& words = demo.tokens();
  if (!flags.row.empty() && std::find(words.begin(), words.end(), flags.row) == words.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--row ", flags.row, ": the words are ", Printable(absl::StrJoin(words, " "))));
  }
  if (flags.head.has_value() && *flags.head >= static_cast<std::uint32_t>(demo.head_descriptions_size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--head ", *flags.head, ": there are ", demo.head_descriptions_size(), " heads, from 0"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<DemoHead>> HeadsOf(const v1::GetDemoResponse& demo, const v1::AttendResponse& answer,
                                              const std::string& only_row) {
  const Words words = {{demo.tokens().begin(), demo.tokens().end()}, {demo.tokens().begin(), demo.tokens().end()}};
  std::vector<std::int64_t> rows;
  for (std::int64_t r = 0; r < demo.tokens_size(); ++r) {
    if (demo.tokens(static_cast<int>(r)) == only_row) rows.push_back(r);
  }
  std::vector<DemoHead> heads;
  for (const v1::WeightMap& map : answer.maps()) {
    absl::StatusOr<LabelledMap> labelled = Label(map, words);
    if (!labelled.ok()) return labelled.status();
    if (static_cast<int>(labelled->rows.size()) != demo.tokens_size()) {
      return absl::InvalidArgumentError("a map of the answer has not one row per word");
    }
    const bool described = map.head() < static_cast<std::uint32_t>(demo.head_descriptions_size());
    heads.push_back({map.head(), described ? demo.head_descriptions(static_cast<int>(map.head())) : "",
                     only_row.empty() ? *std::move(labelled) : OnlyRows(*labelled, rows)});
  }
  return heads;
}

std::vector<std::string> Sentences(const LabelledMap& map) {
  std::vector<std::string> sentences;
  for (std::size_t r = 0; r < map.rows.size(); ++r) sentences.push_back(Sentence(map, static_cast<std::int64_t>(r)));
  return sentences;
}

void PrintForPeople(const v1::GetDemoResponse& demo, const std::vector<DemoHead>& heads) {
  const Style style = StyleOfOutput();
  std::cout << Printable(absl::StrJoin(demo.tokens(), " ")) << "\n";
  for (const DemoHead& head : heads) {
    std::cout << "\nhead " << head.head << ": " << Printable(head.description) << "\n"
              << DrawMap(head.map, style) << absl::StrJoin(Sentences(head.map), "\n") << "\n";
  }
}

void PrintAsJson(const v1::GetDemoResponse& demo, const std::vector<DemoHead>& heads) {
  nlohmann::json list = nlohmann::json::array();
  for (const DemoHead& head : heads) {
    nlohmann::json weights = nlohmann::json::array();
    const auto keys = static_cast<std::ptrdiff_t>(head.map.keys.size());
    for (auto row = head.map.weights.begin(); row != head.map.weights.end(); row += keys) {
      weights.push_back(std::vector<float>(row, row + keys));
    }
    list.push_back({{"head", head.head},
                    {"description", head.description},
                    {"rows", head.map.rows},
                    {"keys", head.map.keys},
                    {"weights", weights},
                    {"sentences", Sentences(head.map)}});
  }
  PrintJson({{"layer", demo.layer()}, {"sentence", absl::StrJoin(demo.tokens(), " ")}, {"heads", list}});
}

ExitCode RunDemo(const Session& session, const DemoFlags& flags) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  const auto demo = (*client)->GetDemo();
  if (!demo.ok()) return ReportServer(session, demo.status());
  if (absl::Status status = Check(flags, *demo); !status.ok()) return Report(session, kExitUsage, status);
  const auto answer = (*client)->Attend(RequestFor(*demo, flags));
  if (!answer.ok()) return ReportServer(session, answer.status());
  const auto heads = HeadsOf(*demo, *answer, flags.row);
  if (!heads.ok()) return Report(session, kExitOther, heads.status());
  session.json ? PrintAsJson(*demo, *heads) : PrintForPeople(*demo, *heads);
  return kExitOk;
}

}  // namespace

void AddDemo(CLI::App& app, Session& session) {
  CLI::App* demo = app.add_subcommand("demo", "Shows where each word of a sentence looks, head by head.");
  const auto flags = std::make_shared<DemoFlags>();
  demo->add_option("--head", flags->head, "This head alone");
  demo->add_option("--row", flags->row, "The row of this word alone");
  demo->footer(kExamples);
  demo->callback([&session, flags] { session.exit_code = RunDemo(session, *flags); });
}

}  // namespace headlight::cli
