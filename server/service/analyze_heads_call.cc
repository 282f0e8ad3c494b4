#include "server/service/analyze_heads_call.h"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "server/service/costs.h"
#include "server/service/decode_fields.h"
#include "server/service/encode.h"

namespace headlight {
namespace {

constexpr int kMostSequences = 64;
constexpr std::int64_t kMostPatternTokens = 4096;
constexpr double kNearest = 0.05;
constexpr double kMostDivergence = 0.693147180559945309;  // ln 2
// Of one head and of one pair in the answer, generously.
constexpr std::int64_t kReportBytes = 512;
constexpr std::int64_t kDistanceBytes = 24;

std::string FieldOf(int index, absl::string_view name) { return absl::StrCat("sequences[", index, "].", name); }

// What a check or the computation says of "self_attention" is about sequence `index`, or about the layer.
absl::Status InRequestsWords(const absl::Status& status, int index) {
  absl::Status renamed = RenameFields(status, "self_attention.embeddings", FieldOf(index, "embeddings"));
  renamed = RenameFields(renamed, "self_attention.layer", "layer");
  renamed = RenameFields(renamed, "self_attention.context", "layer");
  renamed = RenameFields(renamed, "pattern", FieldOf(index, "pattern"));
  return RenameFields(renamed, "self_attention", absl::StrCat("sequences[", index, "]"));
}

// Violations of several checks, each told once.
class AllViolations {
 public:
  void Add(const std::string& field, const std::string& got, const std::string& expected, bool expensive = false) {
    if (!seen_.insert({field, got, expected}).second) return;
    expensive ? violations_.AddTooExpensive(field, got, expected) : violations_.Add(field, got, expected);
  }
  // Those of a status, but for those of `left_out`.
  void Add(const absl::Status& status, absl::string_view left_out = "") {
    const ErrorDetails details = DetailsOf(status);
    for (const Violation& v : details.violations) {
      if (v.field == left_out) continue;
      Add(v.field, v.got, v.expected, details.reason == ErrorReason::kRequestTooExpensive);
    }
  }
  absl::Status ToStatus() const { return violations_.ToStatus(); }

