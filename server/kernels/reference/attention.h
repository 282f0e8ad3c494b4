// Attention in double precision, one number at a time: the oracle that every other kernel is held against, and the
// text from which attention can be learned. No cleverness on purpose. Thread-safe; no allocation.
#ifndef HEADLIGHT_SERVER_KERNELS_REFERENCE_ATTENTION_H_
#define HEADLIGHT_SERVER_KERNELS_REFERENCE_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "server/base/tensor.h"

namespace headlight::reference {

// softmax(cap(scale x q K^T) + bias) V for one row of one head ("Attention Is All You Need", equation 1), in three
// passes, with cap(s) = softcap x tanh(s / softcap) where there is one. A key whose bias is -inf is not read, neither
// its key nor its value. Where no key is left, or every score is -inf, the output and the weights are 0 and the
// log-sum-exp is -inf.
struct Row {
  const double* query = nullptr;  // [D]
  Matrix<const double> keys;      // [Tk, D]
  Matrix<const double> values;    // [Tk, Dv]
  const double* bias = nullptr;   // [Tk]: additive, -inf where the row may not look
  double scale = 1;
  double* weights = nullptr;     // [Tk]: scores after pass 1, weights after pass 2
  double* output = nullptr;      // [Dv], after pass 3
  double softcap = 0;            // 0: none
  const double* sink = nullptr;  // one more logit in the denominator, or null
};

// Pass 1: scores of keys `begin` .. `end` - 1.
void Score(const Row& row, std::int64_t begin, std::int64_t end);

// Pass 2: scores of all keys become weights that add up to one, or to what a sink leaves. Returns the log-sum-exp
// (natural) of the keys alone.
double Softmax(const Row& row);

// Pass 3: adds the values of keys `begin` .. `end` - 1 to the output, which starts at 0 where `begin` is 0.
void Blend(const Row& row, std::int64_t begin, std::int64_t end);

// All three. Returns the log-sum-exp.
double Attend(const Row& row);

// out[n] = sum over e of x[e] W[e, n] + bias[n] for the columns n = begin .. end - 1; `bias` may be empty. W is [E, N]
// of any kind, E and N as in its shape; out[0] is the first of the columns.
void Project(const double* x, const TensorView& weights, const TensorView& bias, std::int64_t begin, std::int64_t end,
             double* out);

// Rotary positions (arXiv 2104.09864): turns the first `size` channels of x by position x base^(-2c / size); channel
// pairs are (c, c + size / 2) where `halves`, else (2c, 2c + 1).
void Turn(double* x, std::int64_t size, bool halves, double base, std::int64_t position);

// The same where pair c turns by position x frequency[c] and grows by `amplitude`.
void TurnBy(double* x, const std::vector<double>& frequency, double amplitude, bool halves, std::int64_t position);

// Adds the sinusoids of "Attention Is All You Need", section 3.5, to x[width]: sine and cosine of
// position x base^(-2c / width), in the first and second half where `halves`, else interleaved.
void AddSinusoid(double* x, std::int64_t width, bool halves, double base, std::int64_t position);

}  // namespace headlight::reference

#endif  // HEADLIGHT_SERVER_KERNELS_REFERENCE_ATTENTION_H_
