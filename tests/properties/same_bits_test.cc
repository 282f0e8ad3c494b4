// The same request gives the same bits: with one thread or several, alone or in a batch.
#include <gtest/gtest.h>

#include "tests/support/oracle.h"

namespace headlight {
namespace {

using oracle::Bind;
using oracle::Problem;
using oracle::RunEngine;

std::vector<Problem> Problems() {
  Problem qkv;
  qkv.hq = 4;
  qkv.tq = 201;
  qkv.tk = 777;
  qkv.rank = 3;
  Problem embeddings;
  embeddings.hq = 4;
  embeddings.tq = embeddings.tk = 77;
  embeddings.e = 40;
  embeddings.eo = 300;
  embeddings.causal = CausalAlignment::kTopLeft;
  embeddings.position.kind = PositionKind::kRotary;
  Problem halves = qkv;
  halves.kind = TensorKind::kBF16;
  return {qkv, embeddings, halves};
}

std::string BytesOf(const oracle::Bound& bound, Algorithm algorithm, int threads) {
  const auto ran = RunEngine(bound, algorithm, threads);
  EXPECT_TRUE(ran.ok()) << ran.status();
  return (*ran)->result.output.bytes;
}

TEST(SameBits, WhateverTheNumberOfThreads) {
  for (const Problem& p : Problems()) {
    SCOPED_TRACE(p.Describe());
    const auto bound = Bind(p);
    for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
      const std::string one = BytesOf(*bound, algorithm, 1);
      for (const int threads : {2, 3, 7}) EXPECT_EQ(BytesOf(*bound, algorithm, threads), one) << threads << " threads";
    }
  }
}

TEST(SameBits, AloneOrInABatch) {
  for (Problem p : Problems()) {
    SCOPED_TRACE(p.Describe());
    p.b = 3;
    const auto batch = Bind(p);
    p.b = 1;
    for (std::size_t b = 0; b < 3; ++b) {
      const auto alone = Bind(p);
      const auto take = [b](const OwnedTensor& from, OwnedTensor& to) {
        to.bytes.assign(from.bytes, b * to.bytes.size(), to.bytes.size());
      };
      take(batch->query, alone->query);
      take(batch->key, alone->key);
      take(batch->value, alone->value);
      take(batch->embeddings, alone->embeddings);
      for (auto pair : {std::pair(&batch->wq, &alone->wq), std::pair(&batch->wk, &alone->wk),
                        std::pair(&batch->wv, &alone->wv), std::pair(&batch->wo, &alone->wo)}) {
        pair.second->bytes = pair.first->bytes;
      }
      // The views were made when the strings were; assigning may have moved short ones.
      alone->data.query = alone->query.view();
      alone->data.key = alone->key.view();
      alone->data.value = alone->value.view();
      alone->data.embeddings = alone->embeddings.view();
      if (p.e != 0) {
        alone->data.layer.query = alone->wq.view();
        alone->data.layer.key = alone->wk.view();
        alone->data.layer.value = alone->wv.view();
        alone->data.layer.output = alone->wo.view();
      }
      for (const Algorithm algorithm : {Algorithm::kNaive, Algorithm::kFlash}) {
        const std::string whole = BytesOf(*batch, algorithm, 2);
        const std::string one = BytesOf(*alone, algorithm, 2);
        EXPECT_EQ(whole.substr(b * one.size(), one.size()), one) << "batch " << b;
      }
    }
  }
}

}  // namespace
}  // namespace headlight
