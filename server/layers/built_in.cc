#include "server/layers/built_in.h"

#include "absl/strings/string_view.h"
#include "server/layers/load.h"

// The file as it stands in the source tree, in the read-only data of the program.
__asm__(
    ".section .rodata\n"
    ".balign 16\n"
    ".hidden headlight_induction_begin\n"
    ".global headlight_induction_begin\n"
    "headlight_induction_begin:\n"
    ".incbin \"" HEADLIGHT_INDUCTION_FILE
    "\"\n"
    ".hidden headlight_induction_end\n"
    ".global headlight_induction_end\n"
    "headlight_induction_end:\n"
    ".byte 0\n"
    ".text\n");

extern "C" {
extern const char headlight_induction_begin[] __attribute__((visibility("hidden")));
extern const char headlight_induction_end[] __attribute__((visibility("hidden")));
}

namespace headlight {

const LayerFile& InductionStack() {
  static const LayerFile& file = *new LayerFile([] {
    // NOLINTNEXTLINE(clang-analyzer-security.PointerSub): both ends of one array, which the assembler makes.
    const auto size = static_cast<std::size_t>(headlight_induction_end - headlight_induction_begin);
    const absl::string_view bytes(headlight_induction_begin, size);
    return LoadLayers(bytes, {"induction", LayerOrigin::kBuiltIn, {}}, Limits(), NoBudget).value();
  }());
  return file;
}

}  // namespace headlight
