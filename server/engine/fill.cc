#include "server/engine/fill.h"

#include <algorithm>

namespace headlight {

void Fill::Add(std::int64_t count, std::int64_t piece, const Make& make) {
  for (std::int64_t first = 0; first < count; first += piece) {
    pieces_.push_back({make, first, std::min(piece, count - first)});
  }
}

std::int64_t Fill::Begin() { return static_cast<std::int64_t>(pieces_.size()); }

absl::StatusOr<bool> Fill::Run(std::int64_t task, std::int64_t /*step*/, Lane& /*lane*/) {
  const Piece& piece = pieces_[static_cast<std::size_t>(task)];
  piece.make(piece.first, piece.n);
  return false;
}

}  // namespace headlight
