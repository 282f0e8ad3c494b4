// A phase made of functions, for work that is no attention.
#ifndef HEADLIGHT_SERVER_SERVICE_STEPS_H_
#define HEADLIGHT_SERVER_SERVICE_STEPS_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "server/engine/phased_work.h"

namespace headlight {

// As Phase says of Begin, Run and End.
class Steps final : public Phase {
 public:
  using Begins = std::function<std::int64_t()>;
  using Runs = std::function<absl::StatusOr<bool>(std::int64_t task, std::int64_t step)>;
  using Ends = std::function<absl::Status()>;

  Steps(Stage stage, Begins begins, Runs runs, Ends ends)
      : Phase(stage), begins_(std::move(begins)), runs_(std::move(runs)), ends_(std::move(ends)) {}

  std::int64_t Begin() override { return begins_(); }
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override { return runs_(task, step); }
  absl::Status End() override { return ends_(); }

 private:
  const Begins begins_;
  const Runs runs_;
  const Ends ends_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_STEPS_H_
