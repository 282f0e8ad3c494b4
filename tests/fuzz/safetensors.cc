// Bytes of any safetensors file, and names of any mapping: layers, or a list of what is wrong.
#include "server/layers/safetensors.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "headlight/v1/layer_service.pb.h"
#include "server/base/errors.h"
#include "server/layers/demo.h"
#include "server/layers/load.h"
#include "tests/fuzz/fuzz.h"

namespace headlight::fuzz {
namespace {

// Shapes of one byte's tensors can be large, files of the fuzzer's not: what is made of them is little more.
constexpr std::int64_t kMostMade = std::int64_t{1} << 20;

void ExpectViolations(const absl::Status& status) {
  const ErrorDetails details = DetailsOf(status);
  Expect(status.code() == absl::StatusCode::kInvalidArgument, "refusals are INVALID_ARGUMENT", status.ToString());
  Expect(!details.violations.empty(), "a refusal lists violations", status.ToString());
  for (const Violation& violation : details.violations) {
    Expect(!violation.field.empty() && violation.field.size() <= 120 && violation.got.size() <= 120,
           "texts of violations are short", status.ToString());
  }
}

void ExpectWithin(const Safetensors& parsed, absl::string_view file) {
  for (const auto& [name, tensor] : parsed.tensors) {
    Expect(tensor.bytes.data() >= file.data() && tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size(),
           "views lie within the file", name);
    if (!tensor.kind.has_value()) continue;
    const std::int64_t count = ElementCount(tensor.shape).value_or(-1);
    Expect(count * WidthOf(*tensor.kind) == static_cast<std::int64_t>(tensor.bytes.size()), "views are whole", name);
  }
}

void ExpectSane(const LayerFile& file) {
  std::int64_t bytes = file.stack == nullptr ? 0 : BytesOf(*file.stack);
  for (const auto& layer : file.layers) {
    bytes += layer->bytes();
    for (int i = 0; i < kLayerFields; ++i) {
      const OwnedTensor& tensor = FieldOf(layer->matrices(), static_cast<LayerField>(i));
      const auto count = static_cast<std::int64_t>(tensor.bytes.size() / sizeof(float));
      Expect(std::all_of(tensor.floats(), tensor.floats() + count, [](float x) { return std::isfinite(x); }),
             "numbers are finite");
    }
    const std::int64_t heads = layer->query_heads();
    Expect(heads == 0 || layer->matrices().query.shape[1] % heads == 0, "heads divide the width");
  }
  Expect(bytes == file.bytes && bytes <= kMostMade, "all that is held is counted");
}

void ExpectOwnLayersWhole(const LayerStore& store) {
  static const auto& before = *new std::string(GetDemo().layer.matrices().query.bytes);
  Expect(store.FindLayer("demo")->matrices().query.bytes == before, "the server's own layers stay whole");
  Expect(store.FindStack("induction") != nullptr, "so does its stack");
}

void RunFile(absl::string_view file, const FileHints& hints) {
  const absl::StatusOr<Safetensors> parsed = ParseSafetensors(file);
  if (!parsed.ok()) return ExpectViolations(parsed.status());
  ExpectWithin(*parsed, file);
  absl::StatusOr<LayerFile> loaded = LoadLayers(file, {"fuzz", LayerOrigin::kUpload, hints}, Limits(), NoBudget);
  if (!loaded.ok()) return ExpectViolations(loaded.status());
  ExpectSane(*loaded);
  static auto& store = *new LayerStore();
  Expect(store.Put(*std::move(loaded), /*replace=*/true).ok(), "what was read can be stored");
  Expect(store.Remove("fuzz").ok(), "and deleted");
  ExpectOwnLayersWhole(store);
}

// The file with the length that its header has, where it ends with the last brace: so that more inputs are read.
std::string Repaired(const std::string& file) {
  const std::size_t end = file.rfind('}');
  if (file.size() < 8 || end == std::string::npos || end < 8) return file;
  std::string repaired = file;
  for (std::size_t i = 0; i < 8; ++i) repaired[i] = static_cast<char>((end - 7) >> (8 * i));
  return repaired;
}

// Two layers, and one that is fused.
const std::string& MappedFile() {
  static const auto& file = *new std::string([] {
    std::vector<std::pair<std::string, Shape>> tensors;
    std::int64_t count = 0;
    for (const char* layer : {"a.0.", "a.1."}) {
      for (const char* name : {"q", "k", "v", "o"}) tensors.emplace_back(std::string(layer) + name, Shape{4, 4});
    }
    tensors.emplace_back("f.qkv", Shape{12, 4});
    tensors.emplace_back("f.b", Shape{12});
    tensors.emplace_back("f.o", Shape{4, 4});
    for (const auto& [_, shape] : tensors) count += ElementCount(shape).value_or(0);
    return SafetensorsHeader(tensors) + std::string(static_cast<std::size_t>(count) * sizeof(float), '\0');
  }());
  return file;
}

void RunMapping(const v1::UploadLayerHeader& header) {
  const v1::TensorNames& names = header.tensor_names();
  FileHints hints;
  hints.query_heads = header.query_heads();
  hints.key_value_heads = header.key_value_heads();
  hints.names = TensorNames{
      names.query(),      names.key(),      names.value(),      names.output(),      names.query_key_value(),
      names.query_bias(), names.key_bias(), names.value_bias(), names.output_bias(), names.query_key_value_bias(),
      names.transposed()};
  RunFile(MappedFile(), hints);
}

}  // namespace

const google::protobuf::Message& Prototype() { return v1::UploadLayerRequest::default_instance(); }

void Run(const google::protobuf::Message& message) {
  const auto& upload = static_cast<const v1::UploadLayerRequest&>(message);
  if (upload.has_header()) return RunMapping(upload.header());
  RunFile(upload.chunk(), {});
  RunFile(Repaired(upload.chunk()), {});
}

}  // namespace headlight::fuzz
