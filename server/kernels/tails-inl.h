// The last vector of a row, which its end may cut. Compiled for each CPU target: included after Highway by files that
// Highway includes again and again.
#if defined(HEADLIGHT_SERVER_KERNELS_TAILS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADLIGHT_SERVER_KERNELS_TAILS_INL_H_
#undef HEADLIGHT_SERVER_KERNELS_TAILS_INL_H_
#else
#define HEADLIGHT_SERVER_KERNELS_TAILS_INL_H_
#endif

#include <cstddef>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;

// A vector whose first `count` lanes (less than all) are loaded and whose others are `fill`.
HWY_INLINE hn::Vec<Tag> LoadTail(const float* from, std::size_t count, float fill) {
  HWY_ALIGN float lanes[hn::MaxLanes(Tag())];
  hn::Store(hn::Set(Tag(), fill), Tag(), lanes);
  std::memcpy(lanes, from, count * sizeof(float));
  return hn::Load(Tag(), lanes);
}

// Stores the first `count` lanes, less than all.
HWY_INLINE void StoreTail(hn::Vec<Tag> v, float* to, std::size_t count) {
  HWY_ALIGN float lanes[hn::MaxLanes(Tag())];
  hn::Store(v, Tag(), lanes);
  std::memcpy(to, lanes, count * sizeof(float));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace headlight
HWY_AFTER_NAMESPACE();

#endif
