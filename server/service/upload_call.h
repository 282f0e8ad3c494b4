// One UploadLayer, without gRPC: takes the bytes, then makes layers of them under a ticket.
#ifndef HEADLIGHT_SERVER_SERVICE_UPLOAD_CALL_H_
#define HEADLIGHT_SERVER_SERVICE_UPLOAD_CALL_H_

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headlight/v1/layer_service.pb.h"
#include "server/layers/conversion.h"
#include "server/layers/file_id.h"
#include "server/layers/schemes.h"
#include "server/layers/store.h"
#include "server/service/admitted_call.h"

namespace headlight {

// Bytes that come in pieces, counted in admission's budget before there is room for them. Not thread-safe.
class UploadBuffer {
 public:
  // `admission` outlives it.
  explicit UploadBuffer(Admission& admission) : admission_(admission) {}

  // Makes room for `bytes` in all. Errors: those of Admission::Hold. Throws std::bad_alloc.
  absl::Status Reserve(std::int64_t bytes);
  // REQUIRES: there is room.
  void Append(absl::string_view bytes);

  std::int64_t size() const { return size_; }
  std::int64_t capacity() const { return capacity_; }
  absl::string_view bytes() const { return {data_.get(), static_cast<std::size_t>(size_)}; }

 private:
  struct Free {
    void operator()(char* data) const { std::free(data); }
  };

  Admission& admission_;
  std::vector<std::shared_ptr<void>> holds_;
  // malloc's: the system moves its pages when it grows.
  std::unique_ptr<char, Free> data_;
  std::int64_t size_ = 0, capacity_ = 0;
};

// A file's bytes become layers of the store: digest, header, matrices. One step of its second phase reads the header at
// once, some milliseconds for the largest.
class UploadWork final : public PhasedWork {
 public:
  // Everything outlives it.
  UploadWork(Shared& shared, MemoryAccount& account, const v1::UploadLayerHeader& header, absl::string_view bytes);

  const LayerStore::Held& held() const { return held_; }

 private:
  void Build() override;
  absl::Status Digested();
  absl::Status Read();
  absl::Status Converted();

  Shared& shared_;
  const v1::UploadLayerHeader& header_;
  const absl::string_view bytes_;
  const std::string reading_;  // what the header says of how to read them
  SteppedDigest digest_;
  std::string id_;
  std::shared_ptr<void> hold_;
  std::optional<Conversion> conversion_;  // none where the bytes were known
  LayerStore::Held held_;
};

// Take every message, Accept once all came, then as AdmittedCall.
class UploadCall : public AdmittedCall {
 public:
  using Response = v1::UploadLayerResponse;

  explicit UploadCall(Shared& shared) : AdmittedCall(shared), buffer_(shared.admission) {}

  // Errors: INVALID_ARGUMENT, RESOURCE_EXHAUSTED, ALREADY_EXISTS, PERMISSION_DENIED.
  absl::Status Take(const v1::UploadLayerRequest& message);
  // Errors: INVALID_ARGUMENT, those of Admission::Admit.
  absl::Status Accept(absl::Time deadline);
  void Encode(Response* response);

  bool known() const { return work_made_->held().known; }

 private:
  absl::Status TakeHeader(const v1::UploadLayerHeader& header);
  absl::Status TakeChunk(absl::string_view chunk);

  std::optional<v1::UploadLayerHeader> header_;
  UploadBuffer buffer_;
  std::unique_ptr<UploadWork> work_made_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_UPLOAD_CALL_H_
