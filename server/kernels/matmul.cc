#include "server/kernels/matmul.h"

#include <omp.h>

#include <deque>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace headlight {
namespace {

using dnnl::memory;

dnnl::engine& Engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN asks OpenMP how many threads there are, once when a product is made and again when it runs.
void UseOneThread() {
  thread_local const bool done = [] {
    omp_set_num_threads(1);
    return true;
  }();
  (void)done;
}

// Scratch that oneDNN asks for, kept per thread and grown to the largest product.
void* ThreadScratch(std::size_t bytes) {
  constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(void* data) const { ::operator delete(data, kAlignment); }
  };
  thread_local std::unique_ptr<void, Free> block;
  thread_local std::size_t size = 0;
  if (bytes > size) {
    block.reset();
    size = 0;
    block.reset(::operator new(bytes, kAlignment));
    size = bytes;
  }
  // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete): clang-tidy 14 takes a thread_local for a local.
  return block.get();
}

dnnl::matmul::primitive_desc Describe(const MatmulShape& s) {
  const memory::desc a({s.m, s.k}, memory::data_type::f32, memory::dims{s.lda, 1});
  const memory::desc b({s.k, s.n}, memory::data_type::f32,
                       s.transpose_b ? memory::dims{1, s.ldb} : memory::dims{s.ldb, 1});
  const memory::desc c({s.m, s.n}, memory::data_type::f32, memory::dims{s.ldc, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
#if DNNL_VERSION_MAJOR >= 3
  return {Engine(), a, b, c, attributes};
#else
  return {dnnl::matmul::desc(a, b, c), attributes, Engine()};
#endif
}

class DnnlMatmul final : public Matmul {
 public:
  explicit DnnlMatmul(const MatmulShape& shape) : description_(Describe(shape)), product_(description_) {}

  absl::Status Run(const float* a, const float* b, float* c) const override {
    UseOneThread();
    try {
      thread_local dnnl::stream stream(Engine());
      // oneDNN takes all memory as mutable; it does not write to sources.
      const memory source(description_.src_desc(), Engine(), const_cast<float*>(a));
      const memory weights(description_.weights_desc(), Engine(), const_cast<float*>(b));
      const memory result(description_.dst_desc(), Engine(), c);
      const memory scratch(description_.scratchpad_desc(), Engine(),
                           ThreadScratch(description_.scratchpad_desc().get_size()));
      product_.execute(stream, {{DNNL_ARG_SRC, source},
                                {DNNL_ARG_WEIGHTS, weights},
                                {DNNL_ARG_DST, result},
                                {DNNL_ARG_SCRATCHPAD, scratch}});
      stream.wait();
    } catch (const dnnl::error& error) {
      return absl::InternalError(absl::StrCat("oneDNN matmul: ", error.what()));
    }
    return absl::OkStatus();
  }

 private:
  dnnl::matmul::primitive_desc description_;
  dnnl::matmul product_;
};

}  // namespace

struct MatmulCache::State {
  std::size_t capacity;
  mutable absl::Mutex mutex;
  absl::flat_hash_map<MatmulShape, std::shared_ptr<const Matmul>> products;
  std::deque<MatmulShape> by_age;
};

MatmulCache::MatmulCache(std::size_t capacity) : state_(std::make_unique<State>()) { state_->capacity = capacity; }
MatmulCache::~MatmulCache() = default;

std::size_t MatmulCache::size() const {
  const absl::MutexLock lock(&state_->mutex);
  return state_->products.size();
}

absl::StatusOr<std::shared_ptr<const Matmul>> MatmulCache::Get(const MatmulShape& shape) {
  {
    const absl::MutexLock lock(&state_->mutex);
    if (const auto found = state_->products.find(shape); found != state_->products.end()) return found->second;
  }
  // Made without the lock: it takes about a millisecond, and others may find theirs meanwhile.
  UseOneThread();
  std::shared_ptr<const Matmul> made;
  try {
    made = std::make_shared<DnnlMatmul>(shape);
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN matmul ", shape.m, "x", shape.n, "x", shape.k, ": ", error.what()));
  }
  const absl::MutexLock lock(&state_->mutex);
  const auto [place, fresh] = state_->products.try_emplace(shape, std::move(made));
  const std::shared_ptr<const Matmul> kept = place->second;
  if (fresh) state_->by_age.push_back(shape);
  if (state_->by_age.size() > state_->capacity) {
    state_->products.erase(state_->by_age.front());
    state_->by_age.pop_front();
  }
  return kept;
}

absl::Status MatmulCache::Run(const MatmulShape& shape, const float* a, const float* b, float* c) {
  const auto product = Get(shape);
  return product.ok() ? (*product)->Run(a, b, c) : product.status();
}

absl::Status CapMatmulTarget(CpuTarget target) {
  dnnl::cpu_isa cap = dnnl::cpu_isa::sse41;
  if (target == CpuTarget::kAvx512) cap = dnnl::cpu_isa::avx512_core;
  if (target == CpuTarget::kAvx2) cap = dnnl::cpu_isa::avx2;
  if (target == CpuTarget::kNeon) return absl::OkStatus();
  if (dnnl::set_max_cpu_isa(cap) == dnnl::status::success) return absl::OkStatus();
  return absl::FailedPreconditionError("the CPU target was set after the first matrix product");
}

std::string MatmulLibraryVersion() {
  const dnnl_version_t* version = dnnl::version();
  return absl::StrCat(version->major, ".", version->minor, ".", version->patch);
}

}  // namespace headlight
