#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "headlight/v1/layer_service.grpc.pb.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

// Takes every file whole, but the first few at their header, with UNAVAILABLE: as a server that drains.
class FakeLayers final : public v1::LayerService::Service {
 public:
  explicit FakeLayers(int refused) : refused_(refused) {}

  grpc::Status UploadLayer(grpc::ServerContext* /*context*/, grpc::ServerReader<v1::UploadLayerRequest>* reader,
                           v1::UploadLayerResponse* response) override {
    v1::UploadLayerRequest message;
    if (reader->Read(&message) && refused_-- > 0) return {grpc::StatusCode::UNAVAILABLE, "draining"};
    std::string file;
    while (reader->Read(&message)) file += message.chunk();
    response->set_id(file);
    return grpc::Status::OK;
  }

 private:
  int refused_;
};

struct Uploaded {
  absl::StatusOr<v1::UploadLayerResponse> answer;
  std::uint64_t told = 0;  // that were sent
};

Uploaded Upload(const Client& client, const std::string& file) {
  v1::UploadLayerHeader header;
  header.set_total_bytes(file.size());
  Uploaded uploaded;
  uploaded.answer = client.UploadLayer(
      header,
      [&file](std::uint64_t offset, std::size_t most) -> absl::StatusOr<std::string> {
        return file.substr(static_cast<std::size_t>(offset), most);
      },
      [&uploaded](std::uint64_t sent) { uploaded.told = sent; });
  return uploaded;
}

// Of three chunks, the last one short. ASCII: it comes back as a text.
std::string File() {
  std::string file((std::size_t{2} << 20) + 5, '\0');
  std::generate(file.begin(), file.end(), [next = 0]() mutable { return static_cast<char>('a' + next++ % 23); });
  return file;
}

void ExpectArrivesAfter(int refused) {
  FakeLayers layers(refused);
  const testing::FakeServer server({&layers});
  const auto client = *Client::Create({.address = server.address()});
  const Uploaded uploaded = Upload(*client, File());
  ASSERT_TRUE(uploaded.answer.ok()) << uploaded.answer.status();
  EXPECT_TRUE(uploaded.answer->id() == File());
  EXPECT_EQ(uploaded.told, File().size());
}

TEST(Uploads, AFileArrivesWhole) { ExpectArrivesAfter(0); }
TEST(Uploads, BeginAnewWhereTheServerWasUnavailable) { ExpectArrivesAfter(2); }

TEST(Uploads, AFileThatCannotBeReadEndsIt) {
  FakeLayers layers(0);
  const testing::FakeServer server({&layers});
  const auto client = *Client::Create({.address = server.address()});
  const auto answer = client->UploadLayer(
      {}, [](std::uint64_t, std::size_t) { return absl::UnknownError("no such block"); }, [](std::uint64_t) {});
  EXPECT_EQ(answer.status(), absl::UnknownError("no such block"));
}

}  // namespace
}  // namespace headlight::client
