#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/files.h"
#include "client/cli/format.h"
#include "client/cli/json.h"
#include "client/cli/progress.h"

namespace headlight::cli {
namespace {

constexpr char kHelp[] =
    "Layers are of one server process: replicas behind one address do not share uploads.\n"
    "Uploads and deletions need a server with --allow-layer-uploads, and a token of its --upload-token-file if it has "
    "one.\n"
    "With --json the answer of LayerService in protobuf's JSON mapping.\n"
    "Examples:\n"
    "  headlight layers list\n"
    "  headlight layers upload model.safetensors --name minilm --heads 12\n"
    "  headlight layers upload odd.safetensors --mapping names.json --replace\n"
    "  headlight layers show minilm/0\n"
    "  headlight layers prune minilm/0 --heads 0,3 --name minilm-0-small\n"
    "  headlight layers delete minilm\n";

struct LayerFlags {
  std::string name;  // of what is shown, deleted or pruned
  std::string file, new_name, mapping;
  std::uint32_t heads = 0, key_value_heads = 0;
  std::vector<std::uint32_t> gone;
  bool replace = false;
};

// Answers as JSON, or by `print`.
template <typename Answer, typename Print>
ExitCode Tell(const Session& session, const absl::StatusOr<Answer>& answer, const Print& print) {
  if (!answer.ok()) return ReportServer(session, answer.status());
  if (!session.json) {
    print(*answer);
    return kExitOk;
  }
  const absl::Status printed = PrintJson(*answer);
  return printed.ok() ? kExitOk : Report(session, kExitOther, printed);
}

std::string OrUnknown(std::uint32_t number) { return number == 0 ? "?" : absl::StrCat(number); }

std::string HeadsText(const v1::LayerInfo& layer) {
  if (layer.query_heads() == 0) return "?";
  if (layer.key_value_heads() == layer.query_heads()) return absl::StrCat(layer.query_heads());
  return absl::StrCat(layer.query_heads(), "/", layer.key_value_heads());
}

std::string OriginText(v1::LayerOrigin origin) {
  switch (origin) {
    case v1::LAYER_ORIGIN_BUILT_IN: return "built in";
    case v1::LAYER_ORIGIN_FOLDER: return "folder";
    case v1::LAYER_ORIGIN_UPLOAD: return "upload";
    default: return "?";
  }
}

std::string ShortId(const std::string& id) {
  constexpr std::size_t kShown = 19;  // "sha256:" and twelve digits
  return Printable(id.substr(0, kShown));
}

template <typename Layers>
void PrintLayers(const Layers& layers) {
  std::vector<std::vector<std::string>> rows = {{"layer", "scheme", "width", "heads", "size", "memory", "from", "id"}};
  for (const v1::LayerInfo& layer : layers) {
    rows.push_back({Printable(layer.name()), Printable(layer.scheme()), absl::StrCat(layer.width()), HeadsText(layer),
                    OrUnknown(layer.head_size()), HumanBytes(layer.bytes()), OriginText(layer.origin()),
                    ShortId(layer.id())});
  }
  std::cout << Table(rows);
}

void PrintStack(const v1::StackInfo& stack) {
  std::cout << "stack " << Printable(stack.name()) << ": " << stack.layers_size() << " layers of width "
            << stack.width() << ", " << stack.words() << " words"
            << (stack.positions() == 0 ? "" : absl::StrCat(", at most ", stack.positions(), " tokens"))
            << (stack.causal() ? ", causal" : "") << (stack.layer_norm() ? ", with layer norms" : "") << "\n";
  if (!stack.description().empty()) std::cout << "  " << Printable(stack.description()) << "\n";
}

void PrintLayer(const v1::LayerInfo& layer) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"layer", Printable(layer.name())},
      {"id", Printable(layer.id())},
      {"scheme", Printable(layer.scheme())},
      {"from", OriginText(layer.origin())},
      {"width", absl::StrCat(layer.width())},
      {"context width", absl::StrCat(layer.context_width())},
      {"output width", layer.output_width() == 0 ? "the heads side by side" : absl::StrCat(layer.output_width())},
      {"query heads", OrUnknown(layer.query_heads())},
      {"key/value heads", OrUnknown(layer.key_value_heads())},
      {"head size", OrUnknown(layer.head_size())},
      {"value head size", OrUnknown(layer.value_head_size())},
      {"memory", HumanBytes(layer.bytes())}};
  for (const auto& [name, value] : rows) std::cout << Fit(name, 16, Pad::kRight) << " " << value << "\n";
  const std::map<std::string, std::string> tensors(layer.tensors().begin(), layer.tensors().end());
  for (const auto& [field, name] : tensors) {
    std::cout << Fit(Printable(field), 16, Pad::kRight) << " " << Printable(name) << "\n";
  }
}

