// SPDX-License-Identifier: Apache-2.0
// Gradients of the library against central differences of its own forward, in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/attention_data.h"
#include "tilewise/attention.h"

namespace tilewise::test {
namespace {

// sum(dO * O) + sum(dLSE * LSE), over the rows that see a key.
double loss(AttentionData& x, const std::string& isa) {
  x.run_forward(isa);
  double sum = 0;
  for (int64_t b = 0; b < x.c.batch; ++b)
    for (int64_t h = 0; h < x.c.query_heads; ++h)
      for (int64_t i = 0; i < x.c.query_length; ++i) {
        const double lse = x.lse.get(b, h, i, 0);
        if (!std::isfinite(lse)) continue;
        if (x.c.has_grad_logsumexp) sum += x.grad_lse.get(b, h, i, 0) * lse;
        for (int64_t c = 0; c < x.c.value_dim; ++c)
          sum += x.grad_o.get(b, h, i, c) * x.o.get(b, h, i, c);
      }
  return sum;
}

void expect_gradient(AttentionData& x, Buffer AttentionData::*input, const Buffer& expected,
                     const std::string& isa, const std::string& name) {
  Buffer& values = x.*input;
  const int64_t* shape = values.shape;
  for (int64_t b = 0; b < shape[0]; ++b)
    for (int64_t h = 0; h < shape[1]; ++h)
      for (int64_t i = 0; i < shape[2]; i += 3)  // every third row
        for (int64_t c = 0; c < shape[3]; ++c) {
          const double value = values.get(b, h, i, c), step = 1e-5;
          if (!std::isfinite(value)) continue;
          values.set(b, h, i, c, value + step);
          const double above = loss(x, isa);
          values.set(b, h, i, c, value - step);
          const double below = loss(x, isa);
          values.set(b, h, i, c, value);
          ASSERT_NEAR(expected.get(b, h, i, c), (above - below) / (2 * step), 2e-8)
              << name << " [" << b << "," << h << "," << i << "," << c << "]";
        }
}

TEST(Gradients, AreThoseOfTheForward) {
  for (const std::string line : {
           "hq=2 hkv=1 n=7 m=19 d=5 e=3 mask=causal dlse=1",
           "hq=2 hkv=2 n=19 m=7 d=4 e=5 mask=causal",
           "b=2 hq=2 hkv=1 n=6 m=20 d=3 e=4 mask=window:4,3 bias=k dlse=1",
           "hq=2 hkv=2 n=5 m=18 d=3 e=3 bias=hnk scale=0.7",
           "b=2 n=4 m=5 d=2 e=2 mask=causal-top-left qoff=1 bias=bnk",
           "b=2 hq=2 hkv=1 n=19 m=7 d=3 e=4 mask=causal sink=normal dlse=1",
       }) {
    const std::string isa = available_isas().front();  // float64 is one kernel everywhere
    SCOPED_TRACE(line);
    AttentionData x(line + " dtype=fp64");
    x.run(isa);
    const Buffer dq = x.dq, dk = x.dk, dv = x.dv, dbias = x.dbias,
                 dsink = x.dsink;  // further runs overwrite them
    expect_gradient(x, &AttentionData::q, dq, isa, "grad_query");
    expect_gradient(x, &AttentionData::k, dk, isa, "grad_key");
    expect_gradient(x, &AttentionData::v, dv, isa, "grad_value");
    if (x.c.bias != "none") expect_gradient(x, &AttentionData::bias, dbias, isa, "grad_bias");
    expect_gradient(x, &AttentionData::sink, dsink, isa, "grad_sink");
  }
}

// Shifting every score of a row by t shifts LSE by t: the gradient of bias over a row sums to dLSE.
TEST(Gradients, OfLogsumexpSumToItselfOverARow) {
  for (const std::string& isa : available_isas()) {
    AttentionData x("n=40 m=90 d=16 e=16 mask=causal bias=nk dlse=1");
    x.run(isa);
    for (int64_t i = 0; i < 40; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < 90; ++j) sum += x.dbias.get(0, 0, i, j);
      EXPECT_NEAR(sum, x.grad_lse.get(0, 0, i, 0), 2e-5) << isa << " row " << i;
    }
  }
}

// Rows of P sum to one: the gradient of value, summed over keys, is dO summed over rows.
TEST(Gradients, OfValueSumToThoseOfTheOutput) {
  for (const std::string& isa : available_isas()) {
    AttentionData x("n=50 m=70 d=16 e=8 mask=causal");
    x.run(isa);
    for (int64_t c = 0; c < 8; ++c) {
      double values = 0, outputs = 0;
      for (int64_t j = 0; j < 70; ++j) values += x.dv.get(0, 0, j, c);
      for (int64_t i = 0; i < 50; ++i) outputs += x.grad_o.get(0, 0, i, c);
      EXPECT_NEAR(values, outputs, 1e-4) << isa;
    }
  }
}

}  // namespace
}  // namespace tilewise::test
