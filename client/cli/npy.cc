#include "client/cli/npy.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/cli/files.h"
#include "client/cpp/tensors.h"

namespace headlight::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are copied as they are");

constexpr absl::string_view kMagic("\x93NUMPY", 6);
constexpr std::size_t kMostRank = 32;
// Our dtypes need no more; longer headers belong to structured arrays.
constexpr std::size_t kMostHeader = 1 << 16;

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
};

// Reads the header's text, a Python literal such as
// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class HeaderReader {
 public:
  explicit HeaderReader(absl::string_view text) : rest_(text) {}

  std::optional<Header> Read() {
    Header header;
    bool descr = false;
    bool order = false;
    bool shape = false;
    if (!Take("{")) return std::nullopt;
    while (!Take("}")) {
      const std::optional<std::string> key = QuotedText();
      if (!key.has_value() || !Take(":")) return std::nullopt;
      bool* seen = *key == "descr" ? &descr : *key == "fortran_order" ? &order : *key == "shape" ? &shape : nullptr;
      if (seen == nullptr || std::exchange(*seen, true)) return std::nullopt;
      if (!Value(*key, &header)) return std::nullopt;
      if (!Take(",") && !IsNext('}')) return std::nullopt;
    }
    SkipSpace();
    if (!rest_.empty() || !descr || !order || !shape) return std::nullopt;
    return header;
  }

 private:
  void SkipSpace() {
    const std::size_t start = rest_.find_first_not_of(" \n");
    rest_.remove_prefix(start == absl::string_view::npos ? rest_.size() : start);
  }

  bool Take(absl::string_view token) {
    SkipSpace();
    return absl::ConsumePrefix(&rest_, token);
  }

  bool IsNext(char token) {
    SkipSpace();
    return !rest_.empty() && rest_.front() == token;
  }

  bool Value(const std::string& key, Header* header) {
    if (key == "fortran_order") {
      header->fortran_order = Take("True");
      return header->fortran_order || Take("False");
    }
    if (key == "shape") return Tuple(&header->shape);
    std::optional<std::string> text = QuotedText();
    if (!text.has_value()) return false;
    header->descr = *std::move(text);
    return true;
  }

  std::optional<std::string> QuotedText() {
    SkipSpace();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
    const std::size_t end = rest_.find(rest_.front(), 1);
    if (end == absl::string_view::npos) return std::nullopt;
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }

  bool Tuple(std::vector<std::int64_t>* axes) {
    if (!Take("(")) return false;
    while (!Take(")")) {
      SkipSpace();
      const std::size_t digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
      std::int64_t axis = 0;
      if (axes->size() == kMostRank || !absl::SimpleAtoi(rest_.substr(0, digits), &axis)) return false;
      axes->push_back(axis);
      rest_.remove_prefix(digits);
      if (!Take(",") && !IsNext(')')) return false;
    }
    return true;
  }

  absl::string_view rest_;
};

// The header and, after it in `bytes`, the elements.
absl::StatusOr<Header> TakeHeader(absl::string_view* bytes) {
  if (!absl::ConsumePrefix(bytes, kMagic) || bytes->size() < 2) {
    return absl::InvalidArgumentError("not a .npy file");
  }
  const int major = static_cast<unsigned char>((*bytes)[0]);
  const int minor = static_cast<unsigned char>((*bytes)[1]);
  bytes->remove_prefix(2);
  if (major < 1 || major > 3 || minor != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(".npy version ", major, ".", minor, " is not read; 1.0, 2.0 and 3.0 are"));
  }
  const std::size_t width = major == 1 ? 2 : 4;
  std::uint32_t length = 0;
  if (bytes->size() < width) return absl::InvalidArgumentError("the file ends within its header");
  std::memcpy(&length, bytes->data(), width);
  bytes->remove_prefix(width);
  if (length > kMostHeader) {
    return absl::InvalidArgumentError(
        absl::StrCat("a header of ", length, " bytes; at most ", kMostHeader, " are read"));
  }
  if (bytes->size() < length) return absl::InvalidArgumentError("the file ends within its header");
  std::optional<Header> header = HeaderReader(bytes->substr(0, length)).Read();
  bytes->remove_prefix(length);
  if (!header.has_value()) {
    return absl::InvalidArgumentError(
        "the header is not that of a plain array (descr, fortran_order and shape, no named fields)");
  }
  return *std::move(header);
}

