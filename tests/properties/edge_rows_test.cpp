// SPDX-License-Identifier: Apache-2.0
// Rows that see nothing, numbers that are none, scores that are huge or tiny.
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

bool any_nan(const Buffer& x, int64_t b, int64_t h, int64_t i) {
  for (int64_t c = 0; c < x.shape[3]; ++c) {
    if (std::isnan(x.get(b, h, i, c))) return true;
  }
  return false;
}

void expect_row(const Buffer& x, int64_t b, int64_t h, int64_t i, double value) {
  for (int64_t c = 0; c < x.shape[3]; ++c) EXPECT_EQ(x.get(b, h, i, c), value) << "row " << i;
}

TEST(EdgeRows, RowWithoutVisibleKeyIsZeroWithLseMinusInfinity) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      SCOPED_TRACE(isa + dtype);
      AttentionData x("hq=2 hkv=1 n=100 m=37 d=24 e=40 mask=causal dlse=1" + dtype);
      x.run(isa);  // queries 0 to 62 see nothing
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t i = 0; i < 63; ++i) {
          expect_row(x.o, 0, h, i, 0);
          expect_row(x.lse, 0, h, i, -kInfinity);
          expect_row(x.dq, 0, h, i, 0);
        }
        for (int64_t i = 63; i < 100; ++i) EXPECT_TRUE(std::isfinite(x.lse.get(0, h, i, 0)));
      }
    }
  }
}

TEST(EdgeRows, RowWithoutVisibleKeyAddsNothingWhateverItHolds) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      const std::string line = "hq=2 hkv=1 n=100 m=37 d=24 e=40 mask=causal dlse=1" + dtype;
      AttentionData clean(line), nans(line);
      for (int64_t h = 0; h < 2; ++h) {
        for (int64_t i = 0; i < 63; ++i) {
          nans.q.set_row(0, h, i, kNaN);
          nans.grad_o.set_row(0, h, i, kInfinity);
          nans.grad_lse.set_row(0, h, i, kNaN);
        }
      }
      clean.run(isa);
      nans.run(isa);
      EXPECT_EQ(differences(clean, nans), "") << isa << dtype;
    }
  }
}

TEST(EdgeRows, BiasOfMinusInfinityInAWholeRowIsAnEmptyRow) {
  for (const std::string& isa : available_isas()) {
    AttentionData x("n=20 m=50 d=16 e=16 bias=nk");
    for (int64_t j = 0; j < 50; ++j) x.bias.set(0, 0, 7, j, -kInfinity);
    x.run(isa);
    expect_row(x.o, 0, 0, 7, 0);
    expect_row(x.lse, 0, 0, 7, -kInfinity);
    expect_row(x.dq, 0, 0, 7, 0);
    for (int64_t j = 0; j < 50; ++j) EXPECT_EQ(x.dbias.get(0, 0, 7, j), 0);
    EXPECT_TRUE(std::isfinite(x.lse.get(0, 0, 6, 0)));
  }
}

TEST(EdgeRows, NoKeysAtAll) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      AttentionData x("b=2 hq=2 n=5 m=0 d=8 e=8" + dtype);
      x.run(isa);
      for (double value : x.o.values()) EXPECT_EQ(value, 0);
      for (double value : x.lse.values()) EXPECT_EQ(value, -kInfinity);
      for (double value : x.dq.values()) EXPECT_EQ(value, 0);
      AttentionData none("b=2 hq=2 n=0 m=5 d=8 e=8" + dtype);
      none.run(isa);
      for (double value : none.dk.values()) EXPECT_EQ(value, 0);
      for (double value : none.dv.values()) EXPECT_EQ(value, 0);
    }
  }
}

