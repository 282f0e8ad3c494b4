// Entropies and divergences of rows of weights. Vectorised for every CPU target; results depend on the target alone. No
// allocation, no locks; thread-safe. Pointers need no alignment; n >= 0.
#ifndef HEADLIGHT_SERVER_KERNELS_ENTROPY_H_
#define HEADLIGHT_SERVER_KERNELS_ENTROPY_H_

#include <cstdint>

namespace headlight {

// Sum of m[i] ln m[i] with m[i] = (a[i] + b[i]) / 2, where 0 ln 0 is 0: with a = b, minus the entropy of a in nats. The
// Jensen-Shannon divergence of a and b (Lin 1991) is (S(a, a) + S(b, b)) / 2 - S(a, b), exactly 0 for equal rows.
// Products are float32, and are added up in float32 for 512 at a time. NaN stays NaN. REQUIRES: no number is negative.
double MixedLogSum(const float* a, const float* b, std::int64_t n);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_ENTROPY_H_
