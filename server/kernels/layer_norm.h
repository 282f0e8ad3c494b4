// Layer normalisation of a row (Ba, Kiros & Hinton 2016, arXiv 1607.06450), in double. No allocation; thread-safe.
#ifndef HEADLIGHT_SERVER_KERNELS_LAYER_NORM_H_
#define HEADLIGHT_SERVER_KERNELS_LAYER_NORM_H_

#include <cstdint>

namespace headlight {

// What a norm adds to the centred and scaled row. Borrowed; n numbers each.
struct NormView {
  const float* weight = nullptr;  // null: there is no norm
  const float* bias = nullptr;    // null: zeros
};

// What normalises a row: its mean, and 1 / sqrt(variance + epsilon).
struct NormScale {
  double mean = 0;
  double factor = 1;
};

// REQUIRES: n > 0.
NormScale NormScaleOf(const float* row, std::int64_t n, double epsilon);

// out[i] = (row[i] - mean) x factor x weight[i] + bias[i]. REQUIRES: the norm has a weight.
void NormaliseRow(const float* row, std::int64_t n, const NormView& norm, double epsilon, float* out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_LAYER_NORM_H_
