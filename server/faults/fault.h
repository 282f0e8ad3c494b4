// Faults on purpose: where HEADLIGHT_FAULT("name") stands, a test can make a process wait, fail or be out of memory.
// Nothing of it is in a build without HEADLIGHT_FAULTS; tests run `headlight-server-with-faults`, which has it.
//
// What is to happen stands in the file that the environment's HEADLIGHT_FAULT_FILE names. It is read again whenever it
// changes, so that a test can begin and end a fault while the process runs:
//
//   seed=7 unit=20ms@0.1 encode=bad_alloc
//
// Words apart by space; each is POINT=ACTION[@PROBABILITY], ACTION a duration (`inf` waits until the file changes),
// `error` (std::runtime_error) or `bad_alloc` (std::bad_alloc). The nth passing of a point has the same fate in every
// run with the same seed.
#ifndef HEADLIGHT_SERVER_FAULTS_FAULT_H_
#define HEADLIGHT_SERVER_FAULTS_FAULT_H_

#ifdef HEADLIGHT_FAULTS

#include <array>
#include <cstddef>
#include <stdexcept>

#include "absl/strings/string_view.h"

// Throws what the fault says. A name that is no point does not compile.
#define HEADLIGHT_FAULT(name)                                            \
  do {                                                                   \
    constexpr ::std::size_t fault_point = ::headlight::FaultPoint(name); \
    ::headlight::Fault(fault_point);                                     \
  } while (false)

namespace headlight {

inline constexpr std::array<absl::string_view, 6> kFaultPoints{
    "warm_up",  // before each call of the warm-up
    "accept",   // a call came, nothing was looked at
    "ticket",   // it has its ticket, and was not given to the workers
    "phase",    // a worker is about to begin a phase
    "unit",     // a worker is about to run a unit
    "encode",   // the answer is about to be made
};

// The place of a name in kFaultPoints.
constexpr std::size_t FaultPoint(absl::string_view name) {
  for (std::size_t i = 0; i < kFaultPoints.size(); ++i) {
    if (kFaultPoints[i] == name) return i;
  }
  throw std::logic_error("no fault point of this name");
}

// Thread-safe. A file that cannot be understood ends the process: a test must not pass because a fault is misspelled.
void Fault(std::size_t point);

}  // namespace headlight

#else

#define HEADLIGHT_FAULT(name) static_cast<void>(0)

#endif

#endif  // HEADLIGHT_SERVER_FAULTS_FAULT_H_
