#include "client/cli/request_flags.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace headlight::cli {
namespace {

constexpr char kInput[] = "Input";
constexpr char kWeights[] = "Layer";
constexpr char kMask[] = "Mask and positions";
constexpr char kOptions[] = "Heads and numbers";

CLI::Option* AddFile(CLI::App& app, const char* name, std::string& path, const char* description) {
  return app.add_option(name, path, description)->type_name("FILE.npy");
}

void AddInputs(CLI::App& app, InputFlags& flags) {
  CLI::Option* query = AddFile(app, "--query", flags.query, "Q: [B,H,T,D], [B,T,H*D] or [T,H*D]");
  CLI::Option* key = AddFile(app, "--key", flags.key, "K, of the same rank");
  CLI::Option* value = AddFile(app, "--value", flags.value, "V, of the same rank");
  query->needs(key, value);
  key->needs(query);
  value->needs(query);
  CLI::Option* embeddings = AddFile(app, "--embeddings", flags.embeddings, "[T,E] or [B,T,E]");
  CLI::Option* seeded = app.add_option("--seeded-embeddings", flags.seeded_embeddings, "Made by the server")
                            ->delimiter(',')
                            ->expected(3)
                            ->check(RefuseMinus)
                            ->type_name("SEED,TOKENS,WIDTH");
  CLI::Option* context = AddFile(app, "--context", flags.context, "[Tk,Ec] or [B,Tk,Ec]: keys and values come from it");
  embeddings->excludes(query, seeded);
  seeded->excludes(query);
  context->excludes(query);
  for (CLI::Option* option : {query, key, value, embeddings, seeded, context}) option->group(kInput);
}

void AddWeights(CLI::App& app, InputFlags& flags) {
  CLI::Option* layer = app.add_option("--layer", flags.layer, "A layer that the server holds, such as demo");
  CLI::Option* seeded =
      app.add_option("--seeded-weights", flags.seeded_weights, "Made by the server from a seed")->check(RefuseMinus);
  CLI::Option* query = AddFile(app, "--weights-query", flags.weights_query, "[E,H*D]");
  CLI::Option* key = AddFile(app, "--weights-key", flags.weights_key, "[E,Hkv*D]");
  CLI::Option* value = AddFile(app, "--weights-value", flags.weights_value, "[E,Hkv*Dv]");
  CLI::Option* output = AddFile(app, "--weights-output", flags.weights_output,
                                "[H*Dv,Eo]; without it the heads side by side are the output");
  query->needs(key, value);
  key->needs(query);
  value->needs(query);
  output->needs(query);
  layer->excludes(seeded, query);
  seeded->excludes(query);
  CLI::Option* biases[] = {AddFile(app, "--bias-query", flags.bias_query, "[H*D]"),
                           AddFile(app, "--bias-key", flags.bias_key, "[Hkv*D]"),
                           AddFile(app, "--bias-value", flags.bias_value, "[Hkv*Dv]"),
                           AddFile(app, "--bias-output", flags.bias_output, "[Eo]")};
  for (CLI::Option* bias : biases) bias->needs(query)->group(kWeights);
  for (CLI::Option* option : {layer, seeded, query, key, value, output}) {
    option->group(kWeights)->excludes(app.get_option("--query"));
  }
}

// A flag whose value parse_flags.h reads.
CLI::Option* AddText(CLI::App& app, const char* name, std::string& text, const char* form, const char* description) {
  return app.add_option(name, text, description)->type_name(form)->check(RefuseEmpty);
}

void AddMasks(CLI::App& app, OptionFlags& flags) {
  CLI::Option* options[] = {
      AddText(app, "--causal", flags.causal, "ALIGNMENT",
              "No key after the row's own: top-left, bottom-right or explicit:OFFSET"),
      AddText(app, "--window", flags.window, "LEFT,RIGHT",
              "Keys before and after the row's own; a side that is empty or * is unbounded"),
      AddText(app, "--window-alignment", flags.window_alignment, "ALIGNMENT",
              "The window's diagonal where --causal gives none; as for --causal")
          ->needs(app.get_option("--window")),
      AddText(app, "--segments", flags.segments, "LIST", "Ids of packed sequences, such as 0,0,1: equal ones attend"),
      AddText(app, "--key-segments", flags.key_segments, "LIST", "Ids of the keys; else those of --segments")
          ->needs(app.get_option("--segments")),
      app.add_option("--key-lengths", flags.key_lengths, "How many keys each batch has, such as 5,7")
          ->delimiter(',')
          ->type_name("LIST")
          ->allow_extra_args(false),
      AddFile(app, "--mask", flags.mask,
              "Broadcasts to [B,H,Tq,Tk]: bool (true may attend), "
              "or numbers to add to the scores")};
  for (CLI::Option* option : options) option->group(kMask);
}

void AddPositions(CLI::App& app, OptionFlags& flags) {
  CLI::Option* options[] = {
      app.add_option("--position", flags.position, "The scheme of positions")
          ->check(CLI::IsMember({"none", "sinusoidal", "learned", "rotary", "alibi"}))
          ->capture_default_str(),
      app.add_option("--layout", flags.layout, "sinusoidal, rotary: which channels form a pair")
          ->check(CLI::IsMember({"halves", "interleaved"})),
      app.add_option("--base", flags.base, "sinusoidal, rotary: base of the wavelengths; 10000 unless given"),
      app.add_option("--rotary-size", flags.rotary_size, "rotary: how many leading channels are turned; else all"),
      AddText(app, "--rotary-scaling", flags.rotary_scaling, "SCALING",
              "rotary: linear:FACTOR, ntk:FACTOR, llama3:FACTOR,LOW,HIGH,CONTEXT or "
              "yarn:FACTOR,CONTEXT[,BETA_FAST,BETA_SLOW[,ATTENTION_FACTOR]]"),
      AddFile(app, "--table", flags.table, "learned: [positions,E]"),
      app.add_option("--slopes", flags.slopes, "alibi: one per head; else the paper's")
          ->delimiter(',')
          ->type_name("LIST")
          ->allow_extra_args(false),
      app.add_option("--query-offset", flags.query_offset, "Position of query 0"),
      app.add_option("--key-offset", flags.key_offset, "Position of key 0"),
      AddText(app, "--query-positions", flags.query_positions, "LIST", "Position of each query, in place of an offset"),
      AddText(app, "--key-positions", flags.key_positions, "LIST", "Position of each key, in place of an offset")};
  for (CLI::Option* option : options) option->group(kMask);
}

void AddOptions(CLI::App& app, OptionFlags& flags) {
  CLI::Option* options[] = {
      app.add_option("--heads", flags.heads, "Query heads; needed where the shapes do not decide"),
      app.add_option("--kv-heads", flags.kv_heads, "Key/value heads; else as many"),
      app.add_option("--head-size", flags.head_size, "Size of a query and key head"),
      app.add_option("--scale", flags.scale, "Factor on Q K^T; 1/sqrt(head size) unless given"),
      app.add_option("--softcap", flags.softcap, "Scores become C x tanh(score / C), before the bias and the masks")
          ->check(RequireNumber),
      AddText(app, "--sinks", flags.sinks, "LIST", "A logit per query head that joins the denominator alone"),
      AddText(app, "--head-gains", flags.head_gains, "LIST", "A factor per query head; 0 switches the head off"),
      app.add_option("--precision", flags.precision, "The arithmetic of the products; float32 unless given")
          ->check(CLI::IsMember({"float32", "bfloat16"})),
      app.add_flag("--allow-non-finite", flags.allow_non_finite, "IEEE rules for NaN and infinity in the input"),
      app.add_option("--algorithm", flags.algorithm, "How it is computed; the numbers are the same within the bound")
          ->check(CLI::IsMember({"auto", "naive", "flash"}))
          ->capture_default_str(),
      app.add_option("--kind", flags.kind, "Kind of number in which the files are sent")
          ->check(CLI::IsMember({"f32", "f16", "bf16"}))
          ->capture_default_str(),
      app.add_option("--priority", flags.priority, "batch is shed first")
          ->check(CLI::IsMember({"interactive", "batch"}))
          ->capture_default_str(),
      app.add_option("--tokens", flags.tokens, "Labels of the queries, such as the,cat,sat")
          ->delimiter(',')
          ->type_name("LIST")
          ->allow_extra_args(false)};
  for (CLI::Option* option : options) option->group(kOptions);
}

}  // namespace

