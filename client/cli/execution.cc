#include "client/cli/execution.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/cli/format.h"

namespace headlight::cli {
namespace {

// "CAUSAL_ALIGNMENT_TOP_LEFT" -> "top-left".
std::string Spoken(absl::string_view name, absl::string_view prefix) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(absl::StripPrefix(name, prefix)), {{"_", "-"}});
}

std::string Conventions(const v1::Execution& e) {
  std::string text = absl::StrCat(e.query_heads(), " heads of size ", e.head_size());
  if (e.key_value_heads() != e.query_heads()) absl::StrAppend(&text, " over ", e.key_value_heads(), " key/value heads");
  absl::StrAppend(&text, ", scale ", absl::StrFormat("%.6g", e.scale()), ", positions ",
                  Printable(e.position_scheme()));
  if (e.causal_alignment() != v1::CAUSAL_ALIGNMENT_UNSPECIFIED) {
    absl::StrAppend(&text, ", causal ", Spoken(v1::CausalAlignment_Name(e.causal_alignment()), "CAUSAL_ALIGNMENT_"));
  }
  if (e.window_alignment() != v1::CAUSAL_ALIGNMENT_UNSPECIFIED) {
    absl::StrAppend(&text, ", window ", Spoken(v1::CausalAlignment_Name(e.window_alignment()), "CAUSAL_ALIGNMENT_"));
  }
  if (e.softcap() != 0) absl::StrAppend(&text, ", softcap ", absl::StrFormat("%.6g", e.softcap()));
  if (e.precision() == v1::COMPUTE_PRECISION_BFLOAT16) absl::StrAppend(&text, ", in ", NameOf(e.precision()));
  if (e.non_finite() == "ieee") absl::StrAppend(&text, ", non-finite numbers by IEEE rules");
  return text;
}

std::string Time(const v1::Execution& e) {
  return absl::StrCat(HumanSeconds(SecondsOf(e.total())), " (queue ", HumanSeconds(SecondsOf(e.queue())), ", project ",
                      HumanSeconds(SecondsOf(e.project())), ", attend ", HumanSeconds(SecondsOf(e.attend())), ", maps ",
                      HumanSeconds(SecondsOf(e.maps())), "), ", HumanFlops(e.flops()), " at ",
                      HumanRate(e.flops(), ComputeSeconds(e)));
}

std::string Memory(const v1::Execution& e) {
  return absl::StrCat(HumanBytes(e.workspace_bytes()), " (scratch ", HumanBytes(e.scratch_bytes()), ", packed ",
                      HumanBytes(e.packed_bytes()), ", projections ", HumanBytes(e.projection_bytes()),
                      "); the full grid of scores takes ", HumanBytes(e.score_grid_bytes()));
}

}  // namespace

double SecondsOf(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

double ComputeSeconds(const v1::Execution& execution) {
  return SecondsOf(execution.project()) + SecondsOf(execution.attend());
}

std::string NameOf(v1::Algorithm algorithm) { return Spoken(v1::Algorithm_Name(algorithm), "ALGORITHM_"); }

std::string NameOf(v1::ComputePrecision precision) {
  return Spoken(v1::ComputePrecision_Name(precision), "COMPUTE_PRECISION_");
}

std::string Summary(const v1::Execution& e) {
  std::string text =
      absl::StrCat("algorithm  ", NameOf(e.algorithm()), " (", Printable(e.algorithm_reason()), "), ",
                   Printable(e.cpu_target()), ", ", e.workers(), e.workers() == 1 ? " worker\n" : " workers\n");
  absl::StrAppend(&text, "attention  ", Conventions(e), "\n", "time       ", Time(e), "\n", "memory     ", Memory(e),
                  "\n");
  if (e.has_verification()) {
    absl::StrAppend(&text, "verified   ", e.verification().rows(), " rows in double precision: largest error ",
                    absl::StrFormat("%.3g", e.verification().max_abs_error()), "\n");
  }
  return text;
}

}  // namespace headlight::cli
