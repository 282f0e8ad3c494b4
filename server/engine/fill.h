// A phase that fills float32 buffers, cut into pieces.
#ifndef HEADLIGHT_SERVER_ENGINE_FILL_H_
#define HEADLIGHT_SERVER_ENGINE_FILL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "server/engine/phased_work.h"

namespace headlight {

// `make(first, n)` produces items first .. first + n - 1; different pieces are made at once.
class Fill final : public Phase {
 public:
  using Make = std::function<void(std::int64_t first, std::int64_t n)>;

  Fill() : Phase(Stage::kProject) {}

  // `count` items, at most `piece` at a time.
  void Add(std::int64_t count, std::int64_t piece, const Make& make);

  std::int64_t Begin() override;
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& lane) override;

 private:
  struct Piece {
    Make make;
    std::int64_t first;
    std::int64_t n;
  };
  std::vector<Piece> pieces_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ENGINE_FILL_H_
