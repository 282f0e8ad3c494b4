// All layers and stacks of the process, by name and by id.
#ifndef HEADLIGHT_SERVER_LAYERS_STORE_H_
#define HEADLIGHT_SERVER_LAYERS_STORE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/layers/layer.h"
#include "server/layers/stack.h"

namespace headlight {

// Thread-safe. What was found stays whole for whoever holds it, whatever happens to its name.
class LayerStore {
 public:
  // With what is built in.
  LayerStore();

  // By name or id; null where there is none.
  std::shared_ptr<const Layer> FindLayer(absl::string_view name) const;
  std::shared_ptr<const Stack> FindStack(absl::string_view name) const;

  // Holds a stack under its name, in the place of another of that name.
  void AddStack(std::shared_ptr<const Stack> stack);

  // By name.
  std::vector<std::shared_ptr<const Layer>> layers() const;
  std::vector<std::shared_ptr<const Stack>> stacks() const;

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<const Layer>> layers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<const Stack>> stacks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_STORE_H_
