// Asks a server how causal attention over random Q, K and V looks: example [HOST:PORT].
#include <iostream>
#include <random>
#include <vector>

#include "client/cpp/client.h"
#include "client/cpp/errors.h"
#include "client/cpp/tensors.h"

namespace hl = headlight::client;
namespace v1 = headlight::v1;

// [1, heads, tokens, size], normally distributed.
v1::Tensor RandomTensor(std::mt19937& random, std::int64_t heads, std::int64_t tokens, std::int64_t size) {
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(heads * tokens * size));
  for (float& value : values) value = normal(random);
  return hl::MakeTensor(values, {1, heads, tokens, size}, v1::TENSOR_KIND_F32).value();
}

int main(int argc, char** argv) {
  hl::ClientOptions options;
  if (argc > 1) options.address = argv[1];
  const auto client = hl::Client::Create(options);
  if (!client.ok()) {
    std::cerr << client.status() << '\n';
    return 2;
  }
  std::mt19937 random(7);
  v1::AttendRequest request;
  *request.mutable_query_key_value()->mutable_query() = RandomTensor(random, 8, 32, 64);
  *request.mutable_query_key_value()->mutable_key() = RandomTensor(random, 2, 32, 64);
  *request.mutable_query_key_value()->mutable_value() = RandomTensor(random, 2, 32, 64);
  request.mutable_options()->mutable_mask()->mutable_causal()->set_alignment(v1::CAUSAL_ALIGNMENT_TOP_LEFT);
  request.mutable_outputs()->add_maps()->mutable_top_keys()->set_k(1);
  const auto answer = (*client)->Attend(request);
  if (!answer.ok()) {
    std::cerr << answer.status().message() << '\n';
    for (const hl::Violation& violation : hl::DetailsOf(answer.status()).violations) {
      std::cerr << violation.field << ": " << violation.description << '\n';
    }
    return 1;
  }
  const auto& top = answer->maps(0).top_keys();
  std::cout << "the last of " << top.counts_size() << " tokens attends most to key " << *top.keys().rbegin() << " ("
            << *top.weights().rbegin() << ")\n";
}
