// Whole small calls, from the message to the answer: naive and flash against the double oracle, or a clean refusal.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/service/decode_fields.h"
#include "tests/fuzz/bound.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/small_server.h"

namespace headlight::fuzz {
namespace {

// Of one input; larger ones are passed over, so that thousands run in a second.
constexpr double kMostWork = 4e5;  // B x Hq x Tq x Tk x (D + Dv)
constexpr double kMostNumber = 1e30;

class Server final : public SmallServer {
 public:
  Server() : SmallServer(320, 1 << 14, 1 << 20) { limits_.max_flops = 20'000'000; }
};

std::vector<float> Floats(const v1::Tensor& message) {
  TensorView view;
  OwnedTensor owned;
  if (!DecodeTensor(true, message, view).has_value() || view.empty()) return {};
  owned = MakeTensor(view.kind, view.shape);
  Expect(ElementCount(view.shape).has_value(), "answers have shapes");
  std::copy_n(reinterpret_cast<const char*>(view.data), owned.bytes.size(), owned.bytes.data());
  return oracle::Floats(owned);
}

// How many times the bound for numbers of unit scale: an answer is as exact as its scores and values are large.
// bfloat16 moves a score by up to 2^-8 of the products in it, and a weight by twice that. Of an angle in double some 16
// digits are right.
double TimesOf(const Magnitudes& most, const ProblemSpec& spec) {
  const double rounding = spec.precision == ComputePrecision::kBFloat16 ? 5000 : 1;
  return std::max(1.0, most.score / 5) * std::max(1.0, most.output) * std::max(1.0, most.angle * 1e-9) * rounding;
}

void ExpectMaps(const v1::AttendResponse& naive, const v1::AttendResponse& flash, double times) {
  Expect(naive.maps_size() == flash.maps_size(), "both algorithms give the same maps");
  for (int i = 0; i < naive.maps_size(); ++i) {
    const v1::WeightMap& a = naive.maps(i);
    const v1::WeightMap& b = flash.maps(i);
    Expect(std::equal(a.top_keys().counts().begin(), a.top_keys().counts().end(), b.top_keys().counts().begin(),
                      b.top_keys().counts().end()),
           "both algorithms see the same keys", absl::StrCat("map ", i));
    const std::vector<float> exact = Floats(a.weights());
    // A cell may be the sum over everything.
    const auto cells = static_cast<double>((a.row_end() - a.row_begin()) * 320);
    const std::string offence =
        oracle::Compare(Floats(b.weights()), {exact.begin(), exact.end()}, TensorKind::kF32, 2 * times * cells);
    Expect(offence.empty(), "both algorithms give the same maps", absl::StrCat("map ", i, " ", offence));
  }
}

class SmallCall {
 public:
  SmallCall(const v1::AttendRequest& message, const ProblemSpec& spec, const oracle::Bound& bound)
      : message_(message),
        spec_(spec),
        bound_(bound),
        most_(MagnitudesOf(bound, spec)),
        times_(TimesOf(most_, spec)),
        comparable_(most_.well_formed &&
                    std::max({most_.angle, most_.product, most_.score, most_.output}) < kMostNumber) {}

  void Run(Server& server) {
    if (comparable_) exact_ = Solve(bound_);
    v1::AttendResponse naive, flash;
    const absl::Status by_naive = RunOne(server, v1::ALGORITHM_NAIVE, &naive);
    const absl::Status by_flash = RunOne(server, v1::ALGORITHM_FLASH, &flash);
    if (!comparable_ || !by_naive.ok()) return;
    Expect(by_flash.code() == by_naive.code(), "both algorithms answer", by_flash.ToString());
    ExpectMaps(naive, flash, times_);
  }

 private:
  absl::Status RunOne(Server& server, v1::Algorithm algorithm, v1::AttendResponse* response) {
    v1::AttendRequest request = message_;
    request.mutable_options()->set_algorithm(algorithm);
    const absl::Status status = server.Attend(request, response);
    Expect(server.IsIdle(), "a call gives back what it held", v1::Algorithm_Name(algorithm));
    if (!status.ok()) {
      ExpectRefusal(status);
      const ErrorReason reason = DetailsOf(status).reason;
      const bool by_size = reason == ErrorReason::kRequestTooExpensive || reason == ErrorReason::kResponseTooLarge;
      Expect(!comparable_ || by_size, "finite numbers are answered", status.ToString());
    } else if (comparable_) {
      ExpectExact(*response, v1::Algorithm_Name(algorithm));
    }
    return status;
  }

  void ExpectExact(const v1::AttendResponse& response, absl::string_view algorithm) const {
    const OutputSpec& outputs = spec_.outputs;
    const std::string problem = absl::StrCat(algorithm, ", ", bound_.problem.Describe());
    const auto expect = [&](const v1::Tensor& got, const std::vector<double>& want, TensorKind kind, const char* what) {
      // Beyond float16 there is infinity.
      if (kind == TensorKind::kF16 && most_.output > 60000) return;
      const std::string offence = oracle::Compare(Floats(got), want, kind, times_);
      Expect(offence.empty(), what, absl::StrCat(offence, ", ", problem));
    };
    if (outputs.output) expect(response.output(), exact_.output, outputs.kind, "the output is exact");
    if (outputs.head_outputs) expect(response.head_outputs(), exact_.heads, outputs.kind, "heads are exact");
    if (outputs.log_sum_exp) expect(response.log_sum_exp(), exact_.log_sum_exp, TensorKind::kF32, "the sum is exact");
    const v1::Verification& verification = response.execution().verification();
    if (outputs.verify_rows > 0 && outputs.kind == TensorKind::kF32) {
      Expect(verification.max_abs_error() <= times_ * 1e-5 * (1 + most_.output), "rows verify", problem);
    }
  }

  const v1::AttendRequest& message_;
  const ProblemSpec& spec_;
  const oracle::Bound& bound_;
  Magnitudes most_;
  double times_;
  bool comparable_;
  oracle::Exact exact_;
};

void RunSmall(const v1::AttendRequest& message) {
  static auto& server = *new Server();
  const DecodedCall decoded = Decode(message, server.layers());
  const absl::StatusOr<ProblemSpec> spec = server.Check(decoded);
  if (!spec.ok()) return ExpectRefusal(spec.status());
  const Dimensions& d = spec->dims;
  const auto work = static_cast<double>(d.batch * d.query_heads * d.query_tokens * d.key_tokens) *
                    static_cast<double>(d.head_size + d.value_head_size);
  if (work > kMostWork) return;
  const auto bound = BoundOf(decoded, *spec);
  SmallCall(message, *spec, *bound).Run(server);
}

}  // namespace

const google::protobuf::Message& Prototype() { return v1::AttendRequest::default_instance(); }

void Run(const google::protobuf::Message& message) { RunSmall(static_cast<const v1::AttendRequest&>(message)); }

}  // namespace headlight::fuzz
