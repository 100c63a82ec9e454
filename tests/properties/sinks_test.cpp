// SPDX-License-Identifier: Apache-2.0
// One more score for every row of a head, whose value is 0.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "support/attention_data.h"
#include "tilewise/attention.h"
#include "verify/case.h"
#include "verify/experiment.h"

namespace tilewise::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
const char* const kDTypes[] = {" dtype=fp32", " dtype=bf16", " dtype=fp16", " dtype=fp64"};

bool is_nan(const Buffer& x, int64_t head) {
  for (int64_t b = 0; b < x.shape[0]; ++b)
    for (int64_t i = 0; i < x.shape[2]; ++i)
      for (int64_t c = 0; c < x.shape[3]; ++c)
        if (!std::isnan(x.get(b, head, i, c))) return false;
  return true;
}

void set_all(Buffer& sink, double value) {
  for (int64_t h = 0; h < sink.shape[1]; ++h) sink.set(0, h, 0, 0, value);
}

// Rows that see nothing, a mask, a bias and a score; one chunk of keys and several.
TEST(Sinks, WithinTheErrorOfNaive) {
  for (const std::string dtype : kDTypes) {
    for (const char* kind : {"normal", "large", "small", "minusinf", "mixed"}) {
      for (const char* shape :
           {"hq=6 hkv=3 n=40 m=25 d=24 e=40 mask=causal dlse=1",
            "hq=3 hkv=3 n=20 m=34 d=16 e=16 mask=window:9,2 bias=hk biasinf=0.2",
            "b=2 hq=6 hkv=2 n=3 m=30 d=24 e=40 mask=causal score=softcap:cap=5 dlse=1",
            "hq=3 hkv=1 n=1 m=1100 d=8 e=8 values=growing"}) {
        const std::string line = shape + dtype + " sink=" + kind;
        verify::Experiment experiment(verify::case_from_text(line));
        for (const std::string& isa : available_isas())
          EXPECT_EQ(experiment.run(isa, 2).failure, "") << isa << " " << line;
      }
    }
  }
}

// All probabilities of a row may lie below 2^-100, and its gradients with them.
TEST(Sinks, ThatTakeNearlyAllOfARowLeaveItsGradients) {
  const std::string line =
      "n=129 m=98 d=64 e=64 dtype=bf16 mask=\"k <= q and (k < 4 or q - k <= window)\" score=\"s + "
      "bias[h % 4, k // 9 % 31] * bias[(h + 1) % 4, abs(q - k) // 8 % 31]\" scale=0.19580078125 "
      "bias=hnk sink=mixed seed=3467395435";
  verify::Experiment experiment(verify::case_from_text(line));
  for (const std::string& isa : available_isas())
    EXPECT_EQ(experiment.run(isa, 2).failure, "") << isa;
}

TEST(Sinks, ARowThatSeesNothingHasTheSinkForLse) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (const char* lengths : {"n=100 m=37", "n=5 m=0", "n=3 m=0", "n=16 m=9"}) {
        AttentionData x("b=2 hq=2 hkv=1 d=24 e=40 mask=causal sink=normal dlse=1 " +
                        std::string(lengths) + dtype);
        SCOPED_TRACE(isa + dtype + " " + lengths);
        const int64_t empty = x.c.query_length - x.c.kv_length;  // the first rows
        x.sink.set(0, 1, 0, 0, 1e30);
        for (int64_t i = 0; i < empty; ++i)
          for (int64_t b = 0; b < 2; ++b) x.grad_o.set_row(b, 0, i, kNaN);
        x.run(isa);
        double grad = 0;
        for (int64_t b = 0; b < 2; ++b)
          for (int64_t i = 0; i < empty; ++i) {
            for (int64_t h = 0; h < 2; ++h) {
              EXPECT_EQ(x.lse.get(b, h, i, 0), x.sink.get(0, h, 0, 0));
              for (int64_t c = 0; c < 40; ++c) EXPECT_EQ(x.o.get(b, h, i, c), 0);
              for (int64_t c = 0; c < 24; ++c) EXPECT_EQ(x.dq.get(b, h, i, c), 0);
            }
            grad += x.grad_lse.get(b, 1, i, 0);
          }
        // The other rows of head 1 see the sink alone too: it outweighs every key.
        for (int64_t b = 0; b < 2; ++b)
          for (int64_t i = empty; i < x.c.query_length; ++i) grad += x.grad_lse.get(b, 1, i, 0);
        EXPECT_NEAR(x.dsink.get(0, 1, 0, 0), grad, 1e-5 * (1 + std::abs(grad)));
        EXPECT_TRUE(std::isfinite(x.dsink.get(0, 0, 0, 0)));
      }
    }
  }
}

