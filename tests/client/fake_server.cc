#include "tests/client/fake_server.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/tensors.h"
#include "google/rpc/error_details.pb.h"

namespace headlight::testing {
namespace {

v1::Tensor TensorOf(const std::vector<float>& values, const std::vector<std::int64_t>& shape) {
  return *client::MakeTensor(values, shape, v1::TENSOR_KIND_F32);
}

std::int64_t TokensOf(const v1::AttendRequest& request) {
  const v1::SelfAttention& self = request.self_attention();
  if (self.has_seeded_embeddings()) return self.seeded_embeddings().tokens();
  const auto& shape =
      request.has_self_attention() ? self.embeddings().shape() : request.query_key_value().query().shape();
  return shape.size() < 2 ? 1 : shape[shape.size() - 2];
}

float Weight(std::uint32_t head, std::int64_t row, std::int64_t key, std::int64_t tokens) {
  const std::int64_t favourite = std::max<std::int64_t>(row - 1, 0);
  const std::int64_t wanted = head == 1 ? tokens - 1 - favourite : favourite;
  if (tokens == 1) return 1.0F;
  return key == wanted ? 0.8F : 0.2F / static_cast<float>(tokens - 1);
}

void AddMap(std::uint32_t index, std::uint32_t head, std::int64_t tokens, const v1::WeightMaps& asked,
            v1::AttendResponse* response) {
  v1::WeightMap* map = response->add_maps();
  map->set_request_index(index);
  map->set_head(head);
  map->set_stage(asked.stage() == v1::MAP_STAGE_UNSPECIFIED ? v1::MAP_STAGE_WEIGHTS : asked.stage());
  map->set_row_end(tokens);
  std::vector<float> weights;
  for (std::int64_t row = 0; row < tokens; ++row) {
    for (std::int64_t key = 0; key < tokens; ++key) weights.push_back(Weight(head, row, key, tokens));
  }
  if (asked.has_full()) {
    *map->mutable_weights() = TensorOf(weights, {tokens, tokens});
    return;
  }
  if (asked.has_pooled()) {
    std::vector<float> cells(asked.pooled().rows() * asked.pooled().columns());
    std::iota(cells.begin(), cells.end(), 0.0F);
    *map->mutable_weights() = TensorOf(cells, {asked.pooled().rows(), asked.pooled().columns()});
    return;
  }
  if (asked.has_column_sums()) {
    std::vector<float> sums(static_cast<std::size_t>(tokens));
    for (std::size_t i = 0; i < weights.size(); ++i) sums[i % sums.size()] += weights[i];
    *map->mutable_weights() = TensorOf(sums, {tokens});
    return;
  }
  for (std::int64_t row = 0; row < tokens; ++row) {
    const auto begin = weights.begin() + row * tokens;
    map->mutable_top_keys()->add_counts(1);
    map->mutable_top_keys()->add_keys(static_cast<std::uint32_t>(std::max_element(begin, begin + tokens) - begin));
    map->mutable_top_keys()->add_weights(*std::max_element(begin, begin + tokens));
  }
}

v1::Execution ExecutionOf(v1::Algorithm algorithm) {
  v1::Execution execution;
  execution.set_algorithm(algorithm);
  execution.set_algorithm_reason("asked for");
  execution.set_cpu_target("avx2");
  execution.set_precision(v1::COMPUTE_PRECISION_FLOAT32);
  execution.set_position_scheme("none");
  execution.set_softcap_order("before_bias");
  execution.set_boolean_mask("true_attends");
  execution.set_non_finite("refused");
  execution.set_causal_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  execution.set_scale(0.125);
  execution.set_query_heads(8);
  execution.set_key_value_heads(2);
  execution.set_head_size(64);
  execution.set_value_head_size(32);
  execution.set_workers(4);
  execution.mutable_attend()->set_nanos(250'000'000);
  execution.mutable_total()->set_nanos(300'000'000);
  execution.set_flops(5'000'000'000);
  execution.set_scratch_bytes(4 << 20);
  execution.set_workspace_bytes(6 << 20);
  execution.set_score_grid_bytes(128 << 20);
  return execution;
}

void AddStatistics(v1::AttendResponse* response) {
  for (std::uint32_t head = 0; head < 2; ++head) {
    v1::HeadStatistics* statistics = response->add_head_statistics();
    statistics->set_head(head);
    statistics->set_mean_entropy(1.5);
    statistics->set_mean_largest_weight(0.8);
    statistics->set_mean_distance(12.25);
    statistics->set_share_on_previous(0.75);
    statistics->set_share_on_same(0.125);
    statistics->set_share_on_first(0.0625);
    statistics->set_largest_score(head == 0 ? 3.5 : -123456.7);
  }
}

}  // namespace

grpc::Status DetailedStatus(grpc::StatusCode code, const std::string& message,
                            std::initializer_list<const google::protobuf::Message*> details) {
  google::rpc::Status wire;
  wire.set_code(code);
  wire.set_message(message);
  for (const google::protobuf::Message* detail : details) wire.add_details()->PackFrom(*detail);
  return {code, message, wire.SerializeAsString()};
}

FakeServer::FakeServer(std::initializer_list<grpc::Service*> others) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(-1);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(this);
  for (grpc::Service* other : others) builder.RegisterService(other);
  server_ = builder.BuildAndStart();
  SetServing(true);
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() { server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5)); }