ExitCode RunList(const Session& session) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  return Tell(session, (*client)->ListLayers(), [](const v1::ListLayersResponse& answer) {
    PrintLayers(answer.layers());
    for (const v1::StackInfo& stack : answer.stacks()) PrintStack(stack);
  });
}

ExitCode RunShow(const Session& session, const LayerFlags& flags) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  v1::GetLayerRequest request;
  request.set_name(flags.name);
  return Tell(session, (*client)->GetLayer(request), [](const v1::GetLayerResponse& answer) {
    if (answer.has_layer()) PrintLayer(answer.layer());
    if (!answer.has_stack()) return;
    PrintStack(answer.stack());
    std::cout << "id " << Printable(answer.stack().id()) << "\n";
    for (const std::string& layer : answer.stack().layers()) std::cout << "layer " << Printable(layer) << "\n";
    if (answer.stack().vocabulary_size() == 0) return;
    std::cout << "words " << Printable(absl::StrJoin(answer.stack().vocabulary(), " ")) << "\n";
  });
}

absl::StatusOr<v1::UploadLayerHeader> HeaderFor(const LayerFlags& flags) {
  const std::filesystem::path path(flags.file);
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat(flags.file, ": ", error ? error.message() : "not a regular file"));
  }
  v1::UploadLayerHeader header;
  header.set_total_bytes(std::filesystem::file_size(path, error));
  header.set_name(flags.new_name.empty() ? path.stem().string() : flags.new_name);
  header.set_query_heads(flags.heads);
  header.set_key_value_heads(flags.key_value_heads);
  header.set_replace(flags.replace);
  if (flags.mapping.empty()) return header;
  const absl::StatusOr<std::string> mapping = ReadFile(flags.mapping);
  if (!mapping.ok()) return mapping.status();
  if (absl::Status read = FromJson(*mapping, header.mutable_tensor_names()); !read.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(flags.mapping, ": ", read.message()));
  }
  return header;
}

ExitCode RunUpload(const Session& session, const LayerFlags& flags) {
  const auto header = HeaderFor(flags);
  if (!header.ok()) return Report(session, kExitUsage, header.status());
  std::ifstream file(flags.file, std::ios::binary);
  if (!file) return Report(session, kExitUsage, absl::NotFoundError(flags.file + ": cannot be read"));
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  std::optional<ProgressBar> progress(std::in_place);
  const auto answer = (*client)->UploadLayer(
      *header,
      [&file](std::uint64_t offset, std::size_t most) -> absl::StatusOr<std::string> {
        std::string bytes(most, '\0');
        file.clear();
        file.seekg(static_cast<std::streamoff>(offset));
        file.read(bytes.data(), static_cast<std::streamsize>(most));
        if (file.bad()) return absl::UnknownError("the file cannot be read to its end");
        bytes.resize(static_cast<std::size_t>(file.gcount()));
        return bytes;
      },
      [&](std::uint64_t sent) {
        progress->Show({client::StreamProgress::Stage::kSending, sent, header->total_bytes()});
      });
  progress.reset();
  return Tell(session, answer, [](const v1::UploadLayerResponse& uploaded) {
    PrintLayers(uploaded.layers());
    if (uploaded.has_stack()) PrintStack(uploaded.stack());
    std::cout << Printable(uploaded.id()) << (uploaded.known() ? ", which the server held already" : "") << "\n";
  });
}

