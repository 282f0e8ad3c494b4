// What an answer says about how it was computed, for people.
#ifndef HEADLIGHT_CLIENT_CLI_EXECUTION_H_
#define HEADLIGHT_CLIENT_CLI_EXECUTION_H_

#include <google/protobuf/duration.pb.h>

#include <string>

#include "headlight/v1/outputs.pb.h"

namespace headlight::cli {

double SecondsOf(const google::protobuf::Duration& duration);

// The time of projections and attention, without the queue and the maps: what GFLOP/s divides by.
double ComputeSeconds(const v1::Execution& execution);

// "naive", "flash".
std::string NameOf(v1::Algorithm algorithm);

// "float32", "bfloat16".
std::string NameOf(v1::ComputePrecision precision);

// A few lines: algorithm and reason, conventions, time, bytes, GFLOP/s.
std::string Summary(const v1::Execution& execution);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_EXECUTION_H_