// Keys that a window hides from every query, and the -inf columns of a bias.
TEST(EdgeRows, NotANumberAtMaskedPairsIsNotObservable) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (double bad : {kNaN, kInfinity}) {
        const std::string line = "hq=2 hkv=2 n=40 m=150 d=40 e=24 mask=window:20,0" + dtype;
        AttentionData clean(line), nans(line);
        for (int64_t h = 0; h < 2; ++h) {
          for (int64_t j = 0; j < 90; ++j) {
            nans.k.set_row(0, h, j, bad);
            nans.v.set_row(0, h, j, bad);
          }
        }
        clean.run(isa);
        nans.run(isa);
        EXPECT_EQ(differences(clean, nans), "") << isa << dtype << " " << bad;

        const std::string biased = "n=70 m=70 d=40 e=24 bias=k" + dtype;
        AttentionData hidden(biased), bad_hidden(biased);
        for (int64_t j = 3; j < 70; j += 7) {
          hidden.bias.set(0, 0, 0, j, -kInfinity);
          bad_hidden.bias.set(0, 0, 0, j, -kInfinity);
          bad_hidden.k.set_row(0, 0, j, bad);
          bad_hidden.v.set_row(0, 0, j, bad);
        }
        hidden.run(isa);
        bad_hidden.run(isa);
        EXPECT_EQ(differences(hidden, bad_hidden), "") << isa << dtype << " " << bad;
      }
    }
  }
}

TEST(EdgeRows, NaNInAKeyReachesExactlyTheRowsThatSeeIt) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (int64_t bad : {0, 50, 63, 64, 99}) {
        const std::string line = "hq=2 hkv=1 n=100 m=100 d=40 e=24 mask=window:30,0" + dtype;
        AttentionData clean(line), nan_key(line), nan_value(line);
        nan_key.k.set(0, 0, bad, 39, kNaN);
        nan_value.v.set(0, 0, bad, 23, kNaN);
        clean.run(isa);
        nan_key.run(isa);
        nan_value.run(isa);
        for (int64_t h = 0; h < 2; ++h) {
          for (int64_t i = 0; i < 100; ++i) {
            SCOPED_TRACE(isa + dtype + " key " + std::to_string(bad) + " row " + std::to_string(i));
            const bool sees = bad <= i && i <= bad + 30;
            EXPECT_EQ(any_nan(nan_key.o, 0, h, i), sees);
            EXPECT_EQ(any_nan(nan_key.lse, 0, h, i), sees);
            EXPECT_EQ(any_nan(nan_key.dq, 0, h, i), sees);
            EXPECT_EQ(any_nan(nan_value.o, 0, h, i), sees);
            EXPECT_EQ(any_nan(nan_value.dq, 0, h, i), sees);
            EXPECT_FALSE(any_nan(nan_value.lse, 0, h, i));
            if (sees) continue;
            EXPECT_EQ(nan_key.o.row_bits(0, h, i), clean.o.row_bits(0, h, i));
            EXPECT_EQ(nan_key.dq.row_bits(0, h, i), clean.dq.row_bits(0, h, i));
            EXPECT_EQ(nan_value.o.row_bits(0, h, i), clean.o.row_bits(0, h, i));
            EXPECT_EQ(nan_value.dq.row_bits(0, h, i), clean.dq.row_bits(0, h, i));
          }
        }
        // Rows that see key `bad` are NaN; their gradient reaches every key that one of them sees.
        for (int64_t j = 0; j < 100; ++j) {
          const bool shares_a_row = std::abs(j - bad) <= 30;
          EXPECT_EQ(any_nan(nan_key.dk, 0, 0, j), shares_a_row) << isa << dtype << " " << j;
          if (!shares_a_row) {
            EXPECT_EQ(nan_key.dk.row_bits(0, 0, j), clean.dk.row_bits(0, 0, j)) << isa << dtype;
            EXPECT_EQ(nan_key.dv.row_bits(0, 0, j), clean.dv.row_bits(0, 0, j)) << isa << dtype;
          }
        }
      }
    }
  }
}

TEST(EdgeRows, NaNInAQueryStaysInItsRow) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      const std::string line = "n=70 m=70 d=40 e=24 mask=causal" + dtype;
      AttentionData clean(line), nans(line);
      nans.q.set(0, 0, 33, 0, kNaN);
      clean.run(isa);
      nans.run(isa);
      for (int64_t i = 0; i < 70; ++i) {
        SCOPED_TRACE(isa + dtype + " row " + std::to_string(i));
        EXPECT_EQ(any_nan(nans.o, 0, 0, i), i == 33);
        if (i == 33) continue;
        EXPECT_EQ(nans.o.row_bits(0, 0, i), clean.o.row_bits(0, 0, i));
        EXPECT_EQ(nans.dq.row_bits(0, 0, i), clean.dq.row_bits(0, 0, i));
      }
    }
  }
}

