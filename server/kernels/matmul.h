// Products of float32 matrices, by oneDNN. matmul.cc is the only file that knows oneDNN and the difference between its
// versions 2 and 3. oneDNN's own threads are off: one product runs on the thread that calls it.
#ifndef HEADLIGHT_SERVER_KERNELS_MATMUL_H_
#define HEADLIGHT_SERVER_KERNELS_MATMUL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/kernels/cpu_target.h"

namespace headlight {

// C [m, n] = A [m, k] B [k, n], or C += A B. B may be given transposed, as [n, k]. The ld's are elements from one row
// to the next of each matrix as it lies in memory.
struct MatmulShape {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  bool transpose_b = false;
  bool accumulate = false;

  friend bool operator==(const MatmulShape&, const MatmulShape&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const MatmulShape& s) {
    return H::combine(std::move(h), s.m, s.n, s.k, s.lda, s.ldb, s.ldc, s.transpose_b, s.accumulate);
  }
};

// A product of one shape, ready to run. Thread-safe.
class Matmul {
 public:
  virtual ~Matmul() = default;

  // Errors: INTERNAL, where the library fails.
  virtual absl::Status Run(const float* a, const float* b, float* c) const = 0;
};

// Products by shape, made once each; the oldest are forgotten beyond the capacity. Thread-safe.
class MatmulCache {
 public:
  explicit MatmulCache(std::size_t capacity = 1024);
  ~MatmulCache();

  // Errors: INTERNAL, where the library cannot make it.
  absl::StatusOr<std::shared_ptr<const Matmul>> Get(const MatmulShape& shape);

  // Get, then Run.
  absl::Status Run(const MatmulShape& shape, const float* a, const float* b, float* c);

  std::size_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Caps oneDNN's instruction set. Errors: FAILED_PRECONDITION after the first product.
absl::Status CapMatmulTarget(CpuTarget target);

// "2.6.3".
std::string MatmulLibraryVersion();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_MATMUL_H_