TEST(Sinks, FarBelowEveryScoreAreNone) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (const char* lengths : {" n=40 m=50", " n=50 m=40", " n=2 m=1100"}) {
        const std::string line = "hq=2 hkv=1 d=24 e=40 mask=causal dlse=1" + dtype + lengths;
        AttentionData none(line), with(line + " sink=normal");
        none.run(isa);
        for (const double value : {-kInfinity, -1e6, -1e30}) {
          SCOPED_TRACE(isa + line + " sink " + std::to_string(value));
          if (value > -kInfinity && with.c.query_length > with.c.kv_length) continue;
          set_all(with.sink, value);
          with.run(isa);
          EXPECT_EQ(with.dsink.get(0, 0, 0, 0), 0);
          EXPECT_EQ(with.dsink.get(0, 1, 0, 0), 0);
          with.dsink = {};
          EXPECT_EQ(differences(none, with), "");
          with.dsink = Buffer(none.c.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32,
                              {}, 1, 2, 1, 1);
        }
      }
    }
  }
}

TEST(Sinks, FarAboveEveryScoreTakeAll) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (const char* lengths : {" n=40 m=50", " n=2 m=1100"}) {
        AttentionData x("hq=2 hkv=1 d=24 e=40 mask=causal sink=normal" + dtype + lengths);
        for (const double value : {1e4, 1e6, 3e6, 3e38}) {
          SCOPED_TRACE(isa + dtype + lengths + " sink " + std::to_string(value));
          set_all(x.sink, value);
          x.run(isa);
          const double sink = x.sink.get(0, 0, 0, 0);
          for (const double lse : x.lse.values()) EXPECT_NEAR(lse, sink, 1e-7 * sink);
          for (const Buffer* zero : {&x.o, &x.dq, &x.dk, &x.dv, &x.dsink})
            for (const double number : zero->values()) EXPECT_EQ(number, 0);
        }
      }
    }
  }
}

TEST(Sinks, NaNReachesExactlyItsHead) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (const double value : {kNaN, kInfinity}) {
        for (const char* lengths : {" n=30 m=40", " n=2 m=1100"}) {
          const std::string line = "hq=4 hkv=2 d=8 e=8 sink=normal" + dtype + lengths;
          SCOPED_TRACE(isa + line);
          AttentionData clean(line), nans(line);
          nans.sink.set(0, 1, 0, 0, value);
          clean.run(isa);
          nans.run(isa);
          for (const Buffer* x : {&nans.o, &nans.lse, &nans.dq, &nans.dsink})
            EXPECT_TRUE(is_nan(*x, 1));
          EXPECT_TRUE(is_nan(nans.dk, 0) && is_nan(nans.dv, 0));  // of the heads 0 and 1
          for (const int64_t h : {0, 2, 3})
            for (int64_t i = 0; i < nans.c.query_length; ++i) {
              EXPECT_EQ(nans.o.row_bits(0, h, i), clean.o.row_bits(0, h, i));
              EXPECT_EQ(nans.lse.row_bits(0, h, i), clean.lse.row_bits(0, h, i));
              EXPECT_EQ(nans.dq.row_bits(0, h, i), clean.dq.row_bits(0, h, i));
              EXPECT_EQ(nans.dsink.row_bits(0, h, 0), clean.dsink.row_bits(0, h, 0));
            }
          for (int64_t j = 0; j < nans.c.kv_length; ++j)
            EXPECT_EQ(nans.dk.row_bits(0, 1, j), clean.dk.row_bits(0, 1, j));
        }
      }
    }
  }
}

// A further key 0 whose value is 0 and whose score comes from a bias.
TEST(Sinks, AreAKeyWhoseValueIsZero) {
  for (const std::string lengths : {" n=40 m=", " n=3 m="}) {
    const std::string line = "b=2 hq=4 hkv=2 d=16 e=24 dtype=fp64 dlse=1" + lengths;
    AttentionData x(line + "50 sink=normal bias=hk"), y(line + "51 bias=hk");
    for (Buffer AttentionData::*same :
         {&AttentionData::q, &AttentionData::grad_o, &AttentionData::grad_lse})
      (y.*same).copy_from(x.*same);
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t h = 0; h < 2; ++h) {
        y.k.set_row(b, h, 0, 0), y.v.set_row(b, h, 0, 0);
        for (int64_t j = 0; j < 50; ++j) {
          for (int64_t c = 0; c < 16; ++c) y.k.set(b, h, j + 1, c, x.k.get(b, h, j, c));
          for (int64_t c = 0; c < 24; ++c) y.v.set(b, h, j + 1, c, x.v.get(b, h, j, c));
        }
      }
    for (int64_t h = 0; h < 4; ++h) {
      y.bias.set(0, h, 0, 0, x.sink.get(0, h, 0, 0));
      for (int64_t j = 0; j < 50; ++j) y.bias.set(0, h, 0, j + 1, x.bias.get(0, h, 0, j));
    }
    const std::string isa = available_isas().front();  // float64 is one kernel everywhere
    x.run(isa);
    y.run(isa);
    const auto expect_near = [](const Buffer& a, const Buffer& b) {
      const std::vector<double> p = a.values(), q = b.values();
      ASSERT_EQ(p.size(), q.size());
      for (size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(p[i], q[i], 1e-12);
    };
    expect_near(x.o, y.o);
    expect_near(x.lse, y.lse);
    expect_near(x.dq, y.dq);
    for (int64_t h = 0; h < 4; ++h)
      EXPECT_NEAR(x.dsink.get(0, h, 0, 0), y.dbias.get(0, h, 0, 0), 1e-12);
  }
}

}  // namespace
}  // namespace tilewise::test