ExitCode RunDelete(const Session& session, const LayerFlags& flags) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  v1::DeleteLayerRequest request;
  request.set_name(flags.name);
  return Tell(session, (*client)->DeleteLayer(request), [](const v1::DeleteLayerResponse& answer) {
    std::cout << "deleted " << Printable(absl::StrJoin(answer.layers(), ", ")) << "\n";
  });
}

ExitCode RunPrune(const Session& session, const LayerFlags& flags) {
  const auto client = Connect(session);
  if (!client.ok()) return Report(session, kExitUsage, client.status());
  v1::PruneLayerRequest request;
  request.set_layer(flags.name);
  request.mutable_heads()->Assign(flags.gone.begin(), flags.gone.end());
  request.set_name(flags.new_name);
  request.set_replace(flags.replace);
  request.set_query_heads(flags.heads);
  request.set_key_value_heads(flags.key_value_heads);
  return Tell(session, (*client)->PruneLayer(request), [](const v1::PruneLayerResponse& answer) {
    PrintLayers(std::vector<v1::LayerInfo>{answer.layer()});
    std::cout << "kept heads " << absl::StrJoin(answer.kept_heads(), ",") << "; " << HumanBytes(answer.bytes_before())
              << " became " << HumanBytes(answer.layer().bytes()) << "\n";
  });
}

void AddName(CLI::App& app, LayerFlags& flags, const char* description) {
  app.add_option("layer", flags.name, description)->required()->type_name("NAME");
}

void AddUpload(CLI::App& layers, Session& session, const std::shared_ptr<LayerFlags>& flags) {
  CLI::App* upload = layers.add_subcommand("upload", "Sends a safetensors file");
  upload->add_option("file", flags->file, "The file")->required()->type_name("FILE.safetensors");
  upload->add_option("--name", flags->new_name, "What calls give; else the file's name without its end");
  upload->add_option("--heads", flags->heads, "Query heads; else as the file's metadata says");
  upload->add_option("--key-value-heads", flags->key_value_heads, "Key/value heads; else as the widths say");
  upload->add_flag("--replace", flags->replace, "Take the name from what it holds");
  upload
      ->add_option("--mapping", flags->mapping, "TensorNames in protobuf's JSON mapping, for names of no known scheme")
      ->type_name("FILE.json");
  upload->callback([&session, flags] { session.exit_code = RunUpload(session, *flags); });
}

void AddPrune(CLI::App& layers, Session& session, const std::shared_ptr<LayerFlags>& flags) {
  CLI::App* prune = layers.add_subcommand("prune", "Saves a layer without some of its heads");
  AddName(*prune, *flags, "The layer, by name or id");
  prune->add_option("--heads", flags->gone, "Heads that go, such as 0,3")
      ->required()
      ->delimiter(',')
      ->type_name("LIST");
  prune->add_option("--name", flags->new_name, "Of the new layer")->required();
  prune->add_option("--query-heads", flags->heads, "Query heads, where the layer does not say");
  prune->add_option("--key-value-heads", flags->key_value_heads, "Key/value heads, where the layer does not say");
  prune->add_flag("--replace", flags->replace, "Take the name from what it holds");
  prune->callback([&session, flags] { session.exit_code = RunPrune(session, *flags); });
}

}  // namespace

void AddLayers(CLI::App& app, Session& session) {
  CLI::App* layers = app.add_subcommand("layers", "Lists, uploads, prunes and deletes layers that the server holds.");
  layers->require_subcommand(1);
  layers->fallthrough();
  layers->footer(kHelp);
  const auto flags = std::make_shared<LayerFlags>();
  layers->add_subcommand("list", "Every layer and stack")->callback([&session] {
    session.exit_code = RunList(session);
  });
  CLI::App* show = layers->add_subcommand("show", "One layer or stack");
  AddName(*show, *flags, "A layer or a stack, by name or id");
  show->callback([&session, flags] { session.exit_code = RunShow(session, *flags); });
  AddUpload(*layers, session, flags);
  CLI::App* remove = layers->add_subcommand("delete", "Forgets what a file brought");
  AddName(*remove, *flags, "The file's name or id");
  remove->callback([&session, flags] { session.exit_code = RunDelete(session, *flags); });
  AddPrune(*layers, session, flags);
}

}  // namespace headlight::cli
