// Checks, then times: naive and flash on one thread for the shapes of a file, beside the product of one tile as oneDNN
// does it in the same run. Numbers of different runs do not compare: machines are shared.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "server/kernels/cpu_target.h"
#include "server/kernels/matmul.h"
#include "tests/support/oracle.h"

namespace headlight {
namespace {

struct Case {
  std::string name;
  oracle::Problem problem;
};

std::vector<Case> ReadShapes(const std::string& path) {
  std::ifstream file(path);
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    Case c;
    int causal = 0;
    oracle::Problem& p = c.problem;
    std::istringstream(line) >> c.name >> p.b >> p.hq >> p.hkv >> p.tq >> p.tk >> p.d >> p.dv >> causal;
    if (causal != 0) p.causal = CausalAlignment::kBottomRight;
    cases.push_back(std::move(c));
  }
  return cases;
}

// Q K^T of one tile, 64 x 512 x 64: the best of many short runs, in GFLOP/s.
double TileGflops() {
  constexpr std::int64_t kRows = 64, kKeys = 512, kSize = 64;
  MatmulCache cache;
  const auto product = cache.Get({kRows, kKeys, kSize, kSize, kSize, kKeys, true, false});
  if (!product.ok()) return 0;
  const std::vector<float> a = oracle::Numbers(1, kRows * kSize);
  const std::vector<float> b = oracle::Numbers(2, kKeys * kSize);
  std::vector<float> c(kRows * kKeys);
  double best = 0;
  for (int run = 0; run < 50; ++run) {
    const absl::Time began = absl::Now();
    for (int i = 0; i < 20; ++i) {
      if (!(*product)->Run(a.data(), b.data(), c.data()).ok()) return 0;
    }
    best = std::max(best, 20 * 2.0 * kRows * kKeys * kSize / absl::ToDoubleSeconds(absl::Now() - began) * 1e-9);
  }
  return best;
}

struct Timing {
  double gflops = 0;
  double scratch_mib = 0;
  std::string output;
};

// The best of `runs`, by the engine's own clock.
Timing Time(const oracle::Bound& bound, Algorithm algorithm, int runs) {
  Timing timing;
  for (int run = 0; run < runs; ++run) {
    const auto ran = oracle::RunEngine(bound, algorithm, 1);
    if (!ran.ok()) return timing;
    const double seconds = (*ran)->record.times[Stage::kAttend];
    timing.gflops = std::max(timing.gflops, static_cast<double>((*ran)->plan.flops) / seconds * 1e-9);
    timing.scratch_mib = static_cast<double>((*ran)->record.scratch_bytes) / (1 << 20);
    timing.output = (*ran)->result.output.bytes;
  }
  return timing;
}

// The largest difference of two float32 outputs.
double Apart(const std::string& a, const std::string& b) {
  const auto* x = reinterpret_cast<const float*>(a.data());
  const auto* y = reinterpret_cast<const float*>(b.data());
  double most = 0;
  for (std::size_t i = 0; i < a.size() / sizeof(float); ++i)
    most = std::max(most, std::abs(static_cast<double>(x[i] - y[i])));
  return most;
}

int Main(const std::string& shapes, int runs) {
  const std::vector<Case> cases = ReadShapes(shapes);
  if (cases.empty()) {
    std::fprintf(stderr, "no shapes in %s\n", shapes.c_str());
    return 2;
  }
  const double tile = TileGflops();
  std::printf("target %s, one thread, best of %d runs; oneDNN's product of one tile: %.0f GFLOP/s\n",
              std::string(NameOf(ActiveCpuTarget())).c_str(), runs, tile);
  std::printf("%-18s %10s %8s %12s %10s %12s\n", "shape", "flash", "of tile", "scratch MiB", "naive", "scratch MiB");
  for (const Case& c : cases) {
    const auto bound = Bind(c.problem);
    const Timing flash = Time(*bound, Algorithm::kFlash, runs);
    const Timing naive = Time(*bound, Algorithm::kNaive, runs);
    if (flash.output.empty() || flash.output.size() != naive.output.size() ||
        Apart(flash.output, naive.output) > 2e-5) {
      std::printf("%-18s naive and flash differ: not timed\n", c.name.c_str());
      return 1;
    }
    std::printf("%-18s %10.1f %7.0f%% %12.2f %10.1f %12.2f\n", c.name.c_str(), flash.gflops, 100 * flash.gflops / tile,
                flash.scratch_mib, naive.gflops, naive.scratch_mib);
  }
  return 0;
}

}  // namespace
}  // namespace headlight

int main(int argc, char** argv) {
  CLI::App app{"Times naive and flash (GFLOP/s) after checking that they agree."};
  std::string shapes = "tests/bench/shapes.txt";
  int runs = 5;
  app.add_option("--shapes", shapes, "file of shapes")->capture_default_str();
  app.add_option("--runs", runs, "the best of so many counts")->capture_default_str()->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  return headlight::Main(shapes, runs);
}
