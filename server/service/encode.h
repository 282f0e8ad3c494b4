// ENCODE: results into answer messages. Tensors are moved, not copied.
#ifndef HEADLIGHT_SERVER_SERVICE_ENCODE_H_
#define HEADLIGHT_SERVER_SERVICE_ENCODE_H_

#include <memory>
#include <vector>

#include "headlight/v1/attention_service.pb.h"
#include "server/admission/admission.h"
#include "server/analysis/maps.h"
#include "server/analysis/statistics.h"
#include "server/engine/attention.h"
#include "server/engine/compare.h"

namespace headlight {

v1::TensorKind EncodeKind(TensorKind kind);

// Takes the bytes out of `tensor`.
void EncodeTensor(OwnedTensor&& tensor, v1::Tensor* message);

// What ran, under the plan's conventions.
void EncodeExecution(const ExecutionPlan& plan, const ExecutionRecord& record, v1::Execution* message);

// Moves the results out of work and sinks. Statistics and execution are set by those who have them.
void EncodeAttend(AttentionWork& work, std::vector<std::unique_ptr<MapSink>>& sinks, v1::AttendResponse* message);
void EncodeStatistics(const std::vector<HeadStatistics>& statistics,
                      google::protobuf::RepeatedPtrField<v1::HeadStatistics>* messages);
void EncodeMap(MapResult&& map, v1::WeightMap* message);
void EncodeSeconds(double seconds, google::protobuf::Duration* message);
void EncodeVerification(std::int64_t rows, const Difference& difference, v1::Verification* message);

// `plan` is the one that Attend would follow; `naive` and `flash` differ from it in the algorithm alone.
struct PlannedCall {
  const ExecutionPlan& plan;
  const ExecutionPlan& naive;
  const ExecutionPlan& flash;
  std::vector<Violation> exceeded;
  Quote quote;
};
// What is known of a call too large to be planned.
void EncodeExceeded(const std::vector<Violation>& exceeded, v1::PlanAttentionResponse* message);
void EncodePlan(const PlannedCall& planned, int workers, v1::PlanAttentionResponse* message);

void EncodeCompare(const ExecutionPlan& naive, const ExecutionPlan& flash, const CompareWork& work,
                   v1::CompareAlgorithmsResponse* message);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ENCODE_H_
