// Malformed embeddings, contexts and layers: every rule, each with the exact fields that are named.
#include "tests/problem/requests.h"

namespace headlight {
namespace {

using R = ProblemRequest;

const Malformed kSelf[] = {
    {"rank 1", [](R& r) { Self(r).embeddings = FormOf({16}); }, {"self_attention.embeddings.shape"}},
    {"rank 4",
     [](R& r) {
       Self(r).embeddings = FormOf({1, 2, 5, 16});
     },
     {"self_attention.embeddings.shape"}},
    {"no token",
     [](R& r) {
       Self(r).embeddings = FormOf({2, 0, 16});
     },
     {"self_attention.embeddings.shape"}},
    {"too few bytes", [](R& r) { Self(r).embeddings->payload_bytes = 639; }, {"self_attention.embeddings.data"}},
    {"truths for numbers",
     [](R& r) {
       Self(r).embeddings = FormOf({2, 5, 16}, TensorKind::kBool);
     },
     {"self_attention.embeddings.data"}},
    {"weights of another kind",
     [](R& r) {
       Self(r).embeddings = FormOf({2, 5, 16}, TensorKind::kF16);
     },
     {"self_attention.layer_weights.query.data", "self_attention.layer_weights.key.data",
      "self_attention.layer_weights.value.data", "self_attention.layer_weights.output.data"}},
    {"no query matrix", [](R& r) { Weights(r).query.reset(); }, {"self_attention.layer_weights.query"}},
    {"no key matrix", [](R& r) { Weights(r).key.reset(); }, {"self_attention.layer_weights.key"}},
    {"no value matrix", [](R& r) { Weights(r).value.reset(); }, {"self_attention.layer_weights.value"}},
    {"no matrix",
     [](R& r) { Self(r).layer = LayerForm(); },
     {"self_attention.layer_weights.query", "self_attention.layer_weights.key", "self_attention.layer_weights.value"}},
    {"a matrix of rank 1",
     [](R& r) { Weights(r).query = FormOf({512}); },
     {"self_attention.layer_weights.query.shape"}},
    {"a matrix of rank 3",
     [](R& r) {
       Weights(r).key = FormOf({1, 16, 16});
     },
     {"self_attention.layer_weights.key.shape"}},
    {"the query's rows",
     [](R& r) {
       Weights(r).query = FormOf({15, 32});
     },
     {"self_attention.layer_weights.query.shape"}},
    {"the key's rows",
     [](R& r) {
       Weights(r).key = FormOf({17, 16});
     },
     {"self_attention.layer_weights.key.shape"}},
    {"the value's rows",
     [](R& r) {
       Weights(r).value = FormOf({1, 12});
     },
     {"self_attention.layer_weights.value.shape"}},
    {"the output's rows",
     [](R& r) {
       Weights(r).output = FormOf({23, 10});
     },
     {"self_attention.layer_weights.output.shape"}},
    {"the query's columns",
     [](R& r) {
       Weights(r).query = FormOf({16, 33});
     },
     {"self_attention.layer_weights.query.shape"}},
    {"the key's columns",
     [](R& r) {
       Weights(r).key = FormOf({16, 17});
     },
     {"self_attention.layer_weights.key.shape"}},
    {"the value's columns",
     [](R& r) {
       Weights(r).value = FormOf({16, 13});
     },
     {"self_attention.layer_weights.value.shape"}},
    {"a matrix without bytes",
     [](R& r) { Weights(r).output->payload_bytes = 0; },
     {"self_attention.layer_weights.output.data"}},
    {"heads that nothing decides",
     [](R& r) {
       r.query_heads = 0;
       r.key_value_heads = 0;
     },
     {"options.query_heads"}},
    {"heads that do not divide the columns",
     [](R& r) { r.query_heads = 5; },
     {"self_attention.layer_weights.query.shape"}},
};

TEST(CheckLayer, RefusesMalformedEmbeddingsAndMatrices) { ExpectRefused(LayerRequest(), kSelf); }

const Malformed kBiases[] = {
    {"the query's bias",
     [](R& r) { Weights(r).query_bias = FormOf({31}); },
     {"self_attention.layer_weights.query_bias.shape"}},
    {"the key's bias",
     [](R& r) { Weights(r).key_bias = FormOf({32}); },
     {"self_attention.layer_weights.key_bias.shape"}},
    {"the value's bias",
     [](R& r) { Weights(r).value_bias = FormOf({1}); },
     {"self_attention.layer_weights.value_bias.shape"}},
    {"the output's bias",
     [](R& r) { Weights(r).output_bias = FormOf({24}); },
     {"self_attention.layer_weights.output_bias.shape"}},
    {"a bias of rank 2",
     [](R& r) {
       Weights(r).query_bias = FormOf({1, 32});
     },
     {"self_attention.layer_weights.query_bias.shape"}},
    {"a bias of another kind",
     [](R& r) { Weights(r).value_bias = FormOf({12}, TensorKind::kBF16); },
     {"self_attention.layer_weights.value_bias.data"}},
    {"a bias of the output without the output",
     [](R& r) {
       Weights(r).output.reset();
       Weights(r).output_bias = FormOf({10});
     },
     {"self_attention.layer_weights.output_bias"}},
    {"all four",
     [](R& r) {
       Weights(r).query_bias = FormOf({1});
       Weights(r).key_bias = FormOf({1});
       Weights(r).value_bias = FormOf({1});
       Weights(r).output_bias = FormOf({1});
     },
     {"self_attention.layer_weights.query_bias.shape", "self_attention.layer_weights.key_bias.shape",
      "self_attention.layer_weights.value_bias.shape", "self_attention.layer_weights.output_bias.shape"}},
};

TEST(CheckLayer, RefusesMalformedBiases) { ExpectRefused(LayerRequest(), kBiases); }

const Malformed kContext[] = {
    {"without its batch",
     [](R& r) {
       Self(r).context = FormOf({7, 12});
     },
     {"self_attention.context.shape"}},
    {"of another batch",
     [](R& r) {
       Self(r).context = FormOf({3, 7, 12});
     },
     {"self_attention.context.shape"}},
    {"without tokens",
     [](R& r) {
       Self(r).context = FormOf({2, 0, 12});
     },
     {"self_attention.context.shape"}},
    {"of another kind",
     [](R& r) {
       Self(r).context = FormOf({2, 7, 12}, TensorKind::kBF16);
     },
     {"self_attention.context.data"}},
    {"without bytes", [](R& r) { Self(r).context->payload_bytes = 0; }, {"self_attention.context.data"}},
    {"of another width",
     [](R& r) {
       Self(r).context = FormOf({2, 7, 13});
     },
     {"self_attention.layer_weights.key.shape", "self_attention.layer_weights.value.shape"}},
};

TEST(CheckLayer, RefusesMalformedContexts) { ExpectRefused(CrossRequest(), kContext); }

const Malformed kNamed[] = {
    {"no name", [](R& r) { Self(r).layer_name.clear(); }, {"self_attention.layer"}},
    {"a long name", [](R& r) { Self(r).layer_name.assign(129, 'x'); }, {"self_attention.layer"}},
    {"embeddings of another width",
     [](R& r) {
       Self(r).embeddings = FormOf({2, 5, 15});
     },
     {"self_attention.embeddings.shape"}},
    {"a context of another width",
     [](R& r) {
       Self(r).context = FormOf({2, 7, 15});
     },
     {"self_attention.context.shape"}},
    {"both of another width",
     [](R& r) {
       Self(r).embeddings = FormOf({2, 5, 8});
       Self(r).context = FormOf({2, 7, 8});
     },
     {"self_attention.embeddings.shape", "self_attention.context.shape"}},
    {"another number of heads", [](R& r) { r.query_heads = 2; }, {"options.query_heads"}},
    {"another number of key heads", [](R& r) { r.key_value_heads = 4; }, {"options.key_value_heads"}},
    {"another head size", [](R& r) { r.head_size = 16; }, {"options.head_size"}},
};

TEST(CheckLayer, RefusesWhatDoesNotFitANamedLayer) { ExpectRefused(NamedRequest(), kNamed); }

const Malformed kSeeded[] = {
    {"no token", [](R& r) { Self(r).seeded_tokens = 0; }, {"self_attention.seeded_embeddings.tokens"}},
    {"no width", [](R& r) { Self(r).seeded_width = 0; }, {"self_attention.seeded_embeddings.width"}},
    {"less than nothing",
     [](R& r) {
       Self(r).seeded_tokens = -1;
       Self(r).seeded_width = kLeastInt;
     },
     {"self_attention.seeded_embeddings.tokens", "self_attention.seeded_embeddings.width"}},
    {"heads that nothing decides", [](R& r) { r.query_heads = 0; }, {"options.query_heads"}},
    {"heads that do not divide the width of embeddings sent",
     [](R& r) {
       Self(r).embeddings = FormOf({5, 16});
       r.query_heads = 5;
     },
     {"self_attention.embeddings.shape"}},
    {"key heads that do not divide", [](R& r) { r.key_value_heads = 3; }, {"options.key_value_heads"}},
};

TEST(CheckLayer, RefusesMalformedSeededRequests) { ExpectRefused(SeededRequest(), kSeeded); }

}  // namespace
}  // namespace headlight
