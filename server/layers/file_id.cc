#include "server/layers/file_id.h"

#include <openssl/evp.h>

#include <new>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace headlight {

struct FileDigest::Context {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> evp{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

FileDigest::FileDigest() : context_(std::make_unique<Context>()) {
  if (context_->evp == nullptr || EVP_DigestInit_ex(context_->evp.get(), EVP_sha256(), nullptr) != 1) {
    throw std::bad_alloc();
  }
}

FileDigest::~FileDigest() = default;

void FileDigest::Add(absl::string_view bytes) {
  if (EVP_DigestUpdate(context_->evp.get(), bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
}

std::string FileDigest::Id() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(context_->evp.get(), digest, &size) != 1) throw std::bad_alloc();
  return absl::StrCat("sha256:", absl::BytesToHexString({reinterpret_cast<const char*>(digest), size}));
}

bool SteppedDigest::Step() {
  constexpr std::size_t kStepBytes = std::size_t{256} << 10;
  if (part_ == parts_.size()) return false;
  const absl::string_view next = parts_[part_].substr(done_, kStepBytes);
  digest_.Add(next);
  done_ += next.size();
  if (done_ < parts_[part_].size()) return true;
  done_ = 0;
  return ++part_ < parts_.size();
}

}  // namespace headlight