std::string RefuseMinus(const std::string& text) {
  return !text.empty() && text.front() == '-' ? text + " is negative" : "";
}

std::string RefuseEmpty(const std::string& text) { return text.empty() ? "the value is empty" : ""; }

std::string RequireCount(const std::string& text) {
  std::uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? "" : absl::StrCat(text, " is not a whole number, 0 or more");
}

std::string RequireNumber(const std::string& text) {
  double number = 0;
  return absl::SimpleAtod(text, &number) ? "" : absl::StrCat(text, " is not a number");
}

void AddRequestFlags(CLI::App& app, RequestFlags& flags) {
  const std::vector<CLI::Option*> before = app.get_options();
  AddInputs(app, flags.input);
  AddWeights(app, flags.input);
  AddMasks(app, flags.options);
  AddPositions(app, flags.options);
  AddOptions(app, flags.options);
  const std::vector<CLI::Option*> all = app.get_options();
  CLI::Option* request = app.add_option("--request", flags.input.request,
                                        "An AttendRequest in protobuf's JSON mapping, - for standard input: instead "
                                        "of the flags of Input, Layer, Mask and Heads, and for more than they can say");
  request->group(kInput)->type_name("FILE.json");
  for (std::size_t i = before.size(); i < all.size(); ++i) request->excludes(all[i]);
}

}  // namespace headlight::cli
