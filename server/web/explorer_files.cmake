# Puts each file of client/explorer into the program: as it stands there, in its read-only data.
set(folder ${PROJECT_SOURCE_DIR}/client/explorer)
file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE ${folder} ${folder}/*.html ${folder}/*.js ${folder}/*.css
  ${folder}/*.svg)
set(data "")
set(names "")
set(entries "")
foreach(file ${files})
  string(MAKE_C_IDENTIFIER headlight_explorer_${file} symbol)
  string(APPEND data "    \".hidden ${symbol}\\n.global ${symbol}\\n${symbol}:\\n.incbin \\\"${folder}/${file}\\\"\\n\"\n"
    "    \".hidden ${symbol}_end\\n.global ${symbol}_end\\n${symbol}_end:\\n.byte 0\\n\"\n")
  string(APPEND names "extern const char ${symbol}[] __attribute__((visibility(\"hidden\")));\n"
    "extern const char ${symbol}_end[] __attribute__((visibility(\"hidden\")));\n")
  string(APPEND entries "{\"${file}\", ${symbol}, ${symbol}_end}, ")
endforeach()
set(generated ${CMAKE_CURRENT_BINARY_DIR}/web/explorer_files.cc)
file(CONFIGURE OUTPUT ${generated} CONTENT [[#include "server/web/explorer_files.h"

__asm__(
    ".section .rodata\n"
@data@    ".text\n");

extern "C" {
@names@}

namespace headlight {

const std::vector<ExplorerFile>& ExplorerFiles() {
  static const auto& files = *new std::vector<ExplorerFile>{@entries@};
  return files;
}

}  // namespace headlight
]] @ONLY)
list(TRANSFORM files PREPEND ${folder}/)
set_source_files_properties(${generated} PROPERTIES OBJECT_DEPENDS "${files}")
target_sources(headlight_web PRIVATE ${generated})
