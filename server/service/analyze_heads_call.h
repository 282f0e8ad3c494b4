// One AnalyzeHeads: a pass over each sequence, one after the other, and what it comes to.
#ifndef HEADLIGHT_SERVER_SERVICE_ANALYZE_HEADS_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_ANALYZE_HEADS_CALL_H_

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "headlight/v1/analysis_service.pb.h"
#include "server/analysis/head_report.h"
#include "server/analysis/head_sums.h"
#include "server/engine/head_rows.h"
#include "server/plan/head_rows_plan.h"
#include "server/service/admitted_call.h"
#include "server/service/decode.h"

namespace headlight {

// As AttendCall.
class AnalyzeHeadsCall : public AdmittedCall {
 public:
  using Request = v1::AnalyzeHeadsRequest;
  using Response = v1::AnalyzeHeadsResponse;

  explicit AnalyzeHeadsCall(Shared& shared) : AdmittedCall(shared) {}

  // Errors: every violation of all sequences; those of MakePlan and Admission::Admit.
  absl::Status Accept(const Request& request, absl::Time deadline);
  // Says of which sequence an error is.
  void Compute(ComputePool::Done done);
  void Encode(Response* response);

 private:
  // One sequence on its way.
  struct Reading {
    DecodedCall decoded;
    SequenceTokens tokens;
    std::optional<HeadRowsPlan> plan;
    std::unique_ptr<HeadSumsSink> sink;
    std::unique_ptr<HeadRowsWork> work;
  };

  // Fills readings_, with their plans.
  absl::Status Plan(const Request& request);
  void SetCost(const Request& request);
  void MakeWork();

  double nearest_ = 0;
  std::shared_ptr<const Layer> layer_;  // where one was named
  std::vector<Reading> readings_;
  std::unique_ptr<HeadTotals> totals_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ANALYZE_HEADS_CALL_H_
