#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/problem/checker.h"

namespace headlight {
namespace {

// Splits a width into heads: from the count, the size, or both. Reports where they disagree or nothing decides.
// Returns {heads, head size}, 0 where not known.
struct HeadSplit {
  std::int64_t heads = 0;
  std::int64_t size = 0;
};

HeadSplit SplitWidth(Checker& c, absl::string_view width_field, std::int64_t width, HeadSplit given) {
  if (given.heads == 0 && given.size == 0) {
    c.Report("options.query_heads", "0", "the number of query heads: the shapes alone do not decide it");
    return {};
  }
  const std::int64_t heads = given.heads != 0 ? given.heads : width / given.size;
  const std::int64_t size = given.size != 0 ? given.size : width / given.heads;
  // Neither above the width, so their product cannot overflow.
  if (heads == 0 || size == 0 || heads > width || size > width || heads * size != width) {
    std::string expected = absl::StrCat("heads x head size = ", given.heads, " x ", given.size);
    if (given.size == 0) expected = absl::StrCat("a multiple of the ", given.heads, " query heads");
    if (given.heads == 0) expected = absl::StrCat("a multiple of the head size, ", given.size);
    c.Report(width_field, absl::StrCat("a last axis of ", width), expected);
    return {};
  }
  return {heads, size};
}

// The options' wishes against what is known; a limit on each.
void CheckHeadWish(Checker& c, absl::string_view field, std::int64_t wish, std::int64_t known) {
  if (wish != 0 && known != 0 && wish != known) {
    c.Report(field, absl::StrCat(wish), absl::StrCat(known, ", as the shapes or the layer say, or 0"));
  }
}

// `value_field` is empty where the head size decides the value head size.
void CheckDims(Checker& c, absl::string_view tokens_field, absl::string_view keys_field,
               absl::string_view value_field) {
  Dimensions& d = c.spec.dims;
  const Limits& l = c.limits;
  if (d.batch != 0) c.InLimit(absl::StrCat(tokens_field, ".shape"), d.batch, 1, l.max_batch, "batch ");
  if (d.query_tokens != 0) {
    c.InLimit(absl::StrCat(tokens_field, ".shape"), d.query_tokens, 1, l.max_tokens, "tokens ");
  }
  if (d.key_tokens != 0 && keys_field != tokens_field) {
    c.InLimit(absl::StrCat(keys_field, ".shape"), d.key_tokens, 1, l.max_tokens, "tokens ");
  }
  if (d.query_heads != 0) c.InLimit("options.query_heads", d.query_heads, 1, l.max_heads);
  if (d.head_size != 0) c.InLimit("options.head_size", d.head_size, 1, l.max_head_size);
  if (d.value_head_size != 0 && !value_field.empty()) {
    c.InLimit(absl::StrCat(value_field, ".shape"), d.value_head_size, 1, l.max_head_size, "value head size ");
  }
  if (d.query_heads != 0 && d.key_value_heads != 0 && d.query_heads % d.key_value_heads != 0) {
    c.Report("options.key_value_heads", absl::StrCat(d.key_value_heads),
             absl::StrCat("a divisor of the ", d.query_heads, " query heads"));
    d.key_value_heads = 0;
  }
}

// Rank 4 [B, H, T, D]: the shapes decide everything. K or V is null where it is of no use; what can be said of the rest
// is said.
void CheckHeadMajor(Checker& c, const Shape& q, const Shape* k, const Shape* v) {
  CheckHeadWish(c, "options.query_heads", c.request.query_heads, q[1]);
  CheckHeadWish(c, "options.head_size", c.request.head_size, q[3]);
  if (k != nullptr) {
    CheckHeadWish(c, "options.key_value_heads", c.request.key_value_heads, (*k)[1]);
    if ((*k)[0] != q[0] || (*k)[3] != q[3]) {
      c.Report("query_key_value.key.shape", ToString(*k), absl::StrCat("[", q[0], ", Hkv, Tk, ", q[3], "]"));
    }
  }
  if (v == nullptr) return;
  if (k == nullptr) {
    if ((*v)[0] != q[0]) {
      c.Report("query_key_value.value.shape", ToString(*v), absl::StrCat("[", q[0], ", Hkv, Tk, Dv]"));
    }
    return;
  }
  if ((*v)[0] != q[0] || (*v)[1] != (*k)[1] || (*v)[2] != (*k)[2]) {
    c.Report("query_key_value.value.shape", ToString(*v),
             absl::StrCat("[", q[0], ", ", (*k)[1], ", ", (*k)[2], ", Dv]"));
  }
  c.spec.layout = HeadLayout::kHeadMajor;
  c.spec.dims = {q[0], q[1], (*k)[1], q[2], (*k)[2], q[3], (*v)[3]};
}

// Rank 3 [B, T, H x D] and rank 2 [T, H x D]: the options say how the width is split.
void CheckTokenMajor(Checker& c, Shape q, Shape k, Shape v) {
  Dimensions& d = c.spec.dims;
  c.spec.layout = HeadLayout::kTokenMajor;
  c.spec.batched = q.size() == 3;
  for (Shape* shape : {&q, &k, &v}) {
    if (!c.spec.batched) shape->insert(shape->begin(), 1);
  }
  d.batch = q[0];
  d.query_tokens = q[1];
  d.key_tokens = k[1];
  const HeadSplit split =
      SplitWidth(c, "query_key_value.query.shape", q[2], {c.request.query_heads, c.request.head_size});
  d.query_heads = split.heads;
  d.head_size = split.size;
  d.key_value_heads = c.request.key_value_heads != 0 ? c.request.key_value_heads : split.heads;
  if (k[0] != q[0] || (d.head_size != 0 && k[2] != d.key_value_heads * d.head_size)) {
    c.Report("query_key_value.key.shape", ToString(k),
             absl::StrCat("batch ", q[0], ", Tk, and a last axis of key/value heads x head size = ", d.key_value_heads,
                          " x ", d.head_size));
  }
  if (v[0] != q[0] || v[1] != k[1] || (d.key_value_heads != 0 && v[2] % d.key_value_heads != 0)) {
    c.Report("query_key_value.value.shape", ToString(v),
             absl::StrCat("batch ", q[0], ", ", k[1], " tokens, and a last axis that ", d.key_value_heads,
                          " key/value heads divide"));
  } else if (d.key_value_heads != 0) {
    d.value_head_size = v[2] / d.key_value_heads;
  }
}

void CheckQueryKeyValue(Checker& c, const QueryKeyValueForm& form) {
  const bool query = c.Numbers("query_key_value.query", form.query, 2, 4);
  const bool key = c.Numbers("query_key_value.key", form.key, 2, 4);
  const bool value = c.Numbers("query_key_value.value", form.value, 2, 4);
  if (!query) return;
  const Shape& q = form.query->shape;
  const auto like_query = [&](bool usable, absl::string_view field, const std::optional<TensorForm>& tensor) {
    if (!usable || tensor->shape.size() == q.size()) return usable ? &tensor->shape : nullptr;
    c.Report(absl::StrCat("query_key_value.", field, ".shape"), ToString(tensor->shape),
             absl::StrCat("rank ", q.size(), ", like the query"));
    return static_cast<const Shape*>(nullptr);
  };
  const Shape* k = like_query(key, "key", form.key);
  const Shape* v = like_query(value, "value", form.value);
  if (q.size() == 4) CheckHeadMajor(c, q, k, v);
  if (q.size() < 4 && k != nullptr && v != nullptr) CheckTokenMajor(c, q, *k, *v);
  CheckDims(c, "query_key_value.query", "query_key_value.key", "query_key_value.value");
}

// Fills batch, tokens and widths from the embeddings and the context.
void CheckSources(Checker& c, const SelfAttentionForm& form) {
  Dimensions& d = c.spec.dims;
  ProjectionSpec& p = *c.spec.projection;
  std::size_t rank = 2;
  if (form.embeddings.has_value()) {
    if (!c.Numbers("self_attention.embeddings", form.embeddings, 2, 3)) return;
    const Shape& shape = form.embeddings->shape;
    rank = shape.size();
    d.batch = rank == 3 ? shape[0] : 1;
    d.query_tokens = shape[rank - 2];
    p.width = shape[rank - 1];
  } else {
    p.seeded_embeddings = true;
    p.embeddings_seed = form.embeddings_seed;
    const bool tokens =
        c.InLimit("self_attention.seeded_embeddings.tokens", form.seeded_tokens, 1, c.limits.max_tokens);
    const bool width = c.InLimit("self_attention.seeded_embeddings.width", form.seeded_width, 1, c.limits.max_width);
    if (!tokens || !width) return;
    d.batch = 1;
    d.query_tokens = form.seeded_tokens;
    p.width = form.seeded_width;
  }
  c.spec.batched = rank == 3;
  d.key_tokens = d.query_tokens;
  p.context_width = p.width;
  c.InLimit("self_attention.embeddings.shape", p.width, 1, c.limits.max_width, "width ");
  if (!form.context.has_value()) return;
  p.has_context = true;
  p.context_width = 0;
  d.key_tokens = 0;
  const int context_rank = static_cast<int>(rank);
  if (!c.Numbers("self_attention.context", form.context, context_rank, context_rank)) return;
  const Shape& shape = form.context->shape;
  if (rank == 3 && shape[0] != d.batch) {
    c.Report("self_attention.context.shape", ToString(shape), absl::StrCat("batch ", d.batch));
  }
  d.key_tokens = shape[rank - 2];
  p.context_width = shape[rank - 1];
  c.InLimit("self_attention.context.shape", p.context_width, 1, c.limits.max_width, "width ");
}

// A named layer is the server's own: only what it is applied to can be wrong.
bool CheckNamedWidths(Checker& c, const LayerForm& layer) {
  const ProjectionSpec& p = *c.spec.projection;
  const auto fits = [&c](absl::string_view field, std::int64_t width, const TensorForm& matrix) {
    const std::int64_t rows = matrix.shape[0];
    if (width == rows) return true;
    c.Report(field, absl::StrCat("width ", width), absl::StrCat("width ", rows, ", as the layer has it"));
    return false;
  };
  const bool embeddings = fits("self_attention.embeddings.shape", p.width, *layer.query);
  if (!p.has_context) {
    const std::int64_t rows = layer.key->shape[0];
    if (rows == layer.query->shape[0]) return embeddings;
    c.Report("self_attention.context", absl::StrCat("none, and keys of width ", rows),
             "a context of that width, or a layer whose keys read the embeddings");
    return false;
  }
  return fits("self_attention.context.shape", p.context_width, *layer.key) && embeddings;
}

// One matrix (rank 2) or bias (rank 1) of the layer; `rows` 0: not known. Returns its last axis, 0 where unusable.
std::int64_t CheckWeight(Checker& c, absl::string_view name, const std::optional<TensorForm>& form, int rank,
                         std::int64_t rows) {
  const std::string field = absl::StrCat("self_attention.layer_weights.", name);
  if (!c.Numbers(field, form, rank, rank)) return 0;
  const Shape& shape = form->shape;
  if (rows != 0 && shape[0] != rows) {
    c.Report(absl::StrCat(field, ".shape"), ToString(shape), absl::StrCat(rows, " rows"));
  }
  return shape.back();
}

void CheckBias(Checker& c, absl::string_view name, const std::optional<TensorForm>& form, std::int64_t width) {
  if (!form.has_value()) return;
  const std::int64_t got = CheckWeight(c, name, form, 1, 0);
  if (got != 0 && width != 0 && got != width) {
    c.Report(absl::StrCat("self_attention.layer_weights.", name, ".shape"), ToString(form->shape),
             absl::StrCat("[", width, "]"));
  }
}

// The output matrix and its bias. `rows`: query heads x value head size, 0 where not known.
void CheckOutputWeights(Checker& c, const LayerForm& layer, std::int64_t rows) {
  ProjectionSpec& p = *c.spec.projection;
  if (layer.output.has_value()) {
    p.output_width = CheckWeight(c, "output", layer.output, 2, rows);
    if (p.output_width != 0) {
      c.InLimit("self_attention.layer_weights.output.shape", p.output_width, 1, c.limits.max_width, "width ");
    }
  } else if (layer.output_bias.has_value()) {
    c.Report("self_attention.layer_weights.output_bias", "a tensor", "nothing, without an output matrix");
  }
  CheckBias(c, "output_bias", layer.output_bias, p.output_width);
}

// Heads and widths from matrices that were sent.
void CheckSentLayer(Checker& c, const LayerForm& layer) {
  Dimensions& d = c.spec.dims;
  const ProjectionSpec& p = *c.spec.projection;
  const std::int64_t q = CheckWeight(c, "query", layer.query, 2, p.width);
  const std::int64_t k = CheckWeight(c, "key", layer.key, 2, p.context_width);
  const std::int64_t v = CheckWeight(c, "value", layer.value, 2, p.context_width);
  HeadSplit split;
  if (q != 0) {
    split = SplitWidth(c, "self_attention.layer_weights.query.shape", q, {c.request.query_heads, c.request.head_size});
  }
  d.query_heads = split.heads;
  d.head_size = split.size;
  d.key_value_heads = c.request.key_value_heads != 0 ? c.request.key_value_heads : split.heads;
  if (k != 0 && split.heads != 0 && k != d.key_value_heads * d.head_size) {
    c.Report("self_attention.layer_weights.key.shape", absl::StrCat("a last axis of ", k),
             absl::StrCat("key/value heads x head size = ", d.key_value_heads, " x ", d.head_size));
  }
  if (v != 0 && d.key_value_heads != 0 && v % d.key_value_heads != 0) {
    c.Report("self_attention.layer_weights.value.shape", absl::StrCat("a last axis of ", v),
             absl::StrCat("a multiple of the ", d.key_value_heads, " key/value heads"));
  } else if (v != 0 && d.key_value_heads != 0) {
    d.value_head_size = v / d.key_value_heads;
  }
  CheckBias(c, "query_bias", layer.query_bias, q);
  CheckBias(c, "key_bias", layer.key_bias, k);
  CheckBias(c, "value_bias", layer.value_bias, v);
  CheckOutputWeights(c, layer, d.query_heads * d.value_head_size);
}

// The heads of a layer that does not say them, as the options do. False: they do not fit its matrices.
bool SplitUnsaid(Checker& c, const LayerForm& layer) {
  Dimensions& d = c.spec.dims;
  const std::int64_t width = layer.query->shape.back();
  const HeadSplit split = SplitWidth(c, "self_attention.layer", width, {c.request.query_heads, c.request.head_size});
  if (split.heads == 0) return false;
  const std::int64_t key_width = layer.key->shape.back();
  const std::int64_t fit = key_width / split.size;
  const std::int64_t wish = c.request.key_value_heads;
  if (fit * split.size != key_width || (wish != 0 && wish != fit) || layer.value->shape.back() % fit != 0) {
    c.Report("options.key_value_heads", absl::StrCat(wish),
             absl::StrCat("heads of size ", split.size, " that fill the layer's key width, ", key_width));
    return false;
  }
  d.query_heads = split.heads;
  d.key_value_heads = fit;
  return true;
}

// A named layer is the server's own and was checked when it was made: its kind need not be the request's.
void CheckNamedLayer(Checker& c, const LayerForm& layer) {
  Dimensions& d = c.spec.dims;
  ProjectionSpec& p = *c.spec.projection;
  if (p.width == 0 || p.context_width == 0 || !CheckNamedWidths(c, layer)) return;
  d.query_heads = layer.query_heads;
  d.key_value_heads = layer.key_value_heads;
  if (d.query_heads == 0 && !SplitUnsaid(c, layer)) return;
  d.head_size = layer.query->shape.back() / d.query_heads;
  d.value_head_size = layer.value->shape.back() / d.key_value_heads;
  if (layer.output.has_value()) p.output_width = layer.output->shape.back();
  CheckHeadWish(c, "options.query_heads", c.request.query_heads, d.query_heads);
  CheckHeadWish(c, "options.key_value_heads", c.request.key_value_heads, d.key_value_heads);
  CheckHeadWish(c, "options.head_size", c.request.head_size, d.head_size);
}

// Seeded weights are as large as the options and the embeddings say.
void CheckSeededWeights(Checker& c) {
  Dimensions& d = c.spec.dims;
  ProjectionSpec& p = *c.spec.projection;
  if (p.width == 0) return;
  HeadSplit split{c.request.query_heads, c.request.head_size};
  if (split.heads == 0 || split.size == 0) split = SplitWidth(c, "self_attention.embeddings.shape", p.width, split);
  d.query_heads = split.heads;
  d.head_size = split.size;
  d.key_value_heads = c.request.key_value_heads != 0 ? c.request.key_value_heads : split.heads;
  d.value_head_size = split.size;
  p.output_width = p.width;
}

void CheckSelfAttention(Checker& c, const SelfAttentionForm& form) {
  c.spec.projection.emplace();
  c.spec.projection->weights = form.weights;
  c.spec.projection->weights_seed = form.weights_seed;
  CheckSources(c, form);
  switch (form.weights) {
    case WeightsSource::kExplicit:
      if (form.layer.has_value()) CheckSentLayer(c, *form.layer);
      break;
    case WeightsSource::kNamed:
      if (form.layer_name.empty() || static_cast<std::int64_t>(form.layer_name.size()) > c.limits.max_string_bytes) {
        c.Report("self_attention.layer", absl::StrCat(form.layer_name.size(), " bytes"),
                 absl::StrCat("1 to ", c.limits.max_string_bytes, " bytes"));
      }
      if (form.layer.has_value()) CheckNamedLayer(c, *form.layer);
      break;
    case WeightsSource::kSeeded: CheckSeededWeights(c); break;
  }
  CheckDims(c, "self_attention.embeddings",
            c.spec.projection->has_context ? "self_attention.context" : "self_attention.embeddings",
            form.weights == WeightsSource::kSeeded ? "" : "self_attention.layer_weights.value");
  if (!form.embeddings.has_value()) c.kind_known = true;  // float32, unless a tensor said otherwise
}

}  // namespace

void CheckInput(Checker& c) {
  if (const auto* qkv = std::get_if<QueryKeyValueForm>(&c.request.input)) CheckQueryKeyValue(c, *qkv);
  if (const auto* self = std::get_if<SelfAttentionForm>(&c.request.input)) CheckSelfAttention(c, *self);
  // Limits hold whatever the input is, and are told even where it does not say what is meant.
  const Dimensions& d = c.spec.dims;
  if (d.query_heads == 0) c.InLimit("options.query_heads", c.request.query_heads, 0, c.limits.max_heads);
  if (d.query_heads == 0) c.InLimit("options.key_value_heads", c.request.key_value_heads, 0, c.limits.max_heads);
  if (d.head_size == 0) c.InLimit("options.head_size", c.request.head_size, 0, c.limits.max_head_size);
}

}  // namespace headlight