// The score of key 5 stands out by far: the row is its value, LSE is its score.
TEST(EdgeRows, HugeScoresStayFiniteAndPickTheLargest) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      for (double size : {1e2, 3162.0}) {  // scores of 1e4 and 1e7
        AttentionData x("n=33 m=90 d=1 e=16 scale=1" + dtype);
        for (int64_t i = 0; i < 33; ++i) x.q.set(0, 0, i, 0, size);
        for (int64_t j = 0; j < 90; ++j) x.k.set(0, 0, j, 0, j == 5 ? size : -size);
        const double score = x.q.get(0, 0, 0, 0) * x.k.get(0, 0, 5, 0);
        x.run(isa);
        for (int64_t i = 0; i < 33; ++i) {
          SCOPED_TRACE(isa + dtype);
          EXPECT_NEAR(x.lse.get(0, 0, i, 0), score, 4e-7 * score);
          for (int64_t c = 0; c < 16; ++c) {
            const double v = x.v.get(0, 0, 5, c);
            EXPECT_NEAR(x.o.get(0, 0, i, c), v,
                        std::abs(v) * (dtype == " dtype=bf16" ? 0.008 : 1e-3));
          }
        }
        for (double value : x.dq.values()) EXPECT_TRUE(std::isfinite(value)) << isa << dtype;
        for (double value : x.dk.values()) EXPECT_TRUE(std::isfinite(value)) << isa << dtype;
      }
    }
  }
}

// Tile products take whole groups of keys and all their lanes, of which a range may hide some
// without a masked unit.
TEST(EdgeRows, NaNBehindTheEdgeOfARange) {
  for (const char* line :
       {"n=62 m=62 mask=\"k < 40\" nan=unseen", "n=5 m=62 mask=\"k < 40\" nan=unseen",
        "n=62 m=96 mask=\"k >= 8\" nan=unseen", "n=48 m=64 mask=\"k < 32 or q >= 16\" nan=value",
        "n=48 m=64 mask=\"k < 32 or q < 16\" nan=value"}) {
    for (int seed = 1; seed <= 3; ++seed) {
      const std::string text =
          std::string("d=16 e=20 dtype=bf16 ") + line + " seed=" + std::to_string(seed);
      verify::Experiment experiment(verify::case_from_text(text));
      for (const std::string& isa : available_isas())
        EXPECT_EQ(experiment.run(isa, 1).failure, "") << isa << " " << text;
    }
  }
}

TEST(EdgeRows, EqualScoresGiveTheMeanHoweverLargeTheyAre) {
  for (const std::string& isa : available_isas()) {
    for (double size : {0.0, 1e-30, 1.0, 100.0, 3162.0}) {
      AttentionData x("n=3 m=64 d=1 e=4 scale=1");
      for (int64_t i = 0; i < 3; ++i) x.q.set(0, 0, i, 0, size);
      for (int64_t j = 0; j < 64; ++j) x.k.set(0, 0, j, 0, size);
      x.run(isa);
      for (int64_t c = 0; c < 4; ++c) {
        double mean = 0;
        for (int64_t j = 0; j < 64; ++j) mean += x.v.get(0, 0, j, c) / 64;
        EXPECT_NEAR(x.o.get(0, 0, 1, c), mean, 1e-6) << isa << " " << size;
      }
      EXPECT_NEAR(x.lse.get(0, 0, 1, 0), size * size + std::log(64.0), 1e-6 + 4e-7 * size * size);
    }
  }
}

TEST(EdgeRows, SubnormalInputsAreOrdinaryNumbers) {
  for (const std::string& isa : available_isas()) {
    AttentionData x("n=17 m=33 d=8 e=8");
    x.q.fill_normal(1, 1e-40);
    x.k.fill_normal(2, 1e-40);
    x.v.fill_normal(3, 1e-40);
    x.run(isa);
    for (int64_t i = 0; i < 17; ++i) {
      EXPECT_NEAR(x.lse.get(0, 0, i, 0), std::log(33.0), 1e-6) << isa;
      for (int64_t c = 0; c < 8; ++c) {
        double mean = 0;
        for (int64_t j = 0; j < 33; ++j) mean += x.v.get(0, 0, j, c) / 33;
        EXPECT_NEAR(x.o.get(0, 0, i, c), mean, 1e-43) << isa;
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::test
