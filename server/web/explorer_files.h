// The files of client/explorer, whose bytes the build puts into the program.
#ifndef HEADLIGHT_SERVER_WEB_EXPLORER_FILES_H_
#define HEADLIGHT_SERVER_WEB_EXPLORER_FILES_H_

#include <vector>

namespace headlight {

struct ExplorerFile {
  const char* name;  // within client/explorer
  const char* begin;
  const char* end;
};

// What server/web/explorer_files.cmake has found.
const std::vector<ExplorerFile>& ExplorerFiles();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WEB_EXPLORER_FILES_H_
