// Well-formed requests, for tests to change, and what the check made of them.
#ifndef HEADLIGHT_TESTS_PROBLEM_REQUESTS_H_
#define HEADLIGHT_TESTS_PROBLEM_REQUESTS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "server/base/errors.h"
#include "server/base/limits.h"
#include "server/base/tensor.h"
#include "server/problem/request.h"
#include "server/problem/spec.h"

namespace headlight {

inline constexpr std::int64_t kMostInt = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t kLeastInt = std::numeric_limits<std::int64_t>::min();
inline constexpr std::int64_t kMostUint32 = std::numeric_limits<std::uint32_t>::max();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// B 2, Hq 4, Hkv 2, Tq 5, Tk 7, D 8, Dv 6: no two that belong together are equal.
inline constexpr Dimensions kSmall = {2, 4, 2, 5, 7, 8, 6};

// With as many bytes as the shape says; with none told where it says nothing sane.
inline TensorForm FormOf(Shape shape, TensorKind kind = TensorKind::kF32) {
  const std::optional<std::int64_t> count = ElementCount(shape);
  TensorForm form{kind, std::move(shape), std::nullopt};
  if (count.value_or(kMostInt) < kMostInt / 4) form.payload_bytes = *count * WidthOf(kind);
  return form;
}

// Q, K and V as [B, H, T, D]; no option is set.
inline ProblemRequest HeadMajorRequest(const Dimensions& d = kSmall, TensorKind kind = TensorKind::kF32) {
  QueryKeyValueForm form;
  form.query = FormOf({d.batch, d.query_heads, d.query_tokens, d.head_size}, kind);
  form.key = FormOf({d.batch, d.key_value_heads, d.key_tokens, d.head_size}, kind);
  form.value = FormOf({d.batch, d.key_value_heads, d.key_tokens, d.value_head_size}, kind);
  ProblemRequest request;
  request.input = std::move(form);
  return request;
}

// Q, K and V as [B, T, H x D], or [T, H x D] where not `batched`; both numbers of heads are set.
inline ProblemRequest TokenMajorRequest(const Dimensions& d = kSmall, bool batched = true) {
  const auto form_of = [&d, batched](std::int64_t tokens, std::int64_t width) {
    return batched ? FormOf({d.batch, tokens, width}) : FormOf({tokens, width});
  };
  QueryKeyValueForm form;
  form.query = form_of(d.query_tokens, d.query_heads * d.head_size);
  form.key = form_of(d.key_tokens, d.key_value_heads * d.head_size);
  form.value = form_of(d.key_tokens, d.key_value_heads * d.value_head_size);
  ProblemRequest request;
  request.input = std::move(form);
  request.query_heads = d.query_heads;
  request.key_value_heads = d.key_value_heads;
  return request;
}

inline constexpr std::int64_t kWidth = 16;         // E
inline constexpr std::int64_t kContextWidth = 12;  // Ec
inline constexpr std::int64_t kOutputWidth = 10;   // Eo

// The matrices of a layer with an output; keys and values from `context_width` channels.
inline LayerForm LayerFormOf(const Dimensions& d, std::int64_t context_width, TensorKind kind = TensorKind::kF32) {
  LayerForm layer;
  layer.query = FormOf({kWidth, d.query_heads * d.head_size}, kind);
  layer.key = FormOf({context_width, d.key_value_heads * d.head_size}, kind);
  layer.value = FormOf({context_width, d.key_value_heads * d.value_head_size}, kind);
  layer.output = FormOf({d.query_heads * d.value_head_size, kOutputWidth}, kind);
  return layer;
}

// Self-attention over embeddings [B, Tq, E] (Tk does not matter) with the matrices sent; both numbers of heads are set.
inline ProblemRequest LayerRequest(const Dimensions& d = kSmall, TensorKind kind = TensorKind::kF32) {
  SelfAttentionForm form;
  form.embeddings = FormOf({d.batch, d.query_tokens, kWidth}, kind);
  form.layer = LayerFormOf(d, kWidth, kind);
  ProblemRequest request;
  request.input = std::move(form);
  request.query_heads = d.query_heads;
  request.key_value_heads = d.key_value_heads;
  return request;
}

// The same with a context [B, Tk, Ec].
inline ProblemRequest CrossRequest(const Dimensions& d = kSmall) {
  ProblemRequest request = LayerRequest(d);
  auto& form = std::get<SelfAttentionForm>(request.input);
  form.context = FormOf({d.batch, d.key_tokens, kContextWidth});
  form.layer = LayerFormOf(d, kContextWidth);
  return request;
}

// Embeddings [B, Tq, E] and a layer that the server holds, which knows its heads.
inline ProblemRequest NamedRequest(const Dimensions& d = kSmall) {
  ProblemRequest request = LayerRequest(d);
  auto& form = std::get<SelfAttentionForm>(request.input);
  form.weights = WeightsSource::kNamed;
  form.layer_name = std::string("demo");
  form.layer->query_heads = std::exchange(request.query_heads, 0);
  form.layer->key_value_heads = std::exchange(request.key_value_heads, 0);
  return request;
}

// Embeddings and weights from seeds: 5 tokens, E 16, 4 heads.
inline ProblemRequest SeededRequest() {
  SelfAttentionForm form;
  form.seeded_tokens = 5;
  form.seeded_width = kWidth;
  form.weights = WeightsSource::kSeeded;
  ProblemRequest request;
  request.input = std::move(form);
  request.query_heads = 4;
  return request;
}

inline QueryKeyValueForm& Qkv(ProblemRequest& request) { return std::get<QueryKeyValueForm>(request.input); }
inline SelfAttentionForm& Self(ProblemRequest& request) { return std::get<SelfAttentionForm>(request.input); }
inline LayerForm& Weights(ProblemRequest& request) { return *Self(request).layer; }

// The fields of the violations that a status carries, in order.
inline std::vector<std::string> FieldsOf(const absl::Status& status) {
  std::vector<std::string> fields;
  for (const Violation& violation : DetailsOf(status).violations) fields.push_back(violation.field);
  return fields;
}

// One way to break a well-formed request, and the fields that must be named for it, in order and no others.
struct Malformed {
  const char* what;
  void (*spoil)(ProblemRequest&);
  std::vector<std::string> fields;
  ErrorReason reason = ErrorReason::kInvalidRequest;
};

// Spoils a copy of `request` in each way and expects exactly the violations of the table.
template <std::size_t kCount>
void ExpectRefused(const ProblemRequest& request, const Malformed (&table)[kCount]) {
  ASSERT_TRUE(CheckProblem(request, Limits()).ok()) << CheckProblem(request, Limits()).status();
  for (const Malformed& row : table) {
    SCOPED_TRACE(row.what);
    ProblemRequest spoilt = request;
    row.spoil(spoilt);
    const absl::Status status = CheckProblem(spoilt, Limits()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(FieldsOf(status), row.fields);
    const ErrorDetails details = DetailsOf(status);
    EXPECT_EQ(details.reason, row.reason) << NameOf(details.reason);
    EXPECT_EQ(details.violation_count, static_cast<std::int64_t>(row.fields.size()));
    for (const Violation& violation : details.violations) {
      EXPECT_FALSE(violation.got.empty()) << violation.field;
      EXPECT_FALSE(violation.expected.empty()) << violation.field;
    }
  }
}

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_PROBLEM_REQUESTS_H_
