#include "server/kernels/matmul.h"

#include <omp.h>

#include <deque>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/hash/hash.h"
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

// Rows of `ld` elements, and as many matrices as the batch has, `step` apart.
memory::desc DescribeMatrix(std::int64_t batch, memory::dims sizes, memory::dims strides, std::int64_t step,
                            memory::data_type type) {
  if (batch > 1) {
    sizes.insert(sizes.begin(), batch);
    strides.insert(strides.begin(), step);
  }
  return {sizes, type, strides};
}

memory::data_type TypeOf(const MatmulShape& s) {
  return s.kind == MatmulKind::kBF16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// B as the caller has it.
memory::desc DescribeB(const MatmulShape& s) {
  const memory::dims strides = s.transpose_b ? memory::dims{1, s.ldb} : memory::dims{s.ldb, 1};
  return DescribeMatrix(s.batch, {s.k, s.n}, strides, s.b_step, TypeOf(s));
}

dnnl::matmul::primitive_desc DescribeWith(const memory::desc& b, const MatmulShape& s) {
  const memory::desc a = DescribeMatrix(s.batch, {s.m, s.k}, {s.lda, 1}, s.a_step, TypeOf(s));
  const memory::desc c = DescribeMatrix(s.batch, {s.m, s.n}, {s.ldc, 1}, s.c_step, memory::data_type::f32);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops after;
#if DNNL_VERSION_MAJOR >= 3
  if (s.alpha != 1) after.append_eltwise(dnnl::algorithm::eltwise_linear, s.alpha, 0.0F);
#else
  if (s.alpha != 1) after.append_eltwise(1.0F, dnnl::algorithm::eltwise_linear, s.alpha, 0.0F);
#endif
  if (s.accumulate) after.append_sum(1.0F);
  attributes.set_post_ops(after);
#if DNNL_VERSION_MAJOR >= 3
  return {Engine(), a, b, c, attributes};
#else
  return {dnnl::matmul::desc(a, b, c), attributes, Engine()};
#endif
}

// The order of a packed B is the library's choice for one height, whatever height the product has.
dnnl::matmul::primitive_desc Describe(const MatmulShape& s) {
  if (!s.packed_b) return DescribeWith(DescribeB(s), s);
  MatmulShape typical = s;
  typical.m = 128;
  const memory::desc any({s.k, s.n}, TypeOf(s), memory::format_tag::any);
  return DescribeWith(DescribeWith(any, typical).weights_desc(), s);
}

class DnnlMatmul final : public Matmul {
 public:
  explicit DnnlMatmul(const MatmulShape& shape)
      : description_(Describe(shape)),
        product_(description_),
        scratch_bytes_(description_.scratchpad_desc().get_size()) {
    if (shape.packed_b) {
      plain_b_ = DescribeB(shape);
      packing_ = dnnl::reorder({Engine(), plain_b_, Engine(), description_.weights_desc()});
    }
  }

  absl::Status Run(const void* a, const void* b, float* c) const override {
    UseOneThread();
    try {
      thread_local dnnl::stream stream(Engine());
      std::unique_ptr<Arguments> arguments = Take();
      // oneDNN takes all memory as mutable; it does not write to sources.
      arguments->a.set_data_handle(const_cast<void*>(a));
      arguments->b.set_data_handle(const_cast<void*>(b));
      arguments->c.set_data_handle(c);
      arguments->scratch.set_data_handle(ThreadScratch(scratch_bytes_));
      product_.execute(stream, arguments->by_name);
      stream.wait();
      GiveBack(arguments);
    } catch (const dnnl::error& error) {
      return absl::InternalError(absl::StrCat("oneDNN matmul: ", error.what()));
    }
    return absl::OkStatus();
  }

  std::int64_t packed_bytes() const override {
    return packing_ ? static_cast<std::int64_t>(description_.weights_desc().get_size()) : 0;
  }

  absl::Status Pack(const void* b, void* packed) const override {
    UseOneThread();
    try {
      thread_local dnnl::stream stream(Engine());
      std::unique_ptr<Arguments> arguments = Take();
      arguments->plain_b.set_data_handle(const_cast<void*>(b));
      arguments->b.set_data_handle(packed);
      packing_.execute(stream, arguments->of_packing);
      stream.wait();
      GiveBack(arguments);
    } catch (const dnnl::error& error) {
      return absl::InternalError(absl::StrCat("oneDNN reorder: ", error.what()));
    }
    return absl::OkStatus();
  }

 private:
  // Memory objects are dear to make, and one run at a time can use them.
  struct Arguments {
    memory a, b, c, scratch, plain_b;
    std::unordered_map<int, memory> by_name, of_packing;
  };

  std::unique_ptr<Arguments> Take() const {
    {
      const absl::MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Arguments> taken = std::move(idle_.back());
        idle_.pop_back();
        return taken;
      }
    }
    auto made = std::make_unique<Arguments>();
    made->a = memory(description_.src_desc(), Engine(), nullptr);
    made->b = memory(description_.weights_desc(), Engine(), nullptr);
    made->c = memory(description_.dst_desc(), Engine(), nullptr);
    made->scratch = memory(description_.scratchpad_desc(), Engine(), nullptr);
    made->by_name = {{DNNL_ARG_SRC, made->a},
                     {DNNL_ARG_WEIGHTS, made->b},
                     {DNNL_ARG_DST, made->c},
                     {DNNL_ARG_SCRATCHPAD, made->scratch}};
    if (packing_) {
      made->plain_b = memory(plain_b_, Engine(), nullptr);
      made->of_packing = {{DNNL_ARG_FROM, made->plain_b}, {DNNL_ARG_TO, made->b}};
    }
    return made;
  }

  void GiveBack(std::unique_ptr<Arguments>& arguments) const {
    const absl::MutexLock lock(&mutex_);
    idle_.push_back(std::move(arguments));
  }

  dnnl::matmul::primitive_desc description_;
  dnnl::matmul product_;
  std::size_t scratch_bytes_;
  memory::desc plain_b_;
  dnnl::reorder packing_;  // of B, where it is packed
  mutable absl::Mutex mutex_;
  mutable std::vector<std::unique_ptr<Arguments>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

struct MatmulCache::State {
  std::size_t capacity;
  mutable absl::Mutex mutex;
  // Not abseil's map: one that could not get memory to grow is broken for ever.
  std::unordered_map<MatmulShape, std::shared_ptr<const Matmul>, absl::Hash<MatmulShape>> products;
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

absl::Status MatmulCache::Run(const MatmulShape& shape, const void* a, const void* b, float* c) {
  const auto product = Get(shape);
  return product.ok() ? (*product)->Run(a, b, c) : product.status();
}

namespace {

// Each isa's number holds the bits of those that it includes.
bool Includes(dnnl::cpu_isa isa) {
  const auto bits = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
}

}  // namespace

bool GainsFromPacking() { return Includes(dnnl::cpu_isa::avx512_core); }
bool MultipliesBF16() { return Includes(dnnl::cpu_isa::avx512_core_bf16); }

absl::Status CapMatmulTarget(CpuTarget target) {
  dnnl::cpu_isa cap = dnnl::cpu_isa::sse41;
  if (target == CpuTarget::kAvx512) cap = dnnl::cpu_isa::avx512_core_amx;  // with and without AMX and bfloat16
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