void FakeServer::FailNext(grpc::Status status, std::string pushback) {
  const std::lock_guard lock(mutex_);
  failures_.push_back({std::move(status), std::move(pushback)});
}

void FakeServer::AnswerNext(v1::AttendResponse response) {
  const std::lock_guard lock(mutex_);
  answers_.push_back(std::move(response));
}

void FakeServer::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(serving);
  server_->GetHealthCheckService()->SetServingStatus("headlight.v1.AttentionService", serving);
}

int FakeServer::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::vector<std::string> FakeServer::last_authorization() const {
  const std::lock_guard lock(mutex_);
  return last_authorization_;
}

v1::AttendRequest FakeServer::last_attend() const {
  const std::lock_guard lock(mutex_);
  return last_attend_;
}

v1::PlanAttentionRequest FakeServer::last_plan() const {
  const std::lock_guard lock(mutex_);
  return last_plan_;
}

v1::CompareAlgorithmsRequest FakeServer::last_compare() const {
  const std::lock_guard lock(mutex_);
  return last_compare_;
}

grpc::Status FakeServer::Begin(grpc::ServerContext* context) {
  const std::lock_guard lock(mutex_);
  ++calls_;
  last_authorization_.clear();
  const auto [first, last] = context->client_metadata().equal_range("authorization");
  for (auto entry = first; entry != last; ++entry) {
    last_authorization_.emplace_back(entry->second.data(), entry->second.size());
  }
  if (failures_.empty()) return grpc::Status::OK;
  Failure failure = std::move(failures_.front());
  failures_.pop_front();
  if (!failure.pushback.empty()) context->AddTrailingMetadata("grpc-retry-pushback-ms", failure.pushback);
  return failure.status;
}

void FakeServer::LoseChunks() {
  const std::lock_guard lock(mutex_);
  loses_chunks_ = true;
}

namespace {

using Stream = grpc::ServerReaderWriter<v1::AttendStreamResponse, v1::AttendStreamRequest>;

v1::AttendRequest ReadRequest(Stream& stream) {
  v1::AttendRequest request;
  v1::AttendStreamRequest message;
  while (stream.Read(&message)) {
    if (message.has_header()) {
      *request.mutable_outputs() = message.header().call().outputs();
      const v1::QueryKeyValueSpec& given = message.header().call().query_key_value();
      *request.mutable_query_key_value()->mutable_query()->mutable_shape() = given.query().shape();
    }
    if (message.chunk().tensor() == v1::STREAMED_TENSOR_QUERY) {
      std::string* data = request.mutable_query_key_value()->mutable_query()->mutable_f32_le();
      if (message.chunk().offset() == data->size()) data->append(message.chunk().data());
    }
  }
  return request;
}

void AnnounceResult(v1::StreamedTensor name, const v1::Tensor& tensor, v1::AttendStreamAcceptance* acceptance) {
  v1::StreamedTensorSpec* result = acceptance->add_results();
  result->set_tensor(name);
  *result->mutable_spec()->mutable_shape() = tensor.shape();
  result->mutable_spec()->set_kind(v1::TENSOR_KIND_F32);
}

void WriteChunks(v1::StreamedTensor name, const v1::Tensor& tensor, bool loses, Stream& stream) {
  const std::string& data = tensor.f32_le();
  const std::size_t size = sizeof(float) * static_cast<std::size_t>(tensor.shape(tensor.shape_size() - 1));
  for (std::size_t end = data.size(); end > 0 && !(loses && end == size); end -= size) {
    v1::AttendStreamResponse message;
    message.mutable_chunk()->set_tensor(name);
    message.mutable_chunk()->set_offset(end - size);
    message.mutable_chunk()->set_data(data.substr(end - size, size));
    stream.Write(message);
  }
}

void WriteMap(std::uint64_t index, const v1::WeightMap& map, Stream& stream) {
  const auto columns = static_cast<std::size_t>(map.weights().shape(1));
  for (std::int64_t row = 0; row < map.weights().shape(0); ++row) {
    v1::AttendStreamResponse message;
    v1::WeightMapBlock* block = message.mutable_map();
    block->set_map(index);
    block->set_first(static_cast<std::uint64_t>(row));
    *block->mutable_part() = map;
    block->mutable_part()->mutable_weights()->set_shape(0, 1);
    const std::size_t size = columns * sizeof(float);
    block->mutable_part()->mutable_weights()->set_f32_le(
        map.weights().f32_le().substr(static_cast<std::size_t>(row) * size, size));
    stream.Write(message);
  }
}

}  // namespace

