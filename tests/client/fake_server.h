// A server that answers the contract without computing attention, and fails on request: what tests of clients need.
#ifndef HEADLIGHT_TESTS_CLIENT_FAKE_SERVER_H_
#define HEADLIGHT_TESTS_CLIENT_FAKE_SERVER_H_

#include <google/protobuf/message.h>
#include <grpcpp/server.h>

#include <deque>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "headlight/v1/attention_service.grpc.pb.h"

namespace headlight::testing {

// A status with google.rpc details.
grpc::Status DetailedStatus(grpc::StatusCode code, const std::string& message,
                            std::initializer_list<const google::protobuf::Message*> details);

// Listens on a free port of the loopback while it lives. Thread-safe.
//
// Attend gives the query (or the embeddings, or [1, 2] zeros) back as the output, zeros as log-sum-exp and head outputs
// [1, 2, T, 3], and maps whose row r gives 0.80 to key r - 1 (row 0: to key 0) and shares the rest among the others;
// head 1 is turned around, from key T - 1 - r on. Top keys are the first of each row alone, column sums those of such
// maps, and cell i of a pooled map is i. Statistics and verification are fixed, and so is the plan. AttendStream puts
// an AttendRequest of Q, K and V together and gives what Attend gives: chunks of one row, the last first, maps row by
// row.
class FakeServer final : public v1::AttentionService::Service {
 public:
  // With further services of the contract, which outlive it.
  explicit FakeServer(std::initializer_list<grpc::Service*> others = {});
  ~FakeServer() override;

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

  // The next calls fail so, in this order. A pushback that is not empty goes out as grpc-retry-pushback-ms.
  void FailNext(grpc::Status status, std::string pushback = "");

  // What AttendStream gives, query and log-sum-exp too, comes without its last chunk from now on.
  void LoseChunks();

  // The next answer to Attend.
  void AnswerNext(v1::AttendResponse response);

  void SetServing(bool serving);

  // Calls of AttentionService so far, failed ones included.
  int calls() const;
  // The metadata "authorization" of the last of them, all values; empty where it had none.
  std::vector<std::string> last_authorization() const;
  v1::AttendRequest last_attend() const;
  v1::PlanAttentionRequest last_plan() const;
  v1::CompareAlgorithmsRequest last_compare() const;

  grpc::Status Attend(grpc::ServerContext* context, const v1::AttendRequest* request,
                      v1::AttendResponse* response) override;
  grpc::Status AttendStream(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::AttendStreamResponse, v1::AttendStreamRequest>* stream) override;
  grpc::Status PlanAttention(grpc::ServerContext* context, const v1::PlanAttentionRequest* request,
                             v1::PlanAttentionResponse* response) override;
  grpc::Status CompareAlgorithms(grpc::ServerContext* context, const v1::CompareAlgorithmsRequest* request,
                                 v1::CompareAlgorithmsResponse* response) override;
  grpc::Status GetDemo(grpc::ServerContext* context, const v1::GetDemoRequest* request,
                       v1::GetDemoResponse* response) override;
  grpc::Status GetServerInfo(grpc::ServerContext* context, const v1::GetServerInfoRequest* request,
                             v1::GetServerInfoResponse* response) override;

 private:
  struct Failure {
    grpc::Status status;
    std::string pushback;
  };

  // Counts a call and takes the failure that is its turn, OK where there is none.
  grpc::Status Begin(grpc::ServerContext* context);

  mutable std::mutex mutex_;
  int calls_ = 0;
  bool loses_chunks_ = false;
  std::vector<std::string> last_authorization_;
  std::deque<Failure> failures_;
  std::deque<v1::AttendResponse> answers_;
  v1::AttendRequest last_attend_;
  v1::PlanAttentionRequest last_plan_;
  v1::CompareAlgorithmsRequest last_compare_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_FAKE_SERVER_H_
