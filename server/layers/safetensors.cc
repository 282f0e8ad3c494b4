#include "server/layers/safetensors.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/errors.h"

namespace headlight {
namespace {

constexpr std::size_t kLengthBytes = 8;

// Bits of one element, for every kind that the format has.
const std::map<std::string, std::int64_t>& BitsByDtype() {
  static const auto& bits = *new std::map<std::string, std::int64_t>{
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
      {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16}, {"BF16", 16}, {"I32", 32},
      {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},    {"I64", 64}, {"U64", 64}};
  return bits;
}

std::optional<TensorKind> KindOf(const std::string& dtype) {
  if (dtype == "F32") return TensorKind::kF32;
  if (dtype == "F16") return TensorKind::kF16;
  if (dtype == "BF16") return TensorKind::kBF16;
  return std::nullopt;
}

// One entry of the header, as it stands there.
struct Entry {
  std::string dtype;
  Shape shape, offsets;
  std::set<std::string> fields;
};

// Takes the header's JSON apart as it is read. What has another form than {NAME: {"dtype": text, "shape": [numbers],
// "data_offsets": [numbers]}, "__metadata__": {text: text}} ends the reading at once, so that nothing is nested deeper
// than three levels and nothing unknown is kept.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(Violations& violations) : violations_(violations) {}

  std::map<std::string, Entry>& entries() { return entries_; }
  std::map<std::string, std::string>& metadata() { return metadata_; }

  bool start_object(std::size_t /*elements*/) override {
    if (place_ == Place::kBegin) return Go(Place::kTop);
    if (place_ != Place::kTop) return Unexpected("an object");
    return Go(in_metadata_ ? Place::kMetadata : Place::kTensor);
  }

  bool key(string_t& name) override {
    if (place_ == Place::kMetadata) {
      metadata_key_ = name;
      return metadata_.count(name) == 0 || Twice(absl::StrCat("header.__metadata__[\"", name, "\"]"));
    }
    if (place_ == Place::kTensor) {
      field_ = name;
      if (name != "dtype" && name != "shape" && name != "data_offsets") {
        return Refuse(TensorPath(name_), absl::StrCat("a field \"", name, "\""), "dtype, shape and data_offsets");
      }
      return entry_->fields.insert(name).second || Twice(TensorPath(name_, absl::StrCat(".", name)));
    }
    name_ = name;
    in_metadata_ = name == "__metadata__";
    if (in_metadata_) return !std::exchange(has_metadata_, true) || Twice("header.__metadata__");
    if (static_cast<std::int64_t>(entries_.size()) >= kMostTensors) {
      return Refuse("header", "more tensors", absl::StrCat("at most ", kMostTensors));
    }
    const auto [at, is_new] = entries_.try_emplace(name);
    entry_ = &at->second;
    return is_new || Twice(TensorPath(name));
  }

  bool end_object() override {
    if (place_ == Place::kTop) return Go(Place::kEnd);
    return Go(Place::kTop);
  }

  bool start_array(std::size_t /*elements*/) override {
    if (place_ != Place::kTensor || field_ == "dtype") return Unexpected("an array");
    return Go(Place::kNumbers);
  }

