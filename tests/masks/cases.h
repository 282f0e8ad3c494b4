// Masks for tests, with a definition of their own of what a row may see: nothing is shared with the server's rules.
#ifndef HEADLIGHT_TESTS_MASKS_CASES_H_
#define HEADLIGHT_TESTS_MASKS_CASES_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/half.h"
#include "server/masks/rules.h"
#include "tests/problem/requests.h"

namespace headlight {

inline constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// B 2, Hq 2. Change fields, then ask.
struct MaskCase {
  std::int64_t tq = 5, tk = 7;
  std::optional<CausalAlignment> causal;
  std::int64_t offset = 0;  // with EXPLICIT
  std::optional<WindowForm> window;
  std::optional<SegmentsForm> segments;
  std::vector<std::int64_t> key_lengths;
  std::optional<TensorKind> kind;  // of the tensor; absent: none
  Shape shape;
  OwnedTensor tensor;  // made by Fill

  std::string Describe() const {
    return absl::StrCat("Tq ", tq, " Tk ", tk, causal ? absl::StrCat(" causal ", static_cast<int>(*causal)) : "",
                        " offset ", offset, window ? " window" : "", segments ? " segments" : "", " lengths [",
                        absl::StrJoin(key_lengths, ","), "] tensor ", kind ? NameOf(*kind) : "none", " ",
                        ToString(shape));
  }

  ProblemSpec Spec() const {
    // A mask of numbers is float32 or of the request's kind.
    const bool half = kind == TensorKind::kF16 || kind == TensorKind::kBF16;
    ProblemRequest request = HeadMajorRequest({2, 2, 1, tq, tk, 4, 4}, half ? *kind : TensorKind::kF32);
    if (causal.has_value()) {
      request.mask.causal = CausalForm{causal, {}};
      if (*causal == CausalAlignment::kExplicit) request.mask.causal->offset = offset;
    }
    request.mask.window = window;
    request.mask.segments = segments;
    request.mask.key_lengths = key_lengths;
    if (kind.has_value()) request.mask.tensor = FormOf(shape, *kind);
    return CheckProblem(request, Limits()).value();
  }

  // Half of the truths; numbers of which a third are -inf, a few as large as they come.
  void Fill(std::uint32_t seed) {
    std::mt19937 random(seed);
    tensor = MakeTensor(*kind, shape);
    const std::int64_t count = ElementCount(shape).value();
    for (std::int64_t i = 0; i < count; ++i) {
      const auto draw = random();
      float value = static_cast<float>(draw % 1000) / 64 - 7;
      if (draw % 3 == 0) value = kForbidden;
      if (draw % 17 == 1) value = -60000;
      if (*kind == TensorKind::kBool) {
        tensor.bytes[static_cast<std::size_t>(i)] = static_cast<char>(draw & 1);
      } else if (*kind == TensorKind::kF32) {
        tensor.floats()[i] = value;
      } else {
        const std::uint16_t half = *kind == TensorKind::kF16 ? F16FromFloat(value) : BF16FromFloat(value);
        reinterpret_cast<std::uint16_t*>(tensor.bytes.data())[i] = half;
      }
    }
  }

  TensorView View() const { return kind.has_value() ? tensor.view() : TensorView(); }

  // Whether the rules let row i of batch b see key j; a tensor counts by its last axis alone.
  bool RulesAllow(std::int64_t b, std::int64_t i, std::int64_t j) const {
    const std::int64_t length = key_lengths.empty() ? tk : key_lengths[static_cast<std::size_t>(b)];
    if (j >= length) return false;
    if (kind.has_value() && j >= shape.back()) return false;
    if (segments.has_value()) {
      const auto id = [b](const std::vector<std::int64_t>& ids, std::int64_t tokens, std::int64_t t) {
        return ids[static_cast<std::size_t>(static_cast<std::int64_t>(ids.size()) > tokens ? b * tokens + t : t)];
      };
      if (id(segments->query_ids, tq, i) != id(segments->key_ids, tk, j)) return false;
    }
    if (!causal.has_value() && !window.has_value()) return true;
    std::int64_t place = i + offset;
    const CausalAlignment alignment = causal.has_value() ? *causal : *window->alignment;
    if (alignment == CausalAlignment::kTopLeft) place = i;
    if (alignment == CausalAlignment::kBottomRight) place = i + (length - tq);
    if (causal.has_value() && j > place) return false;
    if (window.has_value() && window->left.has_value() && place - j > *window->left) return false;
    return !window.has_value() || !window->right.has_value() || j <= place + *window->right;
  }