 private:
  std::set<std::tuple<std::string, std::string, std::string>> seen_;
  Violations violations_;
};

// What the request says once for all sequences.
void CheckCommon(const v1::AnalyzeHeadsRequest& request, AllViolations& violations) {
  if (request.sequences_size() == 0) {
    violations.Add("sequences", "none", absl::StrCat("1 to ", kMostSequences));
    // What else would be said of the layer is said with the first sequence.
    if (request.weights_case() == v1::AnalyzeHeadsRequest::WEIGHTS_NOT_SET) {
      violations.Add("layer", "nothing", "layer or layer_weights");
    }
  }
  if (request.options().head_gains_size() > 0) {
    violations.Add("options.head_gains", absl::StrCat(request.options().head_gains_size(), " numbers"),
                   "none: weights are looked at before gains");
  }
  if (request.has_cluster_distance() &&
      !(request.cluster_distance() >= 0 && request.cluster_distance() <= kMostDivergence)) {
    violations.Add("cluster_distance", absl::StrCat(request.cluster_distance()), "0 to 0.693 nats");
  }
  if (!v1::Priority_IsValid(request.priority())) {
    violations.Add("priority", absl::StrCat("number ", static_cast<int>(request.priority())), "INTERACTIVE or BATCH");
  }
}

// What a sequence has beside its embeddings, of which `shape` is the usable shape or empty.
void CheckTokens(const v1::HeadSequence& sequence, const TensorForm& embeddings, int index, AllViolations& violations) {
  if (embeddings.shape.size() != 2) {
    violations.Add(FieldOf(index, "embeddings.shape"), ToString(embeddings.shape), "rank 2, [T, E]");
    return;
  }
  const std::int64_t tokens = embeddings.shape[0];
  if (sequence.token_ids_size() > 0 && sequence.token_ids_size() != tokens) {
    violations.Add(FieldOf(index, "token_ids"), absl::StrCat(sequence.token_ids_size(), " ids"),
                   absl::StrCat(tokens, ", one per token, or none"));
  }
  if (!sequence.has_pattern()) return;
  TensorView view;
  const TensorForm pattern = *DecodeTensor(true, sequence.pattern(), view);
  const std::int64_t bytes = pattern.payload_bytes.value_or(0);
  if (tokens > kMostPatternTokens) {
    violations.Add(FieldOf(index, "pattern"), absl::StrCat("a pattern of ", tokens, " tokens"),
                   absl::StrCat("at most ", kMostPatternTokens), true);
  } else if (pattern.shape != Shape{tokens, tokens}) {
    violations.Add(FieldOf(index, "pattern.shape"), ToString(pattern.shape), ToString({tokens, tokens}));
  } else if (pattern.kind != TensorKind::kBool) {
    violations.Add(FieldOf(index, "pattern.data"), std::string(NameOf(pattern.kind)), "bool");
  } else if (bytes != tokens * tokens) {
    violations.Add(FieldOf(index, "pattern.data"), absl::StrCat(bytes, " bytes"),
                   absl::StrCat(tokens * tokens, " bytes for ", ToString(pattern.shape), " of bool"));
  }
}

// A sequence against the first one.
void CheckLikeFirst(const v1::AnalyzeHeadsRequest& request, const TensorForm& first, const TensorForm& embeddings,
                    int index, AllViolations& violations) {
  if (embeddings.kind != first.kind) {
    violations.Add(FieldOf(index, "embeddings.data"), std::string(NameOf(embeddings.kind)),
                   absl::StrCat(NameOf(first.kind), " like the first sequence: one kind a request"));
  }
  const bool same_length = !embeddings.shape.empty() && !first.shape.empty() && embeddings.shape[0] == first.shape[0];
  if (request.options().mask().has_tensor() && !same_length) {
    violations.Add("options.mask.tensor", "a mask for sequences of different lengths",
                   "sequences of one length, or another kind of mask");
  }
}

const TensorForm& EmbeddingsOf(const DecodedCall& decoded) {
  return *std::get<SelfAttentionForm>(decoded.request.input).embeddings;
}

// Another sequence through the layer that was found for the first, whatever has become of its name meanwhile.
void ReadSameLayer(const DecodedCall& first, DecodedCall& decoded) {
  decoded.layer = first.layer;
  std::get<SelfAttentionForm>(decoded.request.input).layer = std::get<SelfAttentionForm>(first.request.input).layer;
  decoded.data.layer = first.data.layer;
}

v1::Habit EncodeHabit(Habit habit) {
  switch (habit) {
    case Habit::kNone: return v1::HABIT_NONE;
    case Habit::kPreviousToken: return v1::HABIT_PREVIOUS_TOKEN;
    case Habit::kSameToken: return v1::HABIT_SAME_TOKEN;
    case Habit::kFirstToken: return v1::HABIT_FIRST_TOKEN;
    case Habit::kDuplicateToken: return v1::HABIT_DUPLICATE_TOKEN;
    case Habit::kInduction: return v1::HABIT_INDUCTION;
    case Habit::kLastToken: return v1::HABIT_LAST_TOKEN;
    case Habit::kSpread: return v1::HABIT_SPREAD;
  }
  return v1::HABIT_UNSPECIFIED;
}

void EncodeShares(const Looks& shares, v1::AttentionShares* message) {
  const auto share = [&shares](Look look) { return shares[static_cast<std::size_t>(look)]; };
  message->set_previous(share(Look::kPrevious));
  message->set_same(share(Look::kSame));
  message->set_first(share(Look::kFirst));
  message->set_last(share(Look::kLast));
  message->set_duplicate(share(Look::kDuplicate));
  message->set_induction(share(Look::kInduction));
}

void EncodeReport(const HeadReport& report, v1::HeadReport* message) {
  message->set_head(static_cast<std::uint32_t>(report.head));
  message->set_mean_entropy(report.mean_entropy);
  message->set_mean_largest_weight(report.mean_largest_weight);
  message->set_mean_distance(report.mean_distance);
  EncodeShares(report.shares, message->mutable_shares());
  EncodeShares(report.by_value, message->mutable_value_weighted());
  message->set_previous_token_score(report.previous_token_score);
  message->set_duplicate_token_score(report.duplicate_token_score);
  message->set_induction_score(report.induction_score);
  if (report.pattern_score.has_value()) message->set_pattern_score(*report.pattern_score);
  message->set_habit(EncodeHabit(report.habit));
  message->set_habit_score(report.habit_score);
  message->set_description(report.description);
}

}  // namespace

absl::Status AnalyzeHeadsCall::Plan(const Request& request) {
  AllViolations violations;
  CheckCommon(request, violations);
  if (request.sequences_size() > kMostSequences) {
    violations.Add("sequences", absl::StrCat(request.sequences_size()), absl::StrCat("1 to ", kMostSequences), true);
    return violations.ToStatus();
  }
  const v1::LayerWeights* weights = request.has_layer_weights() ? &request.layer_weights() : nullptr;
  std::vector<ProblemSpec> specs;
  absl::Status missing;  // the layer
  for (int i = 0; i < request.sequences_size(); ++i) {
    const v1::HeadSequence& sequence = request.sequences(i);
    Reading& reading = readings_.emplace_back();
    reading.decoded = DecodeLayered(sequence.embeddings(), weights, request.layer(), request.options(), shared_.layers);
    if (i > 0) ReadSameLayer(readings_.front().decoded, reading.decoded);
    const TensorForm& form = EmbeddingsOf(reading.decoded);
    CheckTokens(sequence, form, i, violations);
    CheckLikeFirst(request, EmbeddingsOf(readings_.front().decoded), form, i, violations);
    absl::StatusOr<ProblemSpec> spec = CheckProblem(reading.decoded.request, shared_.limits);
    if (spec.ok()) {
      specs.push_back(*std::move(spec));
    } else if (spec.status().code() == absl::StatusCode::kNotFound) {
      missing.Update(InRequestsWords(spec.status(), i));
    } else {
      const bool rank_told = form.shape.size() != 2;
      violations.Add(InRequestsWords(spec.status(), i), rank_told ? FieldOf(i, "embeddings.shape") : "");
    }
    reading.tokens.ids = {sequence.token_ids().data(), static_cast<std::size_t>(sequence.token_ids_size())};
    if (!sequence.has_pattern()) continue;
    TensorView pattern;
    DecodeTensor(true, sequence.pattern(), pattern);
    reading.tokens.pattern = pattern.data;
  }
  if (absl::Status status = violations.ToStatus(); !status.ok()) return status;
  if (!missing.ok()) return missing;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    specs[i].outputs = OutputSpec();
    specs[i].outputs.output = false;
    specs[i].outputs.max_response_bytes = shared_.limits.max_response_bytes;
    specs[i].algorithm = Algorithm::kFlash;
    absl::StatusOr<ExecutionPlan> plan = MakePlan(std::move(specs[i]), shared_.limits, ThisProcessor());
    if (!plan.ok()) return InRequestsWords(plan.status(), static_cast<int>(i));
    readings_[i].plan = PlanHeadRows(*std::move(plan));
  }
  return absl::OkStatus();
}

