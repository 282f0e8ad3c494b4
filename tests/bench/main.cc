// headlight-bench: what `./dev bench` runs. Numbers of different runs do not compare: machines are shared.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string_view>
#include <thread>

#include "server/base/memory.h"
#include "server/host/cgroup.h"
#include "server/kernels/cpu_target.h"
#include "tests/bench/bench.h"

namespace headlight::bench {
namespace {

void AddThreads(CLI::App* command, Options& options) {
  command->add_option("--threads", options.threads, "workers")->check(CLI::Range(1, 256))->capture_default_str();
}

void AddJson(CLI::App* command, Options& options) {
  // Before the work: a report that cannot be written would cost all of it.
  const auto writable = [](const std::string& path) {
    return std::ofstream(path, std::ios::app) ? std::string() : "cannot write " + path;
  };
  command->add_option("--json", options.json, "file for the report")->check(CLI::Validator(writable, "PATH"));
}

void AddShapes(CLI::App* command, Options& options) {
  command->add_option("--shapes", options.shapes, "folder of the shapes")->capture_default_str();
}

void AddRuns(CLI::App* command, Options& options) {
  command->add_option("--runs", options.runs, "of each")->check(CLI::Range(1, 1000))->capture_default_str();
}

// Exit status: 0 done, 1 a wrong answer or a failure, 2 called wrongly.
int Main(int argc, char** argv) {
  CLI::App app{"Checks answers, then times them, and prints what was measured beside the goal."};
  app.require_subcommand(1);
  Options options;
  FairnessOptions fairness;
  PointOptions point;
  std::string target;
  absl::Status status;
  const auto add = [&](const char* name, const char* what, auto run) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("--cpu-target", target, "avx512, avx2, sse4, neon or baseline; the best by default");
    // As the server does; but a point tells what memory a process takes.
    const bool as_server = std::string_view(name) != "point";
    command->final_callback([&, run, as_server] {
      if (as_server) KeepFreedMemory(ReadMemory().limit_bytes);
      if (!target.empty()) status = ForceCpuTarget(target);
      if (status.ok()) status = run();
    });
    return command;
  };
  CLI::App* kernels = add("kernels", "attention by shape and precision, and what maps cost",
                          [&options] { return RunKernels(options); });
  AddThreads(kernels, options);
  AddShapes(kernels, options);
  AddJson(kernels, options);
  AddRuns(kernels, options);
  kernels->add_option("--only", options.only, "names of shapes, with commas between");
  CLI::App* fair = add("fairness", "short calls beside long ones", [&] { return RunFairness(options, fairness); });
  AddThreads(fair, options);
  AddShapes(fair, options);
  AddJson(fair, options);
  fair->add_option("--calls", fairness.calls, "short calls")->check(CLI::Range(4, 1000000))->capture_default_str();
  fair->add_option("--beside", fairness.beside, "long calls at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  // Workers as a server has them. A flag overwrites it before the callback runs.
  fair->preparse_callback([&options](std::size_t) {
    options.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  });
  CLI::App* units = add("units", "how long the units of work are", [&options] { return RunUnits(options); });
  AddJson(units, options);
  AddRuns(units, options);
  CLI::App* prune =
      add("prune", "a layer with heads removed beside the whole one", [&options] { return RunPrune(options); });
  AddThreads(prune, options);
  AddJson(prune, options);
  AddRuns(prune, options);
  prune->preparse_callback([&options](std::size_t) { options.runs = 41; });
  CLI::App* one =
      add("point", "one point of how time and memory grow, as JSON", [&] { return RunPoint(options, point); });
  AddThreads(one, options);
  one->add_option("--tokens", point.tokens, "T")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  one->add_flag("--naive", point.naive, "instead of flash");
  one->add_option("--seconds", point.seconds, "repeat for so long")->capture_default_str();
  add("serve", "commands on standard input, for peers.py", [] { return Serve(); });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "headlight-bench: %s\n", status.ToString().c_str());
  const bool called_wrongly = absl::IsInvalidArgument(status) || absl::IsNotFound(status);
  return called_wrongly ? 2 : 1;
}

}  // namespace
}  // namespace headlight::bench

int main(int argc, char** argv) { return headlight::bench::Main(argc, argv); }