  // What is added to the score of the pair; -inf where it may not attend.
  float Bias(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    if (!RulesAllow(b, i, j)) return kForbidden;
    if (!kind.has_value()) return 0;
    // Right-aligned to (b, h, i, j); an axis of 1 is repeated.
    const std::int64_t index[] = {b, h, i, j};
    std::int64_t flat = 0;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      const std::int64_t at = index[4 - shape.size() + axis];
      flat = flat * shape[axis] + (shape[axis] == 1 ? 0 : at);
    }
    const float value = ElementAsFloat(tensor.view(), flat);
    if (*kind == TensorKind::kBool) return value == 1 ? 0 : kForbidden;
    return value;
  }
};

// Every combination of alignment, offsets around the edges and key lengths for Tq x Tk; no tensor.
inline std::vector<MaskCase> RuleCases(std::int64_t tq, std::int64_t tk) {
  std::vector<MaskCase> cases;
  for (const auto& lengths : std::vector<std::vector<std::int64_t>>{{}, {tk, tk}, {0, tk - 1}, {tk, 1}}) {
    MaskCase one;
    one.tq = tq;
    one.tk = tk;
    one.key_lengths = lengths;
    cases.push_back(one);
    for (const CausalAlignment alignment : {CausalAlignment::kTopLeft, CausalAlignment::kBottomRight}) {
      one.causal = alignment;
      cases.push_back(one);
    }
    one.causal = CausalAlignment::kExplicit;
    constexpr std::int64_t kFarthest = (std::int64_t{1} << 31) - 1;
    for (const std::int64_t offset :
         {-kFarthest, -tq, 1 - tq, std::int64_t{-1}, std::int64_t{0}, std::int64_t{2}, tk - 2, tk - 1, tk, kFarthest}) {
      one.offset = offset;
      cases.push_back(one);
    }
  }
  return cases;
}

// Windows of every kind of side and alignment, alone and beside a causal mask; with segments of one and of many ids.
inline std::vector<MaskCase> WindowAndSegmentCases(std::int64_t tq, std::int64_t tk) {
  std::vector<MaskCase> cases;
  using Side = std::optional<std::int64_t>;
  const std::pair<Side, Side> sides[] = {{0, 0}, {1, 2}, {2, {}}, {{}, 1}, {tk, tk}, {INT64_MAX, 0}};
  for (const auto& lengths : std::vector<std::vector<std::int64_t>>{{}, {tk, tk - 1}}) {
    for (const auto& [left, right] : sides) {
      for (const bool causal : {false, true}) {
        for (const CausalAlignment alignment :
             {CausalAlignment::kTopLeft, CausalAlignment::kBottomRight, CausalAlignment::kExplicit}) {
          MaskCase one;
          one.tq = tq;
          one.tk = tk;
          one.key_lengths = lengths;
          one.offset = alignment == CausalAlignment::kExplicit ? 2 : 0;
          one.window = WindowForm{left, right, {}, {}};
          if (causal) {
            one.causal = alignment;
          } else {
            one.window->alignment = alignment;
            if (alignment == CausalAlignment::kExplicit) one.window->offset = one.offset;
          }
          cases.push_back(one);
          std::mt19937 random(static_cast<std::uint32_t>(cases.size()));
          const auto ids = [&random](std::int64_t n) {
            std::vector<std::int64_t> out;
            for (std::int64_t i = 0; i < n; ++i) out.push_back(static_cast<std::int64_t>(random() % 3));
            return out;
          };
          one.segments = SegmentsForm{ids(causal ? tq : 2 * tq), ids(causal ? 2 * tk : tk)};
          cases.push_back(one);
        }
      }
    }
  }
  return cases;
}

// Every shape that broadcasts to (2, 2, tq, tk), with a whole and with a short last axis.
inline std::vector<Shape> TensorShapes(std::int64_t tq, std::int64_t tk) {
  std::vector<Shape> shapes;
  for (const std::int64_t keys : {tk, tk - 1, (tk + 1) / 2}) {
    if (keys < 1 || (keys == 1 && tk > 1)) continue;
    shapes.push_back({keys});
    for (const std::int64_t rows : {std::int64_t{1}, tq}) {
      shapes.push_back({rows, keys});
      for (const std::int64_t heads : {1, 2}) {
        shapes.push_back({heads, rows, keys});
        for (const std::int64_t batch : {1, 2}) shapes.push_back({batch, heads, rows, keys});
      }
    }
  }
  return shapes;
}

}  // namespace headlight

#endif  // HEADLIGHT_TESTS_MASKS_CASES_H_
