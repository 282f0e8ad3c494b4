// Products of matrices, by oneDNN. matmul.cc is the only file that knows oneDNN and the difference between its
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

// What A and B consist of; C is float32 and so are all sums.
enum class MatmulKind : std::uint8_t { kF32, kBF16 };

// C [m, n] = alpha A [m, k] B [k, n], or C += alpha A B. B may be given transposed, as [n, k]. The ld's are elements
// from one row to the next of each matrix as it lies in memory. With batch > 1 there are as many of each, `a_step`,
// `b_step` and `c_step` elements apart. With `packed_b`, which no batch has, B is what Matmul::Pack made of the matrix
// that ldb and transpose_b describe; it serves products of every m.
struct MatmulShape {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  bool transpose_b = false;
  bool accumulate = false;
  MatmulKind kind = MatmulKind::kF32;
  float alpha = 1;
  std::int64_t batch = 1;
  std::int64_t a_step = 0, b_step = 0, c_step = 0;
  bool packed_b = false;

  friend bool operator==(const MatmulShape&, const MatmulShape&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const MatmulShape& s) {
    return H::combine(std::move(h), s.m, s.n, s.k, s.lda, s.ldb, s.ldc, s.transpose_b, s.accumulate, s.kind, s.alpha,
                      s.batch, s.a_step, s.b_step, s.c_step, s.packed_b);
  }
};

// A product of one shape, ready to run. Thread-safe. After its first run on as many threads at once it allocates
// nothing of its own.
class Matmul {
 public:
  virtual ~Matmul() = default;

  // `a` and `b` are of the shape's kind. Errors: INTERNAL, where the library fails.
  virtual absl::Status Run(const void* a, const void* b, float* c) const = 0;

  // Of a packed B; 0 where B is not packed.
  virtual std::int64_t packed_bytes() const = 0;
  // Lays B, as the shape describes it, in the order in which the library reads it fastest: packed_bytes at `packed`,
  // 64-byte aligned. Errors: INTERNAL, where the library fails. REQUIRES: packed_b.
  virtual absl::Status Pack(const void* b, void* packed) const = 0;
};

// Products by shape, made once each; the oldest are forgotten beyond the capacity. Thread-safe.
class MatmulCache {
 public:
  explicit MatmulCache(std::size_t capacity = 1024);
  ~MatmulCache();

  // Errors: INTERNAL, where the library cannot make it.
  absl::StatusOr<std::shared_ptr<const Matmul>> Get(const MatmulShape& shape);

  // Get, then Run.
  absl::Status Run(const MatmulShape& shape, const void* a, const void* b, float* c);

  std::size_t size() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Whether products gain from a packed B under the present cap: those of AVX-512 do. Fixes the cap as a first product
// does.
bool GainsFromPacking();

// Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX) under the present cap; products of that kind
// are to be asked for only there. Fixes the cap as a first product does.
bool MultipliesBF16();

// Caps oneDNN's instruction set. Errors: FAILED_PRECONDITION after the first product.
absl::Status CapMatmulTarget(CpuTarget target);

// "2.6.3".
std::string MatmulLibraryVersion();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_KERNELS_MATMUL_H_
