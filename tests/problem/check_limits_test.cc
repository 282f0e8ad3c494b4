// The limits at one below, exactly and one above; and sizes that would overflow whatever is computed with them.
#include <cmath>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "tests/problem/requests.h"

namespace headlight {
namespace {

struct LimitCase {
  const char* what;
  std::int64_t limit;
  ProblemRequest (*make)(std::int64_t size);
  std::string field;
  ErrorReason reason = ErrorReason::kRequestTooExpensive;
};

ProblemRequest WithSize(std::int64_t Dimensions::*size, std::int64_t value) {
  Dimensions d = {1, 1, 1, 1, 1, 2, 2};
  d.*size = value;
  return HeadMajorRequest(d);
}

ProblemRequest WithEmbeddings(Shape shape) {
  ProblemRequest request = NamedRequest();
  Weights(request).query = FormOf({shape.back(), 32});
  Weights(request).key = FormOf({shape.back(), 16});
  Weights(request).value = FormOf({shape.back(), 12});
  Self(request).embeddings = FormOf(std::move(shape));
  return request;
}

ProblemRequest WithContext(Shape shape) {
  ProblemRequest request = CrossRequest();
  Weights(request).key = FormOf({shape.back(), 16});
  Weights(request).value = FormOf({shape.back(), 12});
  Self(request).context = FormOf(std::move(shape));
  return request;
}

ProblemRequest WithSeeds(std::int64_t tokens, std::int64_t width) {
  ProblemRequest request = SeededRequest();
  Self(request).seeded_tokens = tokens;
  Self(request).seeded_width = width;
  request.head_size = 8;
  return request;
}

ProblemRequest WithMap(const MapForm& map, std::int64_t count = 1) {
  ProblemRequest request = HeadMajorRequest();
  request.outputs.maps.assign(static_cast<std::size_t>(count), map);
  return request;
}

const LimitCase kCases[] = {
    {"batch", 64, [](std::int64_t n) { return WithSize(&Dimensions::batch, n); }, "query_key_value.query.shape"},
    {"query tokens", 16384, [](std::int64_t n) { return WithSize(&Dimensions::query_tokens, n); },
     "query_key_value.query.shape"},
    {"key tokens", 16384, [](std::int64_t n) { return WithSize(&Dimensions::key_tokens, n); },
     "query_key_value.key.shape"},
    {"query heads", 128, [](std::int64_t n) { return WithSize(&Dimensions::query_heads, n); }, "options.query_heads"},
    {"head size", 512, [](std::int64_t n) { return WithSize(&Dimensions::head_size, n); }, "options.head_size"},
    {"value head size", 512, [](std::int64_t n) { return WithSize(&Dimensions::value_head_size, n); },
     "query_key_value.value.shape"},
    {"batch of embeddings", 64,
     [](std::int64_t n) {
       return WithEmbeddings({n, 5, 16});
     },
     "self_attention.embeddings.shape"},
    {"tokens of embeddings", 16384,
     [](std::int64_t n) {
       return WithEmbeddings({n, 16});
     },
     "self_attention.embeddings.shape"},
    {"width of embeddings", 16384,
     [](std::int64_t n) {
       return WithEmbeddings({5, n});
     },
     "self_attention.embeddings.shape"},
    {"tokens of the context", 16384,
     [](std::int64_t n) {
       return WithContext({2, n, 12});
     },
     "self_attention.context.shape"},
    {"width of the context", 16384,
     [](std::int64_t n) {
       return WithContext({2, 7, n});
     },
     "self_attention.context.shape"},
    {"width of the output", 16384,
     [](std::int64_t n) {
       ProblemRequest request = LayerRequest();
       Weights(request).output = FormOf({24, n});
       return request;
     },
     "self_attention.layer_weights.output.shape"},
    {"head size of value weights", 512,
     [](std::int64_t n) {
       ProblemRequest request = LayerRequest();
       Weights(request).value = FormOf({16, 2 * n});
       Weights(request).output.reset();
       return request;
     },
     "self_attention.layer_weights.value.shape"},
    {"seeded tokens", 16384, [](std::int64_t n) { return WithSeeds(n, 16); },
     "self_attention.seeded_embeddings.tokens"},
    {"seeded width", 16384, [](std::int64_t n) { return WithSeeds(5, n); }, "self_attention.seeded_embeddings.width"},
    {"seeded head size", 512,
     [](std::int64_t n) {
       ProblemRequest request = WithSeeds(5, 16);
       request.head_size = n;
       return request;
     },
     "options.head_size"},
    {"maps", 8, [](std::int64_t n) { return WithMap({}, n); }, "outputs.maps"},
    {"row ranges", 64,
     [](std::int64_t n) {
       return WithMap({{}, {}, std::vector<Range>(static_cast<std::size_t>(n), Range{0, 1}), {}, {}});
     },
     "outputs.maps[0].rows"},
    {"top keys", 1024,
     [](std::int64_t n) {
       return WithMap({{}, {}, {}, {}, n});
     },
     "outputs.maps[0].top_keys.k"},
    {"verified rows", 64,
     [](std::int64_t n) {
       ProblemRequest request = HeadMajorRequest();
       request.outputs.verify_rows = n;
       return request;
     },
     "outputs.verify_rows"},
    {"bytes of a label", 128,
     [](std::int64_t n) {
       ProblemRequest request = HeadMajorRequest();
       request.tokens.assign(5, "x");
       request.tokens[2].assign(static_cast<std::size_t>(n), 'x');
       return request;
     },
     "tokens[2]", ErrorReason::kInvalidRequest},
    {"bytes of a layer's name", 128,
     [](std::int64_t n) {
       ProblemRequest request = NamedRequest();
       Self(request).layer_name.assign(static_cast<std::size_t>(n), 'x');
       return request;
     },
     "self_attention.layer", ErrorReason::kInvalidRequest},
};

TEST(Limits, AllowTheLimitAndNoMore) {
  for (const LimitCase& row : kCases) {
    SCOPED_TRACE(row.what);
    EXPECT_TRUE(CheckProblem(row.make(row.limit - 1), Limits()).ok());
    EXPECT_TRUE(CheckProblem(row.make(row.limit), Limits()).ok())
        << CheckProblem(row.make(row.limit), Limits()).status();
    const absl::Status status = CheckProblem(row.make(row.limit + 1), Limits()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(FieldsOf(status), std::vector<std::string>{row.field});
    EXPECT_EQ(DetailsOf(status).reason, row.reason);
  }
}

TEST(Limits, OfOffsetsAndSoftcapsAllowTheLastNumberAndNoMore) {
  const auto fields_of = [](std::optional<std::int64_t> offset, std::optional<double> softcap) {
    ProblemRequest request = HeadMajorRequest();
    request.position.query_offset = offset;
    request.mask.causal = CausalForm{CausalAlignment::kExplicit, offset.value_or(0)};
    request.softcap = softcap;
    return FieldsOf(CheckProblem(request, Limits()).status());
  };
  using Fields = std::vector<std::string>;
  const std::int64_t bound = std::int64_t{1} << 31;
  for (const std::int64_t sign : {-1, 1}) {
    EXPECT_EQ(fields_of(sign * (bound - 1), {}), Fields());
    EXPECT_EQ(fields_of(sign * bound, {}), (Fields{"options.position.query_offset", "options.mask.causal.offset"}));
  }
  for (const double edge : {1e-30, 1e30}) {
    EXPECT_EQ(fields_of({}, edge), Fields());
    EXPECT_EQ(fields_of({}, std::nextafter(edge, edge < 1 ? 0 : INFINITY)), Fields{"options.softcap"});
  }
}

// Every tensor that a request can bring, right but for a byte.
TEST(Limits, RefuseAByteTooFewOrTooMany) {
  ProblemRequest given = HeadMajorRequest();
  given.mask.tensor = FormOf({7}, TensorKind::kBool);
  ProblemRequest projected = CrossRequest();
  LayerForm& layer = Weights(projected);
  layer.query_bias = FormOf({layer.query->shape[1]});
  layer.key_bias = FormOf({layer.key->shape[1]});
  layer.value_bias = FormOf({layer.value->shape[1]});
  layer.output_bias = FormOf({kOutputWidth});
  projected.position.kind = PositionKind::kLearned;
  projected.position.table = FormOf({9, kWidth});
  projected.position.query_offset = 0;
  const std::string weights = "self_attention.layer_weights.";
  const std::tuple<ProblemRequest*, std::optional<TensorForm>*, std::string> tensors[] = {
      {&given, &Qkv(given).query, "query_key_value.query"},
      {&given, &Qkv(given).key, "query_key_value.key"},
      {&given, &Qkv(given).value, "query_key_value.value"},
      {&given, &given.mask.tensor, "options.mask.tensor"},
      {&projected, &Self(projected).embeddings, "self_attention.embeddings"},
      {&projected, &Self(projected).context, "self_attention.context"},
      {&projected, &layer.query, weights + "query"},
      {&projected, &layer.key, weights + "key"},
      {&projected, &layer.value, weights + "value"},
      {&projected, &layer.output, weights + "output"},
      {&projected, &layer.query_bias, weights + "query_bias"},
      {&projected, &layer.key_bias, weights + "key_bias"},
      {&projected, &layer.value_bias, weights + "value_bias"},
      {&projected, &layer.output_bias, weights + "output_bias"},
      {&projected, &projected.position.table, "options.position.learned.table"}};
  for (const auto& [request, tensor, field] : tensors) {
    const std::int64_t right = (*tensor)->payload_bytes.value();
    EXPECT_TRUE(CheckProblem(*request, Limits()).ok()) << CheckProblem(*request, Limits()).status();
    for (const std::int64_t off : {-1, 1}) {
      (*tensor)->payload_bytes = right + off;
      EXPECT_EQ(FieldsOf(CheckProblem(*request, Limits()).status()), std::vector<std::string>{field + ".data"});
    }
    (*tensor)->payload_bytes = right;
  }
}

TEST(Limits, BoundTheElementsOfEveryTensor) {
  const std::pair<std::int64_t, std::string> largest[] = {
      {320, "query_key_value.query.shape"}, {224, "query_key_value.key.shape"}, {168, "query_key_value.value.shape"}};
  std::vector<std::string> fields;
  for (const auto& [elements, field] : largest) {
    Limits limits;
    limits.max_tensor_elements = elements - 1;
    fields.push_back(field);
    const absl::Status status = CheckProblem(HeadMajorRequest(), limits).status();
    EXPECT_EQ(FieldsOf(status), fields);
    EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kRequestTooExpensive);
  }
  Limits limits;
  limits.max_tensor_elements = 320;
  EXPECT_TRUE(CheckProblem(HeadMajorRequest(), limits).ok());
}

TEST(Limits, AreThoseOfTheServerNotConstants) {
  Limits limits;
  limits.max_batch = 1;
  limits.max_heads = 3;
  limits.max_head_size = 5;
  limits.max_tokens = 4;
  EXPECT_EQ(FieldsOf(CheckProblem(HeadMajorRequest(), limits).status()),
            (std::vector<std::string>{"query_key_value.query.shape", "query_key_value.query.shape",
                                      "query_key_value.key.shape", "options.query_heads", "options.head_size",
                                      "query_key_value.value.shape"}));
}

TEST(Limits, SayTheLimitAndWhatWasAsked) {
  const ErrorDetails details = DetailsOf(CheckProblem(WithSize(&Dimensions::batch, 65), Limits()).status());
  ASSERT_EQ(details.violations.size(), 1U);
  EXPECT_EQ(details.violations[0].got, "batch 65");
  EXPECT_EQ(details.violations[0].expected, "1 to 64");
}

constexpr std::int64_t kTwo31 = std::int64_t{1} << 31;
constexpr std::int64_t kTwo32 = std::int64_t{1} << 32;

// A place for a tensor of a request, and how it is filled.
struct Place {
  const char* field;
  std::size_t rank;
  ProblemRequest (*fill)(TensorForm form);
};

template <std::optional<TensorForm> LayerForm::*kMember>
ProblemRequest InLayer(TensorForm form) {
  ProblemRequest request = LayerRequest();
  Weights(request).*kMember = std::move(form);
  return request;
}

template <std::optional<TensorForm> QueryKeyValueForm::*kMember>
ProblemRequest InQueryKeyValue(TensorForm form) {
  ProblemRequest request = HeadMajorRequest();
  Qkv(request).*kMember = std::move(form);
  return request;
}

template <std::optional<TensorForm> SelfAttentionForm::*kMember>
ProblemRequest InSelfAttention(TensorForm form) {
  ProblemRequest request = CrossRequest();
  Self(request).*kMember = std::move(form);
  return request;
}

const Place kPlaces[] = {
    {"query_key_value.query", 4, InQueryKeyValue<&QueryKeyValueForm::query>},
    {"query_key_value.key", 3, InQueryKeyValue<&QueryKeyValueForm::key>},
    {"query_key_value.value", 2, InQueryKeyValue<&QueryKeyValueForm::value>},
    {"self_attention.embeddings", 3, InSelfAttention<&SelfAttentionForm::embeddings>},
    {"self_attention.embeddings", 2, InSelfAttention<&SelfAttentionForm::embeddings>},
    {"self_attention.context", 3, InSelfAttention<&SelfAttentionForm::context>},
    {"self_attention.layer_weights.query", 2, InLayer<&LayerForm::query>},
    {"self_attention.layer_weights.key", 2, InLayer<&LayerForm::key>},
    {"self_attention.layer_weights.value", 2, InLayer<&LayerForm::value>},
    {"self_attention.layer_weights.output", 2, InLayer<&LayerForm::output>},
    {"self_attention.layer_weights.query_bias", 1, InLayer<&LayerForm::query_bias>},
    {"self_attention.layer_weights.output_bias", 1, InLayer<&LayerForm::output_bias>},
    {"options.position.learned.table", 2,
     [](TensorForm form) {
       ProblemRequest request = LayerRequest();
       request.position.kind = PositionKind::kLearned;
       request.position.table = std::move(form);
       return request;
     }},
    {"options.mask.tensor", 4,
     [](TensorForm form) {
       ProblemRequest request = HeadMajorRequest();
       request.mask.tensor = std::move(form);
       return request;
     }},
};

TEST(Limits, RefuseShapesWhoseProductWouldWrapAround) {
  const Shape shapes[] = {{kMostInt},           {kTwo31, kTwo31}, {kTwo32, kTwo32}, {kTwo32, kTwo31},
                          {kMostInt, kMostInt}, {kMostInt, 2},    {1, kMostInt},    {(std::int64_t{1} << 62) + 1, 4}};
  for (const Place& place : kPlaces) {
    for (const Shape& huge : shapes) {
      if (huge.size() > place.rank) continue;
      Shape shape(place.rank - huge.size(), 1);
      shape.insert(shape.end(), huge.begin(), huge.end());
      SCOPED_TRACE(absl::StrCat(place.field, " ", ToString(shape)));
      const absl::Status status = CheckProblem(place.fill(FormOf(shape)), Limits()).status();
      EXPECT_EQ(FieldsOf(status), std::vector<std::string>{absl::StrCat(place.field, ".shape")});
      EXPECT_EQ(DetailsOf(status).reason, ErrorReason::kRequestTooExpensive);
    }
  }
}

// Whatever the numbers: an answer within the limits or a refusal, and (under the sanitizer) no overflow on the way.
TEST(Limits, SurviveEveryCombinationOfExtremeOptions) {
  const std::int64_t extremes[] = {0, 1, 2, 3, kTwo31 - 1, kTwo31, kMostUint32};
  const ProblemRequest bases[] = {HeadMajorRequest(), TokenMajorRequest(), LayerRequest(), NamedRequest(),
                                  SeededRequest()};
  const Limits limits;
  int refused = 0;
  for (ProblemRequest request : bases) {
    request.position.kind = PositionKind::kRotary;
    request.position.query_offset = request.position.key_offset = 0;
    request.mask.causal = CausalForm{CausalAlignment::kBottomRight, {}};
    for (const std::int64_t heads : extremes) {
      for (const std::int64_t key_heads : extremes) {
        for (const std::int64_t size : extremes) {
          request.query_heads = heads;
          request.key_value_heads = key_heads;
          request.head_size = request.position.rotary_size = size;
          const absl::StatusOr<ProblemSpec> spec = CheckProblem(request, limits);
          if (!spec.ok()) {
            EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
            ++refused;
            continue;
          }
          const Dimensions& d = spec->dims;
          EXPECT_TRUE(d.query_heads >= 1 && d.query_heads <= limits.max_heads) << d.query_heads;
          EXPECT_TRUE(d.head_size >= 1 && d.head_size <= limits.max_head_size) << d.head_size;
          EXPECT_EQ(d.query_heads % d.key_value_heads, 0);
          EXPECT_EQ(spec->position.rotary_size % 2, 0);
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

// The side that is given by offset is written out where the other is given one by one.
TEST(Limits, SurviveAnExtremeOffsetBesidePositions) {
  for (const std::int64_t offset : {kLeastInt, kMostInt}) {
    ProblemRequest request = HeadMajorRequest();
    request.position.query_offset = offset;
    request.position.key_positions.assign(7, 0);
    EXPECT_EQ(FieldsOf(CheckProblem(request, Limits()).status()),
              std::vector<std::string>{"options.position.query_offset"});
  }
}

TEST(Limits, SurviveExtremeTokensWidthsAndOffsets) {
  const std::int64_t extremes[] = {kLeastInt, -kTwo32, -1, 0, kTwo31, kTwo32, kMostInt};
  for (const std::int64_t a : extremes) {
    for (const std::int64_t b : extremes) {
      ProblemRequest seeded = SeededRequest();
      Self(seeded).seeded_tokens = a;
      Self(seeded).seeded_width = b;
      EXPECT_EQ(FieldsOf(CheckProblem(seeded, Limits()).status()),
                (std::vector<std::string>{"self_attention.seeded_embeddings.tokens",
                                          "self_attention.seeded_embeddings.width"}));
      ProblemRequest learned = LayerRequest();
      learned.position.kind = PositionKind::kLearned;
      learned.position.table = FormOf({9, kWidth});
      learned.position.query_offset = a;
      learned.position.key_offset = b;
      EXPECT_EQ(CheckProblem(learned, Limits()).ok(), a == 0 && b == 0);
    }
  }
}

}  // namespace
}  // namespace headlight
