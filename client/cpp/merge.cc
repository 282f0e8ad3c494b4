#include "client/cpp/merge.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cpp/tensors.h"

namespace headlight::client {
namespace {

using Shape = std::vector<std::int64_t>;

struct Floats {
  Shape shape;
  std::vector<float> values;
};

struct Parts {
  std::int64_t batch = 0, heads = 0, tokens = 0, value_head_size = 0;
  Shape form;  // of all outputs
  bool head_major = false;
  std::vector<Floats> outputs, log_sum_exps;
  v1::TensorKind kind = v1::TENSOR_KIND_F32;

  // Row of a head in an output.
  std::int64_t Place(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return head_major ? (b * heads + h) * tokens + t : (b * tokens + t) * heads + h;
  }
};

absl::Status Wrong(const std::string& field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

absl::StatusOr<Floats> Read(const std::string& field, const v1::Tensor& tensor) {
  absl::StatusOr<std::vector<float>> values = FloatsOf(tensor);
  if (!values.ok()) return Wrong(field, std::string(values.status().message()));
  return Floats{Shape(tensor.shape().begin(), tensor.shape().end()), *std::move(values)};
}

std::string Shown(const Shape& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

// What the first part says of all.
absl::Status ReadForm(Parts& parts) {
  const Shape& lse = parts.log_sum_exps.front().shape;
  if (lse.size() != 3) return Wrong("partials[0].log_sum_exp", Shown(lse) + ", expected [B, Hq, Tq]");
  parts.batch = lse[0];
  parts.heads = lse[1];
  parts.tokens = lse[2];
  const Shape& form = parts.outputs.front().shape;
  parts.form = form;
  parts.head_major = form.size() == 4;
  if (form.empty() || parts.batch < 1 || parts.heads < 1 || parts.tokens < 1) {
    return Wrong("partials[0]", "every axis is at least 1");
  }
  const std::int64_t last = form.back();
  parts.value_head_size = parts.head_major ? last : last / parts.heads;
  const bool fits = form == Shape{parts.batch, parts.heads, parts.tokens, last} ||
                    form == Shape{parts.batch, parts.tokens, parts.heads * parts.value_head_size} ||
                    (parts.batch == 1 && form == Shape{parts.tokens, parts.heads * parts.value_head_size});
  if (fits && parts.value_head_size > 0) return absl::OkStatus();
  return Wrong("partials[0].output", absl::StrCat(Shown(form), " does not go with a log-sum-exp of ", Shown(lse)));
}

absl::StatusOr<Parts> ReadParts(const v1::MergePartialsRequest& request) {
  if (request.partials().empty()) return Wrong("partials", "0, expected at least 1");
  Parts parts;
  parts.kind = KindOf(request.partials(0).output());
  for (int i = 0; i < request.partials_size(); ++i) {
    const std::string field = absl::StrCat("partials[", i, "]");
    absl::StatusOr<Floats> output = Read(field + ".output", request.partials(i).output());
    if (!output.ok()) return output.status();
    absl::StatusOr<Floats> lse = Read(field + ".log_sum_exp", request.partials(i).log_sum_exp());
    if (!lse.ok()) return lse.status();
    if (i > 0 && (output->shape != parts.outputs.front().shape || lse->shape != parts.log_sum_exps.front().shape)) {
      return Wrong(field, "shapes are not those of the first");
    }
    for (const float value : lse->values) {
      if (std::isnan(value) || value > std::numeric_limits<float>::max()) {
        return Wrong(field + ".log_sum_exp", absl::StrCat(value, ", expected numbers or -inf"));
      }
    }
    parts.outputs.push_back(*std::move(output));
    parts.log_sum_exps.push_back(*std::move(lse));
  }
  if (absl::Status form = ReadForm(parts); !form.ok()) return form;
  for (const auto& [name, count] :
       {std::pair{"sinks", request.sinks_size()}, {"head_gains", request.head_gains_size()}}) {
    if (count != 0 && count != parts.heads) return Wrong(name, absl::StrCat(count, ", expected ", parts.heads));
  }
  return parts;
}

// One row of one head into `out`; its log-sum-exp.
double JoinRow(const Parts& parts, const v1::MergePartialsRequest& request, std::int64_t row, std::int64_t place,
               int head, float* out) {
  double largest = -std::numeric_limits<double>::infinity();
  const auto lse = [row](const Floats& tensor) { return double{tensor.values[static_cast<std::size_t>(row)]}; };
  for (const Floats& part : parts.log_sum_exps) largest = std::max(largest, lse(part));
  if (!std::isfinite(largest)) return largest;
  double sum = 0;
  for (const Floats& part : parts.log_sum_exps) sum += std::exp(lse(part) - largest);
  const double joined = largest + std::log(sum);
  if (!request.sinks().empty()) sum += std::exp(request.sinks(head) - largest);
  const double gain = request.head_gains().empty() ? 1 : request.head_gains(head);
  for (std::size_t p = 0; p < parts.outputs.size(); ++p) {
    const auto weight = static_cast<float>(gain * std::exp(lse(parts.log_sum_exps[p]) - largest) / sum);
    const float* from = parts.outputs[p].values.data() + place * parts.value_head_size;
    for (std::int64_t c = 0; c < parts.value_head_size; ++c) out[c] += weight * from[c];
  }
  return joined;
}

// rows x W + b, with `rows` of [B x T, H x Dv].
absl::StatusOr<std::vector<float>> Project(const v1::MergePartialsRequest& request, const std::vector<float>& rows,
                                           std::int64_t width) {
  absl::StatusOr<Floats> weights = Read("output_weights", request.output_weights());
  if (!weights.ok()) return weights.status();
  if (weights->shape.size() != 2 || weights->shape[0] != width) {
    return Wrong("output_weights", absl::StrCat(Shown(weights->shape), ", expected [", width, ", Eo]"));
  }
  const std::int64_t columns = weights->shape[1];
  std::vector<double> bias(static_cast<std::size_t>(columns), 0.0);
  if (request.has_output_bias()) {
    absl::StatusOr<Floats> given = Read("output_bias", request.output_bias());
    if (!given.ok()) return given.status();
    if (given->shape != Shape{columns}) return Wrong("output_bias", absl::StrCat("expected [", columns, "]"));
    bias.assign(given->values.begin(), given->values.end());
  }
  const std::int64_t count = static_cast<std::int64_t>(rows.size()) / width;
  std::vector<float> projected;
  projected.reserve(static_cast<std::size_t>(count * columns));
  for (std::int64_t r = 0; r < count; ++r) {
    std::vector<double> sums = bias;
    for (std::int64_t i = 0; i < width; ++i) {
      const double value = rows[static_cast<std::size_t>(r * width + i)];
      const float* from = weights->values.data() + i * columns;
      for (std::int64_t c = 0; c < columns; ++c) sums[static_cast<std::size_t>(c)] += value * from[c];
    }
    for (const double sum : sums) projected.push_back(static_cast<float>(sum));
  }
  return projected;
}

}  // namespace

absl::StatusOr<v1::MergePartialsResponse> MergePartials(const v1::MergePartialsRequest& request) {
  absl::StatusOr<Parts> read = ReadParts(request);
  if (!read.ok()) return read.status();
  Parts& parts = *read;
  const bool projects = request.has_output_weights();
  if (request.has_output_bias() && !projects) return Wrong("output_bias", "nothing is expected without output_weights");
  std::vector<float> output(parts.outputs.front().values.size(), 0.0F);
  std::vector<float> log_sum_exp;
  log_sum_exp.reserve(parts.log_sum_exps.front().values.size());
  for (std::int64_t b = 0; b < parts.batch; ++b) {
    for (std::int64_t h = 0; h < parts.heads; ++h) {
      for (std::int64_t t = 0; t < parts.tokens; ++t) {
        const std::int64_t row = (b * parts.heads + h) * parts.tokens + t;
        const std::int64_t place = parts.Place(b, h, t);
        const std::int64_t to = projects ? (b * parts.tokens + t) * parts.heads + h : place;
        log_sum_exp.push_back(static_cast<float>(
            JoinRow(parts, request, row, place, static_cast<int>(h), output.data() + to * parts.value_head_size)));
      }
    }
  }
  Shape shape = parts.form;
  if (projects) {
    const std::int64_t width = parts.heads * parts.value_head_size;
    absl::StatusOr<std::vector<float>> projected = Project(request, output, width);
    if (!projected.ok()) return projected.status();
    output = *std::move(projected);
    shape = {parts.tokens, static_cast<std::int64_t>(output.size()) / (parts.batch * parts.tokens)};
    if (parts.form.size() != 2) shape.insert(shape.begin(), parts.batch);
  }
  const v1::TensorKind wish = request.tensor_kind();
  absl::StatusOr<v1::Tensor> made = MakeTensor(output, shape, wish == v1::TENSOR_KIND_UNSPECIFIED ? parts.kind : wish);
  if (!made.ok()) return Wrong("tensor_kind", std::string(made.status().message()));
  v1::MergePartialsResponse response;
  *response.mutable_output() = *std::move(made);
  *response.mutable_log_sum_exp() =
      *MakeTensor(log_sum_exp, {parts.batch, parts.heads, parts.tokens}, v1::TENSOR_KIND_F32);
  return response;
}

}  // namespace headlight::client