grpc::Status FakeServer::AttendStream(grpc::ServerContext* context, Stream* stream) {
  const v1::AttendRequest request = ReadRequest(*stream);
  v1::AttendResponse answer;
  if (grpc::Status status = Attend(context, &request, &answer); !status.ok()) return status;
  const bool loses = [this] {
    const std::lock_guard lock(mutex_);
    return loses_chunks_;
  }();
  v1::AttendStreamResponse message;
  AnnounceResult(v1::STREAMED_TENSOR_OUTPUT, answer.output(), message.mutable_acceptance());
  if (answer.has_log_sum_exp()) {
    AnnounceResult(v1::STREAMED_TENSOR_LOG_SUM_EXP, answer.log_sum_exp(), message.mutable_acceptance());
  }
  message.mutable_acceptance()->set_maps(static_cast<std::uint64_t>(answer.maps_size()));
  stream->Write(message);
  message.mutable_progress()->set_all_tiles(7);
  stream->Write(message);
  WriteChunks(v1::STREAMED_TENSOR_OUTPUT, answer.output(), loses, *stream);
  if (answer.has_log_sum_exp()) WriteChunks(v1::STREAMED_TENSOR_LOG_SUM_EXP, answer.log_sum_exp(), loses, *stream);
  for (int i = 0; i < answer.maps_size(); ++i) WriteMap(static_cast<std::uint64_t>(i), answer.maps(i), *stream);
  *message.mutable_end()->mutable_execution() = answer.execution();
  stream->Write(message);
  return grpc::Status::OK;
}

