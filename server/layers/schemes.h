// Whose names a file's tensors have: GPT-2's, BERT's, Llama's, our own, or those that a mapping gives.
//
//   gpt2       [transformer.]h.N.attn.c_attn.{weight,bias}, c_proj; [in, out], query, key and value side by side
//   bert       [bert.]encoder.layer.N.attention.self.{query,key,value}.{weight,bias}, attention.output.dense; [out, in]
//   llama      [model.]layers.N.self_attn.{q,k,v,o}_proj.{weight,bias}; [out, in]
//   headlight  [layers.N.]{query,key,value,output}, {query,key,value,output}_bias; [in, out]; output may be missing
//
// In the last, a token_embedding [V, E] and an unembedding [E, V] make a stack, with position_embedding [P, E],
// unembedding_bias [V], layers.N.norm.{weight,bias} [E] and final_norm.{weight,bias} where there are any. Metadata:
// headlight.query_heads, .key_value_heads, .causal ("true", "false"), .norm_epsilon, .vocabulary (V lines),
// .description.
#ifndef HEADLIGHT_SERVER_LAYERS_SCHEMES_H_
#define HEADLIGHT_SERVER_LAYERS_SCHEMES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/limits.h"
#include "server/layers/recipe.h"
#include "server/layers/safetensors.h"

namespace headlight {

// As the contract's TensorNames.
struct TensorNames {
  std::string query, key, value, output, query_key_value;
  std::string query_bias, key_bias, value_bias, output_bias, query_key_value_bias;
  bool transposed = false;
};

// What is known of a file beside its bytes.
struct FileHints {
  std::int64_t query_heads = 0, key_value_heads = 0;                    // 0: as the metadata says
  std::int64_t fallback_query_heads = 0, fallback_key_value_heads = 0;  // where the metadata says nothing either
  std::optional<TensorNames> names;                                     // none: of a known scheme
};

// What of these hints is part of a file's id: bytes that are read in another way are another file. Empty where nothing
// was said.
std::string ReadingOf(const FileHints& hints);

// Finds layers and, if there is one, the stack. `file` outlives the result. Key/value heads that nobody says are as
// many as the widths make them. Errors: INVALID_ARGUMENT; violations of tensors, of "header.tensor_names",
// "header.query_heads" and so on, and of "header.__metadata__".
absl::StatusOr<FileRecipe> RecognizeLayers(const Safetensors& file, const FileHints& hints, const Limits& limits);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_SCHEMES_H_
