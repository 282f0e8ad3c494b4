// Outputs held against each other: naive, flash and the double reference on one input, one after the other as one work;
// or some rows of one attention against the reference.
#ifndef HEADLIGHT_SERVER_ENGINE_COMPARE_H_
#define HEADLIGHT_SERVER_ENGINE_COMPARE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "server/engine/attention.h"

namespace headlight {

// How far two outputs are apart, over the rows that were compared.
struct Difference {
  double max_abs = 0;  // infinity where one side alone is not a number
  double mean_abs = 0;
  Shape index;  // of the largest, per axis of the output
  std::int64_t rows = 0;
};

struct ReferenceRecord {
  std::int64_t rows = 0;
  std::int64_t rows_total = 0;
  std::int64_t flops = 0;
  double seconds = 0;
  std::int64_t workspace_bytes = 0;
};

// Not thread-safe beyond Work's own contract.
class CompareWork final : public Work {
 public:
  // The plans are of one problem that differs in the algorithm alone; their outputs are float32. All outlives it.
  CompareWork(const ExecutionPlan& naive, const ExecutionPlan& flash, const ReferencePlan& reference,
              const AttentionData& data, MatmulCache& matmuls, MemoryLedger* ledger);
  ~CompareWork() override;

  absl::StatusOr<int> BeginPhase(int workers) override;
  absl::StatusOr<bool> RunUnit(int lane) override;

  // Where the work is, or was when it ended.
  Stage stage() const;

  // After the work ended well.
  ExecutionRecord naive() const;
  ExecutionRecord flash() const;
  ReferenceRecord reference() const;
  Difference naive_flash() const;
  Difference naive_reference() const;
  Difference flash_reference() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Rows of an attention's output computed again in double.
class VerificationWork {
 public:
  // Everything outlives it.
  VerificationWork(const AttentionWork& attention, const ExecutionPlan& plan, const ReferencePlan& reference,
                   const AttentionData& data, MemoryAccount& account);
  ~VerificationWork();

  // What has to run after the attention, in this order.
  std::vector<PhasedWork*> order();
  // When it has.
  Difference difference() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_COMPARE_H_
