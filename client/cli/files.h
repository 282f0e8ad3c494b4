// Whole files at once.
#ifndef HEADLIGHT_CLIENT_CLI_FILES_H_
#define HEADLIGHT_CLIENT_CLI_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace headlight::cli {

// The bytes of a regular file. Errors name the path: NOT_FOUND where it is missing, no regular file or unreadable.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Everything on standard input, to its end.
std::string ReadStandardInput();

// Replaces the file's content. UNKNOWN with the path where that fails.
absl::Status WriteFile(const std::string& path, absl::string_view bytes);

}  // namespace headlight::cli

#endif  // HEADLIGHT_CLIENT_CLI_FILES_H_
