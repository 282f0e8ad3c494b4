#include "server/service/call_identity.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

constexpr std::size_t kMostOfAnId = 128;

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(absl::string_view digits) { return digits.find_first_not_of('0') == absl::string_view::npos; }

}  // namespace

std::string RequestIdFrom(absl::string_view sent) {
  const auto is_fine = [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); };
  if (!sent.empty() && sent.size() <= kMostOfAnId && std::all_of(sent.begin(), sent.end(), is_fine)) {
    return std::string(sent);
  }
  thread_local absl::InsecureBitGen random;
  return absl::StrCat(absl::Hex(absl::Uniform<std::uint64_t>(random), absl::kZeroPad16));
}

std::string TraceparentFrom(absl::string_view sent) {
  // 00-TRACE(32)-PARENT(16)-FLAGS(2)
  if (sent.size() != 55 || sent.substr(0, 3) != "00-" || sent[35] != '-' || sent[52] != '-') return "";
  const absl::string_view trace = sent.substr(3, 32), parent = sent.substr(36, 16), flags = sent.substr(53, 2);
  if (!IsLowerHex(trace) || !IsLowerHex(parent) || !IsLowerHex(flags) || IsZero(trace) || IsZero(parent)) return "";
  return std::string(sent);
}

}  // namespace headlight
