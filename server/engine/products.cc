#include "server/engine/products.h"

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace headlight {
namespace {

// How many keys of a batch lie in packed tiles: the full tiles within its key length. Sweeps look at others, too.
std::int64_t PackedKeys(const CallState& call, std::int64_t batch) {
  const std::int64_t width = call.plan.tile.keys;
  return call.spec().KeyLength(batch) / width * width;
}

// Packs the full tiles of K or V, those within the key lengths.
class PackTiles final : public Phase {
 public:
  explicit PackTiles(CallState& call) : Phase(Stage::kProject), call_(call) {}

  // `product` takes a packed tile of `rows`, whose keys are ready.
  void Add(const KeyValueRows& rows, const MatmulShape& product) { parts_.push_back({rows, product}); }

  std::int64_t Begin() override {
    return static_cast<std::int64_t>(parts_.size()) * call_.dims().batch * call_.dims().key_value_heads;
  }

  // A task is a head of K or V, a step a tile of it: some microseconds.
  absl::StatusOr<bool> Run(std::int64_t task, std::int64_t step, Lane& /*lane*/) override {
    const Dimensions& d = call_.dims();
    const std::int64_t heads = d.batch * d.key_value_heads;
    const Part& part = parts_[static_cast<std::size_t>(task / heads)];
    const std::int64_t batch = task % heads / d.key_value_heads;
    const std::int64_t head = task % d.key_value_heads;
    const std::int64_t width = call_.plan.tile.keys;
    const std::int64_t tiles = PackedKeys(call_, batch) / width;
    if (step >= tiles) return false;
    if (!part.rows.ready) return absl::InternalError("tiles are packed of rows that products do not take");
    const absl::StatusOr<std::shared_ptr<const Matmul>> product = call_.matmuls.Get(part.product);
    if (!product.ok()) return product.status();
    if ((*product)->packed_bytes() > part.rows.tile_bytes) return absl::InternalError("a packed tile has no room");
    const std::int64_t first = step * width;
    const absl::Status status =
        (*product)->Pack(part.rows.where.At(batch, head, first),
                         const_cast<std::byte*>(PackedTile(call_, part.rows, batch, head, {first, first + width})));
    if (!status.ok()) return status;
    return step + 1 < tiles;
  }

 private:
  struct Part {
    KeyValueRows rows;
    MatmulShape product;
  };

  CallState& call_;
  std::vector<Part> parts_;
};

MatmulKind KindOf(const CallState& call) { return call.plan.bf16_products ? MatmulKind::kBF16 : MatmulKind::kF32; }

// Room for the tiles of K or V that `product` takes.
void MakeRoom(CallState& call, const MatmulShape& product, KeyValueRows& rows, Buffer<std::byte>& room) {
  const Dimensions& d = call.dims();
  rows.tile_bytes = PackedTileBytes(product.k, product.n, call.plan.bf16_products);
  room = Buffer<std::byte>(call.account, MemoryUse::kPacked,
                           d.batch * d.key_value_heads * (d.key_tokens / call.plan.tile.keys) * rows.tile_bytes);
  rows.tiles = room.data();
}

}  // namespace

bool QueryCarriesScale(const CallState& call) {
  constexpr double kLeast = 0x1p-16;  // below, small numbers would lose digits that count
  const double scale = call.spec().scale;
  int exponent = 0;
  const bool exact = std::frexp(scale, &exponent) == 0.5 && scale >= kLeast && scale <= 1;
  return !call.plan.bf16_products || exact;
}

MatmulShape ScoreProduct(const CallState& call, std::int64_t rows, std::int64_t keys, std::int64_t stride) {
  MatmulShape shape;
  shape.m = rows;
  shape.n = shape.ldc = keys;
  shape.k = shape.lda = call.dims().head_size;
  shape.ldb = stride;
  shape.transpose_b = true;
  shape.kind = KindOf(call);
  if (!QueryCarriesScale(call)) shape.alpha = static_cast<float>(call.spec().scale);
  return shape;
}

MatmulShape BlendProduct(const CallState& call, std::int64_t rows, std::int64_t keys, std::int64_t stride) {
  MatmulShape shape;
  shape.m = rows;
  shape.n = shape.ldc = call.dims().value_head_size;
  shape.k = shape.lda = keys;
  shape.ldb = stride;
  shape.accumulate = true;
  shape.kind = KindOf(call);
  return shape;
}

const std::byte* PackedTile(const CallState& call, const KeyValueRows& from, std::int64_t batch, std::int64_t head,
                            Range keys) {
  const std::int64_t width = call.plan.tile.keys;
  if (from.tiles == nullptr || keys.size() != width || keys.begin % width != 0) return nullptr;
  if (keys.end > PackedKeys(call, batch)) return nullptr;
  const Dimensions& d = call.dims();
  const std::int64_t tile = (batch * d.key_value_heads + head) * (d.key_tokens / width) + keys.begin / width;
  return from.tiles + tile * from.tile_bytes;
}

void AddPackedTiles(CallState& call, Packed& packed, PhasedWork& work) {
  auto pack = std::make_unique<PackTiles>(call);
  const TileSize tile = call.plan.tile;
  const auto add = [&](MatmulShape product, KeyValueRows& rows, Buffer<std::byte>& room) {
    product.packed_b = true;
    MakeRoom(call, product, rows, room);
    pack->Add(rows, product);
  };
  if (call.plan.packs_key_tiles) {
    add(ScoreProduct(call, tile.query_rows, tile.keys, call.key.where.token_stride), call.key, packed.key_tiles);
  }
  if (call.plan.packs_value_tiles) {
    add(BlendProduct(call, tile.query_rows, tile.keys, call.value.where.token_stride), call.value, packed.value_tiles);
  }
  work.Add(std::move(pack));
}

}  // namespace headlight
