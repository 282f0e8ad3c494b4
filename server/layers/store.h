// All layers and stacks of the process, by name and by id.
#ifndef HEADLIGHT_SERVER_LAYERS_STORE_H_
#define HEADLIGHT_SERVER_LAYERS_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/layers/layer.h"
#include "server/layers/layer_file.h"
#include "server/layers/stack.h"

namespace headlight {

// What a file may be called: 1 to 64 letters, digits, "-", "_" and ".", the first none of "-" and ".".
bool IsLayerName(absl::string_view name);

// Thread-safe. What was found stays whole for whoever holds it, whatever happens to its name.
class LayerStore {
 public:
  // With what is built in.
  LayerStore();

  // By name or id; null where there is none.
  std::shared_ptr<const Layer> FindLayer(absl::string_view name) const;
  std::shared_ptr<const Stack> FindStack(absl::string_view name) const;

  // By name.
  std::vector<std::shared_ptr<const Layer>> layers() const;
  std::vector<std::shared_ptr<const Stack>> stacks() const;
  // Of all layers and stacks.
  std::int64_t bytes() const;

  // What is called so; null where nothing is.
  std::shared_ptr<const LayerFile> FindFile(absl::string_view name) const;

  // Whether an upload may take the name. Errors: INVALID_ARGUMENT for what is no name and for what is built in (a
  // violation of `field`), PERMISSION_DENIED for what is from the server's folder.
  absl::Status MayTake(absl::string_view name, absl::string_view field) const;

  // Gives the file its name. Where the name holds a file of the same id, nothing changes.
  // What the name stands for then.
  // Errors: those of MayTake, unless the file is from the folder; ALREADY_EXISTS: the name holds something else and it
  // is not to be replaced.
  struct Held {
    std::shared_ptr<const LayerFile> file;
    bool known = false;  // nothing changed
  };
  absl::StatusOr<Held> Put(LayerFile file, bool replace);

  // Forgets the file of this name, or all files of this id, and returns the names of what is gone. Errors: NOT_FOUND;
  // PERMISSION_DENIED where one of them is built in or from the folder, and then nothing goes.
  struct Removed {
    std::vector<std::string> layers;
    std::string id;
  };
  absl::StatusOr<Removed> Remove(absl::string_view name);

 private:
  absl::Status MayTakeLocked(absl::string_view name, absl::string_view field) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<const LayerFile> Add(LayerFile file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(const LayerFile& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<const LayerFile>> files_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<const Layer>> layers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<const Stack>> stacks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_LAYERS_STORE_H_