grpc::Status FakeServer::Attend(grpc::ServerContext* context, const v1::AttendRequest* request,
                                v1::AttendResponse* response) {
  if (grpc::Status status = Begin(context); !status.ok()) return status;
  const std::lock_guard lock(mutex_);
  last_attend_ = *request;
  if (!answers_.empty()) {
    *response = std::move(answers_.front());
    answers_.pop_front();
    return grpc::Status::OK;
  }
  const std::int64_t tokens = TokensOf(*request);
  const v1::OutputSelection& outputs = request->outputs();
  if (!outputs.omit_output()) {
    const v1::SelfAttention& self = request->self_attention();
    *response->mutable_output() = request->has_query_key_value() ? request->query_key_value().query()
                                  : self.has_embeddings()        ? self.embeddings()
                                                                 : TensorOf(std::vector<float>(2), {1, 2});
  }
  const auto count = static_cast<std::size_t>(tokens * 2);
  if (outputs.log_sum_exp()) *response->mutable_log_sum_exp() = TensorOf(std::vector<float>(count), {1, 2, tokens});
  if (outputs.head_outputs()) {
    *response->mutable_head_outputs() = TensorOf(std::vector<float>(count * 3), {1, 2, tokens, 3});
  }
  for (int i = 0; i < outputs.maps_size(); ++i) {
    const auto& asked = outputs.maps(i).heads();
    const std::vector<std::uint32_t> heads =
        asked.empty() ? std::vector<std::uint32_t>{0, 1} : std::vector<std::uint32_t>(asked.begin(), asked.end());
    for (const std::uint32_t head : heads) {
      AddMap(static_cast<std::uint32_t>(i), head, tokens, outputs.maps(i), response);
    }
  }
  if (outputs.head_statistics()) AddStatistics(response);
  *response->mutable_execution() = ExecutionOf(v1::ALGORITHM_FLASH);
  if (outputs.verify_rows() > 0) {
    response->mutable_execution()->mutable_verification()->set_rows(outputs.verify_rows());
    response->mutable_execution()->mutable_verification()->set_max_abs_error(2.5e-7);
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::PlanAttention(grpc::ServerContext* context, const v1::PlanAttentionRequest* request,
                                       v1::PlanAttentionResponse* response) {
  if (grpc::Status status = Begin(context); !status.ok()) return status;
  const std::lock_guard lock(mutex_);
  last_plan_ = *request;
  response->set_algorithm(v1::ALGORITHM_FLASH);
  response->set_reason("the grid is large");
  response->set_flops(5'000'000'000);
  response->set_projection_flops(1'000'000'000);
  response->set_naive_bytes(130 << 20);
  response->set_flash_bytes(6 << 20);
  response->set_score_grid_bytes(128 << 20);
  response->set_response_bytes(3 << 20);
  response->set_admission(v1::ADMISSION_FORECAST_UNKNOWN);
  response->set_query_heads(8);
  response->set_key_value_heads(2);
  response->set_head_size(64);
  response->set_value_head_size(32);
  v1::PlanViolation* violation = response->add_violations();
  violation->set_field("query_key_value.query.shape");
  violation->set_got("70000 tokens");
  violation->set_expected("at most 65536");
  return grpc::Status::OK;
}

grpc::Status FakeServer::CompareAlgorithms(grpc::ServerContext* context, const v1::CompareAlgorithmsRequest* request,
                                           v1::CompareAlgorithmsResponse* response) {
  if (grpc::Status status = Begin(context); !status.ok()) return status;
  const std::lock_guard lock(mutex_);
  last_compare_ = *request;
  *response->mutable_naive() = ExecutionOf(v1::ALGORITHM_NAIVE);
  *response->mutable_flash() = ExecutionOf(v1::ALGORITHM_FLASH);
  response->mutable_reference()->set_rows(32);
  response->mutable_reference()->set_rows_total(64);
  response->mutable_reference()->mutable_total()->set_seconds(2);
  response->mutable_reference()->set_flops(2'000'000'000);
  response->mutable_reference()->set_workspace_bytes(1 << 20);
  for (v1::Difference* difference :
       {response->mutable_naive_flash(), response->mutable_naive_reference(), response->mutable_flash_reference()}) {
    difference->set_max_abs_difference(1.25e-6);
    difference->set_mean_abs_difference(3e-8);
    for (const std::int64_t index : {0, 3, 17, 5}) difference->add_index(index);
    difference->set_rows_compared(32);
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetDemo(grpc::ServerContext* context, const v1::GetDemoRequest*,
                                 v1::GetDemoResponse* response) {
  if (grpc::Status status = Begin(context); !status.ok()) return status;
  response->set_layer("demo");
  for (const char* word : {"she", "slept", "because", "it", "rained"}) response->add_tokens(word);
  *response->mutable_embeddings() = TensorOf(std::vector<float>(10, 0.5F), {5, 2});
  response->add_head_descriptions("one step back");
  response->add_head_descriptions("from the end");
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetServerInfo(grpc::ServerContext* context, const v1::GetServerInfoRequest*,
                                       v1::GetServerInfoResponse* response) {
  if (grpc::Status status = Begin(context); !status.ok()) return status;
  response->set_version("9.8.7");
  response->set_cpu_target("avx2");
  response->add_available_cpu_targets("avx2");
  response->add_available_cpu_targets("baseline");
  (*response->mutable_library_versions())["oneDNN"] = "2.6.0";
  response->set_threads(4);
  v1::Limit* limit = response->add_limits();
  limit->set_name("max_receive_bytes");
  limit->set_value(128 << 20);
  response->add_layers("demo");
  return grpc::Status::OK;
}

}  // namespace headlight::testing
