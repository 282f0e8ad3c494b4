// Makes float32 matrices of what a recipe names, in steps of at most about a millisecond, so that workers can do it
// beside calls.
#ifndef HEADLIGHT_SERVER_LAYERS_CONVERSION_H_
#define HEADLIGHT_SERVER_LAYERS_CONVERSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/layers/layer.h"
#include "server/layers/layer_file.h"
#include "server/layers/recipe.h"

namespace headlight {

// Tasks are independent of each other; the steps 0, 1, ... of one run in order.
class Conversion {
 public:
  // The file that the recipe points into outlives it.
  explicit Conversion(FileRecipe recipe);

  std::int64_t tasks() const { return static_cast<std::int64_t>(parts_.size()); }
  // False: the task has ended. Different tasks at once. Throws std::bad_alloc.
  bool Step(std::int64_t task, std::int64_t step);
  void RunAll();

  // After all steps. Errors: INVALID_ARGUMENT where a number is not finite, with the name of its tensor and its index
  // there.
  absl::Status Check() const;

  // After all steps, once: layers, and the stack. `holds` (may be null) lives as long as any of them.
  LayerFile Take(const std::string& name, const std::string& id, LayerOrigin origin,
                 const std::shared_ptr<void>& holds);

 private:
  struct Part {
    TensorSource source;
    OwnedTensor made;
    std::int64_t bad = -1;  // the first element that is not finite, in the order of the file
  };

  OwnedTensor TakePart(const TensorSource& source);

  FileRecipe recipe_;
  std::vector<Part> parts_;
  std::size_t next_ = 0;  // for Take
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_CONVERSION_H_
