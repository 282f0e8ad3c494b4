#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "tests/client/fake_server.h"
#include "tests/client/run_cli.h"

namespace headlight::testing {
namespace {

class CliDemo : public ::testing::Test {
 protected:
  CliRun Demo(std::vector<std::string> arguments = {}, const CliSetting& setting = {}) {
    arguments.insert(arguments.begin(), {"demo", "--address", server_.address()});
    return RunCli(arguments, setting);
  }

  FakeServer server_;
};

TEST_F(CliDemo, PlainText) {
  const CliRun run = Demo();
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(run.out,
            "she slept because it rained\n"
            "\n"
            "head 0: one step back\n"
            "            she   slept because      it  rained\n"
            "    she    0.80    0.05    0.05    0.05    0.05\n"
            "  slept    0.80    0.05    0.05    0.05    0.05\n"
            "because    0.05    0.80    0.05    0.05    0.05\n"
            "     it    0.05    0.05    0.80    0.05    0.05\n"
            " rained    0.05    0.05    0.05    0.80    0.05\n"
            "she attends most to she (0.80)\n"
            "slept attends most to she (0.80)\n"
            "because attends most to slept (0.80)\n"
            "it attends most to because (0.80)\n"
            "rained attends most to it (0.80)\n"
            "\n"
            "head 1: from the end\n"
            "            she   slept because      it  rained\n"
            "    she    0.05    0.05    0.05    0.05    0.80\n"
            "  slept    0.05    0.05    0.05    0.05    0.80\n"
            "because    0.05    0.05    0.05    0.80    0.05\n"
            "     it    0.05    0.05    0.80    0.05    0.05\n"
            " rained    0.05    0.80    0.05    0.05    0.05\n"
            "she attends most to rained (0.80)\n"
            "slept attends most to rained (0.80)\n"
            "because attends most to it (0.80)\n"
            "it attends most to because (0.80)\n"
            "rained attends most to slept (0.80)\n");
}

TEST_F(CliDemo, AsksForMapsAlone) {
  Demo();
  const v1::AttendRequest request = server_.last_attend();
  EXPECT_EQ(request.self_attention().layer(), "demo");
  EXPECT_EQ(request.self_attention().embeddings().shape(0), 5);
  EXPECT_EQ(request.tokens_size(), 5);
  EXPECT_TRUE(request.outputs().omit_output());
  EXPECT_TRUE(request.outputs().maps(0).has_full());
  EXPECT_EQ(request.outputs().maps(0).heads_size(), 0);
}

TEST_F(CliDemo, OneHeadAndOneRow) {
  const CliRun run = Demo({"--head", "1", "--row", "it"});
  EXPECT_EQ(run.out,
            "she slept because it rained\n"
            "\n"
            "head 1: from the end\n"
            "       she   slept because      it  rained\n"
            "it    0.05    0.05    0.80    0.05    0.05\n"
            "it attends most to because (0.80)\n");
}

TEST_F(CliDemo, UnknownWordAndHead) {
  const CliRun word = Demo({"--row", "dog"});
  EXPECT_EQ(word.exit_code, 2);
  EXPECT_EQ(word.err, "headlight: --row dog: the words are she slept because it rained\n");
  const CliRun head = Demo({"--head", "2"});
  EXPECT_EQ(head.exit_code, 2);
  EXPECT_EQ(head.err, "headlight: --head 2: there are 2 heads, from 0\n");
}

TEST_F(CliDemo, ColourOnATerminalAlone) {
  const CliRun coloured = Demo({}, {.terminal = true});
  EXPECT_EQ(coloured.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(coloured.out, "\x1b[48;5;250;38;5;232m"));
  EXPECT_TRUE(absl::StrContains(coloured.out, "it attends most to because (0.80)"));
  for (const char* variable : {"NO_COLOR=1", "TERM=dumb"}) {
    const CliRun plain = Demo({}, {.environment = {variable}, .terminal = true});
    EXPECT_EQ(plain.out.find('\x1b'), std::string::npos) << variable;
    EXPECT_TRUE(absl::StrContains(plain.out, "    0.80"));
  }
  EXPECT_TRUE(absl::StrContains(Demo({}, {.environment = {"NO_COLOR="}, .terminal = true}).out, "\x1b["));
}

TEST_F(CliDemo, Json) {
  const CliRun run = Demo({"--json", "--head", "0"});
  EXPECT_EQ(run.exit_code, 0);
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["sentence"], "she slept because it rained");
  ASSERT_EQ(json["heads"].size(), 1U);
  EXPECT_EQ(json["heads"][0]["description"], "one step back");
  EXPECT_EQ(json["heads"][0]["sentences"][3], "it attends most to because (0.80)");
  EXPECT_NEAR(json["heads"][0]["weights"][3][2].get<double>(), 0.8, 1e-6);
}

TEST_F(CliDemo, AddressFromTheEnvironment) {
  const CliRun run = RunCli({"demo"}, {.environment = {"HEADLIGHT_ADDRESS=" + server_.address()}});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const CliRun flag =
      RunCli({"--address", server_.address(), "demo"}, {.environment = {"HEADLIGHT_ADDRESS=127.0.0.1:1"}});
  EXPECT_EQ(flag.exit_code, 0) << flag.err;
}

TEST_F(CliDemo, AnAnswerThatMakesNoSense) {
  v1::AttendResponse response;
  response.add_maps()->mutable_weights()->add_shape(1'000'000'000);
  server_.AnswerNext(response);
  EXPECT_EQ(Demo().exit_code, 1);
}

}  // namespace
}  // namespace headlight::testing