void AnalyzeHeadsCall::SetCost(const Request& request) {
  std::int64_t most = 0;  // one sequence at a time
  for (const Reading& reading : readings_) {
    cost_.bytes = 0;
    AddCost(reading.plan->plan);
    cost_.flops += HeadSumsSink::Flops(*reading.plan);
    most = std::max(most, cost_.bytes + HeadSumsSink::Bytes(*reading.plan));
  }
  const std::int64_t heads = readings_.front().plan->plan.spec.dims.query_heads;
  cost_.bytes =
      static_cast<std::int64_t>(request.ByteSizeLong()) + most + heads * kReportBytes + heads * heads * kDistanceBytes;
  cost_.field = "sequences";
}

absl::Status AnalyzeHeadsCall::Accept(const Request& request, absl::Time deadline) {
  if (absl::Status status = Plan(request); !status.ok()) return status;
  SetCost(request);
  if (cost_.flops > shared_.limits.max_flops) {
    Violations violations;
    violations.AddTooExpensive("sequences", absl::StrCat(cost_.flops, " FLOPs with all pairs of heads"),
                               absl::StrCat("at most ", shared_.limits.max_flops, " FLOPs a call"));
    return violations.ToStatus();
  }
  if (absl::Status status = Admit(request.priority(), deadline); !status.ok()) return status;
  nearest_ = request.has_cluster_distance() ? request.cluster_distance() : kNearest;
  layer_ = readings_.front().decoded.layer;
  MakeWork();
  return absl::OkStatus();
}

