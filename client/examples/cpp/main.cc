// Sends golden requests to a Headlight server and compares its answers: attend ADDRESS FILE...
// The client library sets what docs/clients.md recommends: limits, service config, retries.
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "client/cpp/client.h"
#include "client/cpp/errors.h"
#include "client/cpp/tensors.h"

namespace hl = headlight::client;
namespace v1 = headlight::v1;

template <typename Message>
Message FromJson(const nlohmann::json& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json.dump(), &message);
  if (!status.ok()) throw std::runtime_error(status.ToString());
  return message;
}

std::vector<v1::Tensor> TensorsOf(const v1::AttendResponse& answer) {
  std::vector<v1::Tensor> tensors;
  if (answer.has_output()) tensors.push_back(answer.output());
  if (answer.has_log_sum_exp()) tensors.push_back(answer.log_sum_exp());
  if (answer.has_head_outputs()) tensors.push_back(answer.head_outputs());
  for (const v1::WeightMap& map : answer.maps()) tensors.push_back(map.weights());
  return tensors;
}

bool IsClose(const v1::Tensor& got, const v1::Tensor& want, double tolerance) {
  if (!std::equal(got.shape().begin(), got.shape().end(), want.shape().begin(), want.shape().end())) return false;
  const std::vector<float> a = *hl::FloatsOf(got), b = *hl::FloatsOf(want);
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [tolerance](float x, float y) { return x == y || std::abs(x - y) <= tolerance; });
}

bool IsAnswered(const v1::AttendResponse& answer, const nlohmann::json& golden) {
  const auto got = TensorsOf(answer), want = TensorsOf(FromJson<v1::AttendResponse>(golden.at("expected")));
  const double tolerance = golden.at("tolerance");
  std::cout << answer.execution().cpu_target() << ", " << got.size() << " tensors, the first begins with "
            << hl::FloatsOf(got.at(0))->at(0) << "\n";
  return std::equal(got.begin(), got.end(), want.begin(), want.end(),
                    [tolerance](const auto& a, const auto& b) { return IsClose(a, b, tolerance); });
}

bool IsRefused(const absl::Status& status, const nlohmann::json& error) {
  std::cout << status << "\n";
  std::vector<std::string> fields;
  for (const auto& violation : hl::DetailsOf(status).violations) fields.push_back(violation.field);
  return error.at("code") == absl::StatusCodeToString(status.code()) && error.at("fields") == fields;
}

// The library sends chunks of 1 MiB and puts the answer together. Attend does so by itself where it must.
bool IsStreamedAlike(const hl::Client& client, const v1::AttendRequest& request, const v1::AttendResponse& whole) {
  const auto answer = client.AttendStream(request);
  if (!answer.ok()) return IsRefused(answer.status(), {{"code", "OK"}, {"fields", {}}});
  const bool same = answer->output().f32_le() == whole.output().f32_le();
  std::cout << "streamed, the same bits: " << std::boolalpha << same << "\n";
  return same;
}

bool Check(const hl::Client& client, const char* file) {
  const auto golden = nlohmann::json::parse(std::ifstream(file));
  const auto request = FromJson<v1::AttendRequest>(golden.at("request"));
  const auto answer = client.Attend(request);
  const std::string name = golden.at("name").get<std::string>() + ": ";
  std::cout << name;
  if (!answer.ok()) {
    return IsRefused(answer.status(), golden.value("error", nlohmann::json{{"code", "OK"}, {"fields", {}}}));
  }
  const bool good = golden.contains("expected") && IsAnswered(*answer, golden);
  if (!good || !request.query_key_value().query().has_f32_le()) return good;
  std::cout << name;  // the golden whose Q, K and V are bytes
  return IsStreamedAlike(client, request, *answer);
}

int main(int argc, char** argv) {
  const auto client = hl::Client::Create({.address = argc > 1 ? argv[1] : "", .deadline = absl::Seconds(10)});
  if (!client.ok()) {
    std::cerr << client.status() << "\n";
    return 2;
  }
  int passed = 0;
  for (int i = 2; i < argc; ++i) passed += Check(**client, argv[i]) ? 1 : 0;
  const bool good = passed == argc - 2 && passed > 0;
  std::cout << "golden check " << (good ? "passed" : "failed") << ": " << passed << " of " << argc - 2 << "\n";
  return good ? 0 : 1;
}