  bool end_array() override { return Go(Place::kTensor); }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      metadata_.emplace(metadata_key_, std::move(text));
      return true;
    }
    if (place_ != Place::kTensor || field_ != "dtype") return Unexpected("a text");
    entry_->dtype = std::move(text);
    return true;
  }

  bool number_unsigned(number_unsigned_t number) override {
    if (place_ != Place::kNumbers) return Unexpected("a number");
    Shape& numbers = field_ == "shape" ? entry_->shape : entry_->offsets;
    constexpr number_unsigned_t kMost = number_unsigned_t{1} << 62;
    if (number > kMost) return Refuse(Field(), absl::StrCat(number), "at most 2^62");
    if (static_cast<std::int64_t>(numbers.size()) == (field_ == "shape" ? kMostRank : 2)) {
      return Refuse(Field(), "more numbers", field_ == "shape" ? absl::StrCat("at most ", kMostRank, " axes") : "two");
    }
    numbers.push_back(static_cast<std::int64_t>(number));
    return true;
  }

  bool number_integer(number_integer_t number) override { return Unexpected(absl::StrCat(number)); }
  bool number_float(number_float_t /*number*/, const string_t& text) override { return Unexpected(text); }
  bool null() override { return Unexpected("null"); }
  bool boolean(bool value) override { return Unexpected(value ? "true" : "false"); }
  bool binary(binary_t& /*bytes*/) override { return Unexpected("bytes"); }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return Refuse("header", absl::StrCat("no JSON at byte ", position), "a JSON object, padded with spaces");
  }

 private:
  enum class Place : std::uint8_t { kBegin, kTop, kMetadata, kTensor, kNumbers, kEnd };

  bool Go(Place place) {
    place_ = place;
    return true;
  }
  bool Refuse(std::string field, std::string got, std::string expected) {
    violations_.Add(std::move(field), std::move(got), std::move(expected));
    return false;
  }
  bool Twice(std::string field) { return Refuse(std::move(field), "the same name twice", "one of each name"); }
  bool Unexpected(std::string got) {
    switch (place_) {
      case Place::kBegin:
      case Place::kEnd: return Refuse("header", std::move(got), "a JSON object");
      case Place::kTop:
        return Refuse(in_metadata_ ? "header.__metadata__" : TensorPath(name_), std::move(got), "an object");
      case Place::kMetadata:
        return Refuse(absl::StrCat("header.__metadata__[\"", metadata_key_, "\"]"), std::move(got), "a text");
      case Place::kTensor: return Refuse(Field(), std::move(got), field_ == "dtype" ? "a text" : "an array");
      case Place::kNumbers: return Refuse(Field(), std::move(got), "whole numbers from 0");
    }
    return false;
  }
  std::string Field() const { return TensorPath(name_, absl::StrCat(".", field_)); }

  Violations& violations_;
  Place place_ = Place::kBegin;
  std::string name_, field_, metadata_key_;
  bool in_metadata_ = false, has_metadata_ = false;
  Entry* entry_ = nullptr;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Whether so many bytes are what dtype and shape say.
bool CheckSize(const std::string& name, const Entry& entry, Violations& violations) {
  const auto bits = BitsByDtype().find(entry.dtype);
  if (bits == BitsByDtype().end()) {
    violations.Add(TensorPath(name, ".dtype"), entry.dtype, "a kind of number that safetensors has");
    return false;
  }
  const std::optional<std::int64_t> count = ElementCount(entry.shape);
  std::int64_t all_bits = 0;
  if (!count.has_value() || __builtin_mul_overflow(*count, bits->second, &all_bits)) {
    violations.Add(TensorPath(name, ".shape"), ToString(entry.shape), "no more elements than fit 2^62 bits");
    return false;
  }
  const std::int64_t bytes = entry.offsets[1] - entry.offsets[0];
  if (all_bits % 8 == 0 && bytes == all_bits / 8) return true;
  violations.Add(TensorPath(name, ".data_offsets"), absl::StrCat(bytes, " bytes"),
                 absl::StrCat(all_bits / 8, " bytes, as ", entry.dtype, " ", ToString(entry.shape), " has"));
  return false;
}

bool CheckEntry(const std::string& name, const Entry& entry, std::int64_t data_bytes, Violations& violations) {
  if (entry.fields.size() != 3) {
    violations.Add(TensorPath(name), absl::StrCat(entry.fields.size(), " fields"), "dtype, shape and data_offsets");
    return false;
  }
  if (entry.offsets.size() != 2 || entry.offsets[0] > entry.offsets[1] || entry.offsets[1] > data_bytes) {
    violations.Add(TensorPath(name, ".data_offsets"), ToString(entry.offsets),
                   absl::StrCat("[begin, end], within the ", data_bytes, " bytes of data"));
    return false;
  }
  return CheckSize(name, entry, violations);
}

