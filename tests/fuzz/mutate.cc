#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "headlight/v1/attention_service.pb.h"
#include "server/base/tensor.h"

namespace headlight::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::int64_t kInt64s[] = {0,
                                    1,
                                    2,
                                    3,
                                    4,
                                    5,
                                    6,
                                    7,
                                    8,
                                    15,
                                    16,
                                    17,
                                    31,
                                    32,
                                    33,
                                    64,
                                    65,
                                    127,
                                    128,
                                    129,
                                    511,
                                    512,
                                    513,
                                    1023,
                                    1024,
                                    1025,
                                    16384,
                                    16385,
                                    262'144,
                                    -1,
                                    -16,
                                    8192,
                                    2147483647,
                                    2147483648,
                                    -2147483648,
                                    4294967295,
                                    std::numeric_limits<std::int64_t>::max(),
                                    std::numeric_limits<std::int64_t>::min()};
constexpr double kDoubles[] = {0,     1,    -1,     0.5,   2,     4,     8,        30,        500, 10000,
                               1e-30, 1e30, 1e-310, 1e308, -1e38, 1e-45, INFINITY, -INFINITY, NAN};

// The largest tensor that gets data: larger ones are for the checks of shapes alone.
constexpr std::int64_t kMostElements = 4096;

class Mutation {
 public:
  explicit Mutation(std::uint32_t seed) : random_(seed) {}

  void Mutate(Message& message) {
    do {
      OneIn(6) ? ChangeSize(message) : ChangeField(*OneOf(MessagesIn(message)));
    } while (OneIn(3));
    if (!OneIn(8)) Repair(message);
  }

  void CrossOver(const Message& other, Message& message) {
    // Collected through a pointer that may change them, changed not.
    const Message* from = OneOf(MessagesIn(const_cast<Message&>(other)));
    std::vector<Message*> places;
    for (Message* place : MessagesIn(message)) {
      if (place->GetDescriptor() == from->GetDescriptor()) places.push_back(place);
    }
    if (!places.empty()) OneOf(places)->CopyFrom(*from);
  }

 private:
  std::size_t Below(std::size_t n) { return random_() % n; }
  bool OneIn(std::size_t n) { return Below(n) == 0; }
  template <typename Container>
  std::decay_t<decltype(*std::begin(std::declval<const Container&>()))> OneOf(const Container& values) {
    return *(std::begin(values) + static_cast<std::ptrdiff_t>(Below(std::size(values))));
  }

  std::int64_t Integer() { return OneIn(2) ? static_cast<std::int64_t>(Below(9)) : OneOf(kInt64s); }
  double Number() { return OneIn(3) ? OneOf(kDoubles) : static_cast<double>(Below(4001)) / 1000 - 2; }

  // The message itself and all that are set within.
  static std::vector<Message*> MessagesIn(Message& message) {
    std::vector<Message*> found{&message};
    for (std::size_t i = 0; i < found.size(); ++i) {
      Message* from = found[i];
      const Reflection& r = *from->GetReflection();
      std::vector<const FieldDescriptor*> fields;
      r.ListFields(*from, &fields);
      for (const FieldDescriptor* field : fields) {
        if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
        if (!field->is_repeated()) found.push_back(r.MutableMessage(from, field));
        for (int at = 0; field->is_repeated() && at < r.FieldSize(*from, field); ++at) {
          found.push_back(r.MutableRepeatedMessage(from, field, at));
        }
      }
    }
    return found;
  }

  static std::vector<v1::Tensor*> TensorsIn(Message& message) {
    std::vector<v1::Tensor*> tensors;
    for (Message* each : MessagesIn(message)) {
      if (each->GetDescriptor() == v1::Tensor::descriptor()) tensors.push_back(static_cast<v1::Tensor*>(each));
    }
    return tensors;
  }

