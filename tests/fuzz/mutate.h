// Mutations that know the messages: Debian has no libprotobuf-mutator.
#ifndef HEADLIGHT_TESTS_FUZZ_MUTATE_H_
#define HEADLIGHT_TESTS_FUZZ_MUTATE_H_

#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

namespace headlight::fuzz {

// Changes something in the message: a field of it or of a message within, or a size in all shapes where it stands.
// Mostly makes the data of tensors fit their shapes again, and their numbers small, so that most inputs get past the
// first checks. The same seed does the same.
void Mutate(std::uint32_t seed, google::protobuf::Message& message);

// Puts a part of `other` in the place of a part of `message` of the same type, if there is one.
void CrossOver(std::uint32_t seed, const google::protobuf::Message& other, google::protobuf::Message& message);

// Makes `bytes` those of so many elements of this width: what is there stays as far as it can, numbers have magnitudes
// below 2, and booleans are 0 or 1.
void FitBytes(std::mt19937& random, std::int64_t count, std::size_t width, std::string& bytes);

}  // namespace headlight::fuzz

#endif  // HEADLIGHT_TESTS_FUZZ_MUTATE_H_
