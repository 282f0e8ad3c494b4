// What fuzz targets share. A target is one file that defines Prototype and Run; main comes from libFuzzer (preset
// `fuzz`) or from replay.cc, which runs the committed corpus in every preset.
#ifndef HEADLIGHT_TESTS_FUZZ_FUZZ_H_
#define HEADLIGHT_TESTS_FUZZ_FUZZ_H_

#include <google/protobuf/message.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight::fuzz {

// The target's message. Inputs are its bytes on the wire.
const google::protobuf::Message& Prototype();

// Runs one input, of the prototype's type. Every promise that is not kept ends the process, through Expect.
void Run(const google::protobuf::Message& message);

// Ends the process with `what` and the details, as a finding.
void Expect(bool holds, absl::string_view what, absl::string_view details = "");

// A refusal as the contract promises it: INVALID_ARGUMENT, or NOT_FOUND for a layer's name; violations that name fields
// of the contract, in short printable texts; details that fit.
void ExpectRefusal(const absl::Status& status);

}  // namespace headlight::fuzz

#endif  // HEADLIGHT_TESTS_FUZZ_FUZZ_H_