template <typename Element, typename Convert>
std::vector<float> ConvertAll(absl::string_view bytes, const Convert& convert) {
  std::vector<float> values(bytes.size() / sizeof(Element));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    values[i] = convert(element);
  }
  return values;
}

// Bytes of an element; 0 for a dtype that is not read.
std::int64_t WidthOf(absl::string_view descr) {
  if (descr == "|b1") return 1;
  if (descr == "<f2") return 2;
  if (descr == "<f4") return 4;
  if (descr == "<f8" || descr == "<i8") return 8;
  return 0;
}

std::vector<float> Elements(absl::string_view descr, absl::string_view bytes) {
  const auto narrow = [](auto x) { return static_cast<float>(x); };
  if (descr == "|b1") return ConvertAll<std::uint8_t>(bytes, [](std::uint8_t x) { return x != 0 ? 1.0F : 0.0F; });
  if (descr == "<f2") return ConvertAll<std::uint16_t>(bytes, client::FloatFromF16);
  if (descr == "<f4") return ConvertAll<float>(bytes, narrow);
  if (descr == "<f8") return ConvertAll<double>(bytes, narrow);
  return ConvertAll<std::int64_t>(bytes, narrow);
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(absl::string_view bytes) {
  absl::StatusOr<Header> header = TakeHeader(&bytes);
  if (!header.ok()) return header.status();
  const std::int64_t width = WidthOf(header->descr);
  if (width == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("dtype \"", header->descr, "\" is not read; save it with x.astype(\"<f4\")"));
  }
  if (header->fortran_order) {
    return absl::InvalidArgumentError("the array is in Fortran order; save it with numpy.ascontiguousarray(x)");
  }
  const std::optional<std::int64_t> count = client::ElementCount(header->shape);
  const auto present = static_cast<std::int64_t>(bytes.size());
  if (!count.has_value() || present % width != 0 || *count != present / width) {
    return absl::InvalidArgumentError(absl::StrCat("shape (", absl::StrJoin(header->shape, ", "), ") of ", width,
                                                   "-byte elements does not match the ", present, " bytes of data"));
  }
  NpyArray array;
  array.values = Elements(header->descr, bytes);
  array.shape = std::move(header->shape);
  array.boolean = header->descr == "|b1";
  return array;
}

absl::StatusOr<NpyArray> ReadNpy(const std::string& path) {
  const absl::StatusOr<std::string> bytes = ReadFile(path);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<NpyArray> array = ParseNpy(*bytes);
  if (!array.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", array.status().message()));
  return array;
}

std::string FormatNpy(absl::Span<const float> values, absl::Span<const std::int64_t> shape) {
  std::string header = absl::StrCat("{'descr': '<f4', 'fortran_order': False, 'shape': (", absl::StrJoin(shape, ", "),
                                    shape.size() == 1 ? "," : "", "), }");
  // Magic, version and length take 10 bytes; the elements begin at a multiple of 64.
  header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');
  const auto length = static_cast<std::uint16_t>(header.size());
  std::string bytes = absl::StrCat(kMagic, absl::string_view("\1\0", 2));
  bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes.append(header);
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return bytes;
}

absl::Status WriteNpy(const std::string& path, absl::Span<const float> values, absl::Span<const std::int64_t> shape) {
  return WriteFile(path, FormatNpy(values, shape));
}

}  // namespace headlight::cli
