// One head's query-key circuit with another's output-value circuit: where the first looks, what the second carries.
//
// Two attentions of one plan, which differ in the head gains alone. One is of the layer itself with the aim's head off:
// its map of the aim is that of any call, bit for bit, for neither gains nor values enter scores. The other has the
// aim's head alone on, and in the place of what it carries the cargo's value columns, their bias and the cargo's output
// rows. That other heads which share the aim's values would see the cargo's too is of no use to them: they are off.
#ifndef HEADLIGHT_SERVER_ANALYSIS_CIRCUIT_SWAP_H_
#define HEADLIGHT_SERVER_ANALYSIS_CIRCUIT_SWAP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/analysis/maps.h"
#include "server/engine/attention.h"
#include "server/engine/phased_work.h"

namespace headlight {

struct SwapHeads {
  std::int64_t aim = 0;
  std::int64_t cargo = 0;
};

// The problem with the aim's head off and its full map asked for; and with it alone on. REQUIRES: `spec` is of one
// sequence, its output asked for in float32 and nothing else, without head gains.
ProblemSpec WithoutAim(const ProblemSpec& spec, SwapHeads heads);
ProblemSpec AimAlone(const ProblemSpec& spec, SwapHeads heads);

// Bytes that the swap takes beside its two attentions: a layer's value and output matrices.
std::int64_t SwapBytes(const ProblemSpec& spec);

// Works that are to run in order. Not thread-safe beyond Work's own contract.
class CircuitSwap {
 public:
  // `rest` and `alone` are plans of the two problems. All outlives it. `data` is of a layer of float32.
  CircuitSwap(const ExecutionPlan& rest, const ExecutionPlan& alone, SwapHeads heads, const AttentionData& data,
              MemoryAccount& account, MatmulCache& matmuls);
  ~CircuitSwap();

  std::vector<PhasedWork*> order();

  // When they have run: [T, Eo] twice, [T, T].
  OwnedTensor& output() { return output_; }
  OwnedTensor& contribution() { return contribution_; }
  OwnedTensor& map() { return map_; }

 private:
  class Copy;
  class Sum;

  const ExecutionPlan& plan_;
  const SwapHeads heads_;
  const LayerViews layer_;
  FloatBuffer values_, value_bias_, outputs_;
  std::vector<std::unique_ptr<MapSink>> sinks_;
  std::unique_ptr<PhasedWork> copy_, sum_;
  std::unique_ptr<AttentionWork> rest_, alone_;
  OwnedTensor output_, contribution_, map_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ANALYSIS_CIRCUIT_SWAP_H_