  void ChangeField(Message& message) {
    const google::protobuf::Descriptor& type = *message.GetDescriptor();
    if (type.field_count() == 0) return;
    const FieldDescriptor* field = type.field(static_cast<int>(Below(static_cast<std::size_t>(type.field_count()))));
    const Reflection& r = *message.GetReflection();
    if (field->is_repeated()) return ChangeList(r, message, field);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      OneIn(4) ? r.ClearField(&message, field) : ChangeField(*r.MutableMessage(&message, field));
    } else {
      OneIn(8) ? r.ClearField(&message, field) : Set(r, message, field);
    }
  }

  void ChangeList(const Reflection& r, Message& message, const FieldDescriptor* field) {
    const int size = r.FieldSize(message, field);
    const int at = size == 0 ? 0 : static_cast<int>(Below(static_cast<std::size_t>(size)));
    switch (Below(4)) {
      case 0:
        if (size > 0) r.RemoveLast(&message, field);
        break;
      case 1:
        if (size > 0) r.SwapElements(&message, field, at, size - 1);
        break;
      case 2:
        for (int more = OneIn(8) ? 70 : 1 + static_cast<int>(Below(4)); more > 0; --more) Add(r, message, field);
        break;
      default:
        if (size == 0) return Add(r, message, field);
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          return ChangeField(*r.MutableRepeatedMessage(&message, field, at));
        }
        Add(r, message, field);
        r.SwapElements(&message, field, at, size);
        r.RemoveLast(&message, field);
    }
  }

  void Set(const Reflection& r, Message& message, const FieldDescriptor* field) {
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32: return r.SetInt32(&message, field, static_cast<std::int32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_INT64: return r.SetInt64(&message, field, Integer());
      case FieldDescriptor::CPPTYPE_UINT32: return r.SetUInt32(&message, field, static_cast<std::uint32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_UINT64: return r.SetUInt64(&message, field, static_cast<std::uint64_t>(Integer()));
      case FieldDescriptor::CPPTYPE_DOUBLE: return r.SetDouble(&message, field, Number());
      case FieldDescriptor::CPPTYPE_FLOAT: return r.SetFloat(&message, field, static_cast<float>(Number()));
      case FieldDescriptor::CPPTYPE_BOOL: return r.SetBool(&message, field, OneIn(2));
      case FieldDescriptor::CPPTYPE_ENUM: return r.SetEnumValue(&message, field, Choice());
      case FieldDescriptor::CPPTYPE_STRING: return r.SetString(&message, field, Text());
      case FieldDescriptor::CPPTYPE_MESSAGE: ChangeField(*r.MutableMessage(&message, field));
    }
  }

  void Add(const Reflection& r, Message& message, const FieldDescriptor* field) {
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32: return r.AddInt32(&message, field, static_cast<std::int32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_INT64: return r.AddInt64(&message, field, Integer());
      case FieldDescriptor::CPPTYPE_UINT32: return r.AddUInt32(&message, field, static_cast<std::uint32_t>(Integer()));
      case FieldDescriptor::CPPTYPE_UINT64: return r.AddUInt64(&message, field, static_cast<std::uint64_t>(Integer()));
      case FieldDescriptor::CPPTYPE_DOUBLE: return r.AddDouble(&message, field, Number());
      case FieldDescriptor::CPPTYPE_FLOAT: return r.AddFloat(&message, field, static_cast<float>(Number()));
      case FieldDescriptor::CPPTYPE_BOOL: return r.AddBool(&message, field, OneIn(2));
      case FieldDescriptor::CPPTYPE_ENUM: return r.AddEnumValue(&message, field, Choice());
      case FieldDescriptor::CPPTYPE_STRING: return r.AddString(&message, field, Text());
      case FieldDescriptor::CPPTYPE_MESSAGE: ChangeField(*r.AddMessage(&message, field));
    }
  }

  int Choice() { return OneIn(16) ? static_cast<int>(Integer()) : static_cast<int>(Below(5)); }
  // UTF-8, or the message could not be read.
  std::string Text() {
    return OneIn(2) ? "demo" : std::string(static_cast<std::size_t>(Below(130)), static_cast<char>(Below(128)));
  }

  // Replaces a size wherever a shape has it, so that shapes that belong together still do.
  void ChangeSize(Message& message) {
    std::vector<google::protobuf::RepeatedField<std::int64_t>*> shapes;
    std::vector<std::int64_t> sizes;
    for (Message* each : MessagesIn(message)) {
      google::protobuf::RepeatedField<std::int64_t>* shape = nullptr;
      if (each->GetDescriptor() == v1::Tensor::descriptor()) shape = static_cast<v1::Tensor*>(each)->mutable_shape();
      if (each->GetDescriptor() == v1::TensorSpec::descriptor()) {
        shape = static_cast<v1::TensorSpec*>(each)->mutable_shape();
      }
      if (shape == nullptr) continue;
      shapes.push_back(shape);
      sizes.insert(sizes.end(), shape->begin(), shape->end());
    }
    if (sizes.empty()) return;
    const std::int64_t from = OneOf(sizes);
    const std::int64_t to = OneIn(2) ? 1 + static_cast<std::int64_t>(Below(40)) : Integer();
    for (auto* shape : shapes) std::replace(shape->begin(), shape->end(), from, to);
  }

  // Gives tensors the bytes that their shapes ask for.
  void Repair(Message& message) {
    for (v1::Tensor* tensor : TensorsIn(message)) {
      const std::int64_t count = ElementCount({tensor->shape().begin(), tensor->shape().end()}).value_or(0);
      if (count <= 0 || count > kMostElements) continue;
      switch (tensor->data_case()) {
        case v1::Tensor::DATA_NOT_SET:
        case v1::Tensor::kF32Le: FitBytes(random_, count, 4, *tensor->mutable_f32_le()); break;
        case v1::Tensor::kF16Le: FitBytes(random_, count, 2, *tensor->mutable_f16_le()); break;
        case v1::Tensor::kBf16Le: FitBytes(random_, count, 2, *tensor->mutable_bf16_le()); break;
        case v1::Tensor::kBoolU8: FitBytes(random_, count, 1, *tensor->mutable_bool_u8()); break;
        case v1::Tensor::kF32Values:
          auto& values = *tensor->mutable_f32_values()->mutable_values();
          values.Resize(static_cast<int>(count), 0.5F);
          break;
      }
    }
  }

  std::mt19937 random_;
};

}  // namespace

// The highest bit of every exponent is the same one of an element's last byte.
void FitBytes(std::mt19937& random, std::int64_t count, std::size_t width, std::string& bytes) {
  const std::size_t before = bytes.size();
  bytes.resize(static_cast<std::size_t>(count) * width);
  for (std::size_t i = before; i < bytes.size(); ++i) bytes[i] = static_cast<char>(random());
  for (std::size_t i = width - 1; i < bytes.size(); i += width) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (width == 1) bytes[i] = static_cast<char>(byte & 1);
    // Sign as it is; exponents from 2^-15 where the bytes are new.
    if (width > 1) bytes[i] = static_cast<char>(i < before ? byte & 0xbf : (byte & 0x87) | 0x38);
  }
}

void Mutate(std::uint32_t seed, Message& message) { Mutation(seed).Mutate(message); }

void CrossOver(std::uint32_t seed, const Message& other, Message& message) { Mutation(seed).CrossOver(other, message); }

}  // namespace headlight::fuzz