// Whether the tensors follow one another from the first byte of data to the last.
void CheckOrder(const std::map<std::string, Entry>& entries, std::int64_t data_bytes, Violations& violations) {
  std::vector<std::pair<const Shape*, const std::string*>> order;
  order.reserve(entries.size());
  for (const auto& [name, entry] : entries) order.emplace_back(&entry.offsets, &name);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return *a.first < *b.first; });
  std::int64_t end = 0;
  for (const auto& [offsets, name] : order) {
    if ((*offsets)[0] != end) {
      violations.Add(TensorPath(*name, ".data_offsets"), ToString(*offsets),
                     absl::StrCat("to begin at ", end, ", where the tensor before ends"));
    }
    end = std::max(end, (*offsets)[1]);
  }
  if (end != data_bytes) {
    violations.Add("file", absl::StrCat(data_bytes, " bytes of data"), absl::StrCat(end, " bytes, as the tensors end"));
  }
}

// The header's bytes, or nothing where the file is not long enough for what it says.
std::optional<absl::string_view> HeaderOf(absl::string_view file, Violations& violations) {
  if (file.size() < kLengthBytes) {
    violations.Add("file", absl::StrCat(file.size(), " bytes"), "8 bytes of a length, a header, and data");
    return std::nullopt;
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[i]);
  if (length > static_cast<std::uint64_t>(kMostHeaderBytes)) {
    violations.Add("header", absl::StrCat(length, " bytes"), absl::StrCat("at most ", kMostHeaderBytes, " bytes"));
    return std::nullopt;
  }
  if (length > file.size() - kLengthBytes) {
    violations.Add("header", absl::StrCat(length, " bytes"),
                   absl::StrCat("no more than the ", file.size() - kLengthBytes, " bytes that follow"));
    return std::nullopt;
  }
  const absl::string_view header = file.substr(kLengthBytes, static_cast<std::size_t>(length));
  if (!header.empty() && header.front() == '{') return header;
  violations.Add("header", header.empty() ? "nothing" : "another first byte", "a JSON object from the first byte");
  return std::nullopt;
}

}  // namespace

std::string TensorPath(absl::string_view name, absl::string_view field) {
  return absl::StrCat("tensors[\"", name, "\"]", field);
}

absl::StatusOr<Safetensors> ParseSafetensors(absl::string_view file) {
  Violations violations;
  const std::optional<absl::string_view> header = HeaderOf(file, violations);
  if (!header.has_value()) return violations.ToStatus();
  HeaderReader reader(violations);
  if (!nlohmann::json::sax_parse(header->begin(), header->end(), &reader)) {
    if (violations.empty()) violations.Add("header", "no JSON", "a JSON object");
    return violations.ToStatus();
  }
  const absl::string_view data = file.substr(kLengthBytes + header->size());
  const auto data_bytes = static_cast<std::int64_t>(data.size());
  for (const auto& [name, entry] : reader.entries()) CheckEntry(name, entry, data_bytes, violations);
  if (violations.empty()) CheckOrder(reader.entries(), data_bytes, violations);
  if (!violations.empty()) return violations.ToStatus();
  Safetensors parsed;
  parsed.metadata = std::move(reader.metadata());
  for (auto& [name, entry] : reader.entries()) {
    const auto begin = static_cast<std::size_t>(entry.offsets[0]);
    parsed.tensors[name] = {entry.dtype, KindOf(entry.dtype), std::move(entry.shape),
                            data.substr(begin, static_cast<std::size_t>(entry.offsets[1]) - begin)};
  }
  return parsed;
}

std::string SafetensorsHeader(const std::vector<std::pair<std::string, Shape>>& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::int64_t end = 0;
  for (const auto& [name, shape] : tensors) {
    const std::int64_t begin = end;
    end += ElementCount(shape).value_or(0) * WidthOf(TensorKind::kF32);
    header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize(static_cast<std::size_t>(RoundUp(static_cast<std::int64_t>(text.size()), kLengthBytes)), ' ');
  std::string length;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length.push_back(static_cast<char>(static_cast<std::uint64_t>(text.size()) >> (8 * i)));
  }
  return length + text;
}

}  // namespace headlight