void AnalyzeHeadsCall::MakeWork() {
  totals_ = std::make_unique<HeadTotals>(readings_.front().plan->plan.spec.dims.query_heads);
  MemoryAccount& account = ticket_->account();
  absl::Time accepted = ticket_->accepted();
  std::vector<PhasedWork*> order;
  for (Reading& reading : readings_) {
    reading.sink = std::make_unique<HeadSumsSink>(*reading.plan, reading.tokens, account, *totals_);
    reading.work = std::make_unique<HeadRowsWork>(*reading.plan, reading.decoded.data, account, shared_.matmuls,
                                                  *reading.sink, accepted);
    accepted = absl::InfinitePast();  // only the first waits
    order.push_back(reading.work.get());
  }
  work_ = std::make_unique<Sequence>(std::move(order));
}

void AnalyzeHeadsCall::Compute(ComputePool::Done done) {
  AdmittedCall::Compute([this, tell = std::move(done)](const absl::Status& status) {
    // Sequences that are in the totals went well.
    tell(status.ok() ? status : InRequestsWords(status, static_cast<int>(totals_->sequences())));
  });
}

void AnalyzeHeadsCall::Encode(Response* response) {
  for (const HeadReport& report : totals_->Reports()) EncodeReport(report, response->add_heads());
  const std::vector<HeadDistance> distances = totals_->Distances();
  for (const HeadDistance& distance : distances) {
    v1::HeadDistance* message = response->add_distances();
    message->set_head(static_cast<std::uint32_t>(distance.head));
    message->set_other(static_cast<std::uint32_t>(distance.other));
    message->set_jensen_shannon(distance.jensen_shannon);
  }
  for (const std::vector<std::int64_t>& cluster : ClustersOf(totals_->heads(), distances, nearest_)) {
    v1::HeadCluster* message = response->add_clusters();
    for (const std::int64_t head : cluster) message->add_heads(static_cast<std::uint32_t>(head));
  }
  response->set_rows(static_cast<std::uint64_t>(totals_->rows()));
  if (layer_ != nullptr) {
    response->set_layer(layer_->name());
    response->set_layer_id(layer_->facts().id);
  }
  ExecutionRecord record;
  for (const Reading& reading : readings_) {
    for (const Stage stage : {Stage::kQueue, Stage::kProject, Stage::kAttend, Stage::kMaps}) {
      record.times[stage] += reading.work->times()[stage];
    }
    record.total_seconds += reading.work->seconds();
    record.workers = std::max(record.workers, reading.work->lanes());
  }
  const MemoryAccount& account = ticket_->account();
  record.scratch_bytes = account.peak(MemoryUse::kScratch);
  record.packed_bytes = account.peak(MemoryUse::kPacked);
  record.projection_bytes = account.peak(MemoryUse::kProjection);
  record.workspace_bytes = account.peak();
  v1::Execution* execution = response->mutable_execution();
  EncodeExecution(readings_.front().plan->plan, record, execution);
  execution->clear_algorithm();
  execution->set_flops(static_cast<std::uint64_t>(cost_.flops));
}

}  // namespace headlight
