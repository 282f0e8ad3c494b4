// libFuzzer's hooks: mostly messages are changed as messages, sometimes as bytes.
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/mutate.h"

namespace headlight::fuzz {
namespace {

using google::protobuf::Message;

// Null where the bytes are no message.
std::unique_ptr<Message> Parse(const std::uint8_t* data, std::size_t size) {
  const google::protobuf::LogSilencer silencer;
  std::unique_ptr<Message> message(Prototype().New());
  if (!message->ParseFromArray(data, static_cast<int>(size))) return nullptr;
  return message;
}

// The bytes written, 0 where they do not fit.
std::size_t Write(const Message& message, std::uint8_t* out, std::size_t most) {
  const std::size_t size = message.ByteSizeLong();
  return size <= most && message.SerializeToArray(out, static_cast<int>(most)) ? size : 0;
}

}  // namespace
}  // namespace headlight::fuzz

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned int seed) {
  constexpr unsigned int kBytesOneIn = 16;
  const auto message = headlight::fuzz::Parse(data, size);
  if (message == nullptr || seed % kBytesOneIn == 0) return LLVMFuzzerMutate(data, size, most);
  headlight::fuzz::Mutate(seed, *message);
  const std::size_t written = headlight::fuzz::Write(*message, data, most);
  return written > 0 ? written : LLVMFuzzerMutate(data, size, most);
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* a, std::size_t a_size, const std::uint8_t* b,
                                                 std::size_t b_size, std::uint8_t* out, std::size_t most,
                                                 unsigned int seed) {
  const auto message = headlight::fuzz::Parse(a, a_size);
  const auto other = headlight::fuzz::Parse(b, b_size);
  if (message == nullptr || other == nullptr) return 0;
  headlight::fuzz::CrossOver(seed, *other, *message);
  return headlight::fuzz::Write(*message, out, most);
}
