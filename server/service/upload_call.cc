#include "server/service/upload_call.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/layers/safetensors.h"
#include "server/service/encode_layers.h"
#include "server/service/steps.h"

namespace headlight {
namespace {

constexpr std::int64_t kMostChunkBytes = std::int64_t{1} << 20;

// A file of so many bytes is refused before it is taken.
void CheckTotal(std::uint64_t bytes, const Limits& limits, Violations& violations) {
  if (bytes <= static_cast<std::uint64_t>(limits.max_layer_bytes)) return;
  violations.AddTooExpensive("header.total_bytes", absl::StrCat(bytes, " bytes"),
                             absl::StrCat("at most ", limits.max_layer_bytes, " bytes"));
}

TensorNames NamesOf(const v1::TensorNames& names) {
  return {names.query(),      names.key(),      names.value(),      names.output(),      names.query_key_value(),
          names.query_bias(), names.key_bias(), names.value_bias(), names.output_bias(), names.query_key_value_bias(),
          names.transposed()};
}

FileHints HintsOf(const v1::UploadLayerHeader& header) {
  FileHints hints;
  hints.query_heads = header.query_heads();
  hints.key_value_heads = header.key_value_heads();
  if (header.has_tensor_names()) hints.names = NamesOf(header.tensor_names());
  return hints;
}

}  // namespace

absl::Status UploadBuffer::Reserve(std::int64_t bytes) {
  if (bytes <= capacity_) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<void>> hold = admission_.Hold(bytes - capacity_, "chunk");
  if (!hold.ok()) return hold.status();
  holds_.push_back(*std::move(hold));
  char* grown = static_cast<char*>(std::realloc(data_.get(), static_cast<std::size_t>(bytes)));
  if (grown == nullptr) throw std::bad_alloc();
  (void)data_.release();
  data_.reset(grown);
  capacity_ = bytes;
  return absl::OkStatus();
}

void UploadBuffer::Append(absl::string_view bytes) {
  std::memcpy(data_.get() + size_, bytes.data(), bytes.size());
  size_ += static_cast<std::int64_t>(bytes.size());
}

UploadWork::UploadWork(Shared& shared, MemoryAccount& account, const v1::UploadLayerHeader& header,
                       absl::string_view bytes)
    : PhasedWork(account, 0, absl::InfinitePast()),
      shared_(shared),
      header_(header),
      bytes_(bytes),
      reading_(ReadingOf(HintsOf(header))),
      digest_({bytes_, reading_}) {}

void UploadWork::Build() {
  const auto once = [] { return std::int64_t{1}; };
  Add(std::make_unique<Steps>(
      Stage::kDecode, once, [this](std::int64_t, std::int64_t) { return digest_.Step(); },
      [this] { return Digested(); }));
  Add(std::make_unique<Steps>(
      Stage::kDecode, [this] { return std::int64_t{held_.known ? 0 : 1}; },
      [this](std::int64_t, std::int64_t) -> absl::StatusOr<bool> {
        if (absl::Status read = Read(); !read.ok()) return read;
        return false;
      },
      [] { return absl::OkStatus(); }));
  Add(std::make_unique<Steps>(
      Stage::kDecode, [this] { return conversion_.has_value() ? conversion_->tasks() : 0; },
      [this](std::int64_t task, std::int64_t step) { return conversion_->Step(task, step); },
      [this] { return Converted(); }));
}

absl::Status UploadWork::Digested() {
  id_ = digest_.Id();
  const std::shared_ptr<const LayerFile> held = shared_.layers.FindFile(header_.name());
  if (held != nullptr && held->id == id_) held_ = {held, true};
  return absl::OkStatus();
}

absl::Status UploadWork::Read() {
  const absl::StatusOr<Safetensors> parsed = ParseSafetensors(bytes_);
  if (!parsed.ok()) return parsed.status();
  absl::StatusOr<FileRecipe> recipe = RecognizeLayers(*parsed, HintsOf(header_), shared_.limits);
  if (!recipe.ok()) return recipe.status();
  absl::StatusOr<std::shared_ptr<void>> hold = shared_.admission.Hold(recipe->bytes, "chunk");
  if (!hold.ok()) return hold.status();
  hold_ = *std::move(hold);
  conversion_.emplace(*std::move(recipe));
  return absl::OkStatus();
}

absl::Status UploadWork::Converted() {
  if (held_.known) return absl::OkStatus();
  if (absl::Status finite = conversion_->Check(); !finite.ok()) return finite;
  absl::StatusOr<LayerStore::Held> held =
      shared_.layers.Put(conversion_->Take(header_.name(), id_, LayerOrigin::kUpload, hold_), header_.replace());
  if (!held.ok()) return held.status();
  held_ = *std::move(held);
  return absl::OkStatus();
}

absl::Status UploadCall::Take(const v1::UploadLayerRequest& message) {
  Violations violations;
  switch (message.part_case()) {
    case v1::UploadLayerRequest::kHeader:
      if (!header_.has_value()) return TakeHeader(message.header());
      violations.Add("header", "a second one", "one header, in the first message");
      break;
    case v1::UploadLayerRequest::kChunk:
      if (header_.has_value()) return TakeChunk(message.chunk());
      violations.Add("header", "a chunk", "a header, in the first message");
      break;
    case v1::UploadLayerRequest::PART_NOT_SET: violations.Add("part", "nothing", "header or chunk"); break;
  }
  return violations.ToStatus();
}

absl::Status UploadCall::TakeHeader(const v1::UploadLayerHeader& header) {
  Violations violations;
  CheckTotal(header.total_bytes(), shared_.limits, violations);
  if (!violations.empty()) return violations.ToStatus();
  if (absl::Status may = shared_.layers.MayTake(header.name(), "header.name"); !may.ok()) return may;
  header_ = header;
  return buffer_.Reserve(static_cast<std::int64_t>(header.total_bytes()));
}

absl::Status UploadCall::TakeChunk(absl::string_view chunk) {
  Violations violations;
  const auto bytes = static_cast<std::int64_t>(chunk.size());
  const auto announced = static_cast<std::int64_t>(header_->total_bytes());
  if (bytes < 1 || bytes > kMostChunkBytes) {
    violations.Add("chunk", absl::StrCat(bytes, " bytes"), absl::StrCat("1 to ", kMostChunkBytes, " bytes"));
    return violations.ToStatus();
  }
  const std::int64_t all = buffer_.size() + bytes;
  if (announced != 0 && all > announced) {
    violations.Add("header.total_bytes", absl::StrCat(announced, " bytes, and more came"), "the bytes of the file");
  }
  CheckTotal(static_cast<std::uint64_t>(all), shared_.limits, violations);
  if (!violations.empty()) return violations.ToStatus();
  if (all > buffer_.capacity()) {
    const std::int64_t room = std::min(std::max(all, 2 * buffer_.capacity()), shared_.limits.max_layer_bytes);
    if (absl::Status reserved = buffer_.Reserve(room); !reserved.ok()) return reserved;
  }
  buffer_.Append(chunk);
  return absl::OkStatus();
}

absl::Status UploadCall::Accept(absl::Time deadline) {
  Violations violations;
  if (!header_.has_value()) {
    violations.Add("header", "nothing", "a header, in the first message");
  } else if (header_->total_bytes() != 0 && static_cast<std::int64_t>(header_->total_bytes()) != buffer_.size()) {
    violations.Add("header.total_bytes", absl::StrCat(header_->total_bytes(), " bytes, and ", buffer_.size(), " came"),
                   "the bytes of the file");
  }
  if (!violations.empty()) return violations.ToStatus();
  // Digest and conversion, at the rate of other scalar work.
  constexpr std::int64_t kWorkPerByte = 5;
  cost_.reference_flops = kWorkPerByte * buffer_.size();
  cost_.field = "chunk";
  if (absl::Status admitted = Admit(v1::PRIORITY_INTERACTIVE, deadline); !admitted.ok()) return admitted;
  work_made_ = std::make_unique<UploadWork>(shared_, ticket_->account(), *header_, buffer_.bytes());
  work_ = std::make_unique<Sequence>(std::vector<PhasedWork*>{work_made_.get()});
  return absl::OkStatus();
}

void UploadCall::Encode(Response* response) {
  EncodeFile(*work_made_->held().file, response);
  response->set_known(known());
}

}  // namespace headlight
