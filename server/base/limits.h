// What one call, and one connection, may bring, and what all calls share. A problem is checked before anything is
// allocated.
#ifndef HEADLIGHT_SERVER_BASE_LIMITS_H_
#define HEADLIGHT_SERVER_BASE_LIMITS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace headlight {

struct Limits {
  std::int64_t max_batch = 64;
  std::int64_t max_heads = 128;
  std::int64_t max_head_size = 512;
  std::int64_t max_width = 16384;
  std::int64_t max_tokens = 16384;
  std::int64_t max_stream_tokens = 262'144;  // of AttendStream
  std::int64_t max_tensor_elements = std::int64_t{1} << 28;
  std::int64_t max_flops = 20'000'000'000'000;
  std::int64_t max_workspace_bytes = std::int64_t{4} << 30;
  // What the scalar reference of CompareAlgorithms may have to project.
  std::int64_t max_reference_flops = 20'000'000'000;
  std::int64_t max_map_requests = 8;
  std::int64_t max_row_ranges = 64;
  std::int64_t max_top_keys = 1024;
  std::int64_t max_verify_rows = 64;
  std::int64_t max_partials = 1024;
  std::int64_t max_string_bytes = 128;
  std::int64_t max_receive_bytes = std::int64_t{128} << 20;
  std::int64_t max_response_bytes = std::int64_t{256} << 20;
  std::int64_t max_stream_response_bytes = std::int64_t{4} << 30;
  std::int64_t max_metadata_bytes = 8192;
  std::int64_t max_layer_bytes = std::int64_t{1} << 30;  // of a file of layers
  std::int64_t max_concurrent_streams = 256;             // calls at once on one connection; more wait at the client
  std::int64_t max_calls = 1024;                         // at once
  std::int64_t max_call_milliseconds = 30'000;
  std::int64_t max_wait_milliseconds = 1000;
  // That a stream's client neither sends what is awaited nor reads what is sent.
  std::int64_t max_stream_idle_milliseconds = 60'000;
  std::int64_t max_memory_bytes = 0;                         // of all calls together; 0: no bound
  std::int64_t grpc_memory_bytes = std::int64_t{512} << 20;  // gRPC's buffers, of all connections together
  // Of a connection; 0: never.
  std::int64_t max_connection_age_milliseconds = 300'000;
  std::int64_t max_connection_age_grace_milliseconds = 35'000;
  std::int64_t max_connection_idle_milliseconds = 600'000;
  std::int64_t keepalive_time_milliseconds = 60'000;
  std::int64_t keepalive_timeout_milliseconds = 20'000;
  std::int64_t handshake_timeout_milliseconds = 10'000;

  // Name and value of each, in the order above.
  std::vector<std::pair<absl::string_view, std::int64_t>> Table() const {
    return {{"max_batch", max_batch},
            {"max_heads", max_heads},
            {"max_head_size", max_head_size},
            {"max_width", max_width},
            {"max_tokens", max_tokens},
            {"max_stream_tokens", max_stream_tokens},
            {"max_tensor_elements", max_tensor_elements},
            {"max_flops", max_flops},
            {"max_workspace_bytes", max_workspace_bytes},
            {"max_reference_flops", max_reference_flops},
            {"max_map_requests", max_map_requests},
            {"max_row_ranges", max_row_ranges},
            {"max_top_keys", max_top_keys},
            {"max_verify_rows", max_verify_rows},
            {"max_partials", max_partials},
            {"max_string_bytes", max_string_bytes},
            {"max_receive_bytes", max_receive_bytes},
            {"max_response_bytes", max_response_bytes},
            {"max_stream_response_bytes", max_stream_response_bytes},
            {"max_metadata_bytes", max_metadata_bytes},
            {"max_layer_bytes", max_layer_bytes},
            {"max_concurrent_streams", max_concurrent_streams},
            {"max_calls", max_calls},
            {"max_call_milliseconds", max_call_milliseconds},
            {"max_wait_milliseconds", max_wait_milliseconds},
            {"max_stream_idle_milliseconds", max_stream_idle_milliseconds},
            {"max_memory_bytes", max_memory_bytes},
            {"grpc_memory_bytes", grpc_memory_bytes},
            {"max_connection_age_milliseconds", max_connection_age_milliseconds},
            {"max_connection_age_grace_milliseconds", max_connection_age_grace_milliseconds},
            {"max_connection_idle_milliseconds", max_connection_idle_milliseconds},
            {"keepalive_time_milliseconds", keepalive_time_milliseconds},
            {"keepalive_timeout_milliseconds", keepalive_timeout_milliseconds},
            {"handshake_timeout_milliseconds", handshake_timeout_milliseconds}};
  }
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BASE_LIMITS_H_
