// The statistics of an answer's heads, for people.
#ifndef HEADLIGHT_CLIENT_CLI_STATISTICS_H_
#define HEADLIGHT_CLIENT_CLI_STATISTICS_H_

#include <string>

#include "headlight/v1/attention_service.pb.h"

namespace headlight::cli {

// A table with a line per batch and head, and a line that says what its columns are; empty where the answer has none.
std::string StatisticsText(const v1::AttendResponse& response);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_STATISTICS_H_
