// SPDX-License-Identifier: Apache-2.0
// Which pairs forward and backward drop, read off their results and compared with the definition,
// pair by pair. With K and V of zeros and ones O, dV and dQ show the single pairs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/reference/dropout.h"
#include "support/attention_data.h"
#include "tilewise/attention.h"

namespace tilewise::test {
namespace {

// Row i of every matrix: 1 at column i - first, 0 elsewhere.
void set_identity(Buffer& x, int64_t first = 0) {
  for (int64_t b = 0; b < x.shape[0]; ++b)
    for (int64_t h = 0; h < x.shape[1]; ++h)
      for (int64_t i = 0; i < x.shape[2]; ++i) {
        x.set_row(b, h, i, 0);
        if (i >= first && i < first + x.shape[3]) x.set(b, h, i, i - first, 1);
      }
}

void set_all(Buffer& x, double value) {
  for (int64_t b = 0; b < x.shape[0]; ++b)
    for (int64_t h = 0; h < x.shape[1]; ++h)
      for (int64_t i = 0; i < x.shape[2]; ++i) x.set_row(b, h, i, value);
}

bool is_dropped(const verify::Case& c, int64_t b, int64_t h, int64_t q, int64_t k) {
  return reference::dropout_factor(c.dropout, *verify::dropout_seed(c), c.batch_offset + b,
                                   c.head_offset + h, c.query_offset + q, c.key_offset + k) == 0;
}

// The visible pairs for which shows_kept(b, h, q, k), of a result, differs from the definition.
template <class Sees, class ShowsKept>
int64_t wrong_pairs(const verify::Case& c, int64_t first_key, int64_t last_key, const Sees& sees,
                    const ShowsKept& shows_kept) {
  int64_t wrong = 0;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.query_heads; ++h)
      for (int64_t q = 0; q < c.query_length; ++q)
        for (int64_t k = first_key; k < last_key; ++k)
          wrong += sees(q, k) && shows_kept(b, h, q, k) == is_dropped(c, b, h, q, k);
  return wrong;
}

const auto kAll = [](int64_t, int64_t) { return true; };

struct Shape {
  std::string line;
  bool (*sees)(int64_t q, int64_t k);
};

// Offsets within cells of 16 pairs, at their borders, beyond 32 bits; full, banded and programmed
// tiles; one and several heads.
const Shape kShapes[] = {
    {"hq=2 hkv=2 n=130 m=160 dropout=0.3", kAll},
    {"b=2 hq=4 hkv=2 n=33 m=70 dropout=0.5 qoff=5 koff=11 boff=2 hoff=3", kAll},
    {"n=97 m=120 dropout=0.1 qoff=8589934599 koff=17179869191 hoff=4294967296", kAll},
    {"n=160 m=160 dropout=0.4 mask=causal qoff=16 koff=16",
     [](int64_t q, int64_t k) { return k <= q; }},
    {"n=100 m=140 dropout=0.4 mask=\"q // 32 % 2 == k // 32 % 2\"",
     [](int64_t q, int64_t k) { return q / 32 % 2 == k / 32 % 2; }},
    {"n=70 m=90 dropout=0.9999847412109375", kAll},
};
constexpr const char* kDTypes[] = {" dtype=fp32", " dtype=bf16", " dtype=fp16", " dtype=fp64"};

// d and e, in that order.
std::string dims(int64_t d, int64_t e) {
  return " d=" + std::to_string(d) + " e=" + std::to_string(e);
}

// P is the same for all keys, so O of row q and column k is 0 exactly where the pair is dropped.
TEST(Dropout, ForwardDropsWhatTheDefinitionSays) {
  for (const std::string& isa : available_isas()) {
    for (const Shape& shape : kShapes) {
      for (const std::string dtype : kDTypes) {
        const int64_t m = verify::case_from_text(shape.line).kv_length;
        AttentionData data(shape.line + dtype + dims(4, m));
        set_all(data.q, 0);
        set_identity(data.v);
        data.run_forward(isa, 2);
        EXPECT_EQ(wrong_pairs(data.c, 0, m, shape.sees,
                              [&](int64_t b, int64_t h, int64_t q, int64_t k) {
                                return data.o.get(b, h, q, k) != 0;
                              }),
                  0)
            << isa << ": " << shape.line << dtype;
      }
    }
  }
}

// Of many keys, which come in chunks, O shows those around where a chunk ends.
constexpr int64_t kShown = 70;
TEST(Dropout, FewQueriesDropWhatTheDefinitionSays) {
  for (const std::string& isa : available_isas()) {
    for (const std::string line : {"hq=6 hkv=2 n=3 m=1100 dropout=0.3 qoff=14 koff=5 boff=1",
                                   "hq=5 hkv=1 n=1 m=1100 dropout=0.3 qoff=1499",
                                   "hq=4 hkv=1 n=16 m=1100 dropout=0.5 hoff=7",
                                   "n=16 m=300 dropout=0.3 qoff=3 samebits=1"}) {
      for (const std::string dtype : kDTypes) {
        AttentionData data(line + dtype + dims(4, kShown));
        const int64_t m = data.c.kv_length, first = m - 110;
        set_all(data.q, 0);
        set_identity(data.v, first);
        data.run_forward(isa, 2);
        EXPECT_EQ(wrong_pairs(data.c, first, first + kShown, kAll,
                              [&](int64_t b, int64_t h, int64_t q, int64_t k) {
                                return data.o.get(b, h, q, k - first) != 0;
                              }),
                  0)
            << isa << ": " << line << dtype;
      }
    }
  }
}

// dV = (Z o P)^T dO: with dO = I its column q shows which keys query q drops.
TEST(Dropout, GradientOfTheValueDropsWhatTheDefinitionSays) {
  for (const std::string& isa : available_isas()) {
    for (const Shape& shape : kShapes) {
      for (const std::string dtype : kDTypes) {
        const verify::Case sizes = verify::case_from_text(shape.line);
        if (sizes.query_heads > sizes.kv_heads) continue;  // dV is the sum over heads
        AttentionData data(shape.line + dtype + dims(4, sizes.query_length));
        set_all(data.q, 0);
        set_identity(data.grad_o);
        data.run(isa, 2);
        EXPECT_EQ(wrong_pairs(data.c, 0, sizes.kv_length, shape.sees,
                              [&](int64_t b, int64_t h, int64_t q, int64_t k) {
                                return data.dv.get(b, h, k, q) != 0;
                              }),
                  0)
            << isa << ": " << shape.line << dtype;
      }
    }
  }
}

// dS = P (Z - O) with V = dO = 1 in one dim, where O is the mean of Z: negative where the pair is
// dropped, else positive, unless all pairs of the row are alike. With K = I dQ is dS.
TEST(Dropout, GradientOfTheScoresDropsWhatTheDefinitionSays) {
  for (const std::string& isa : available_isas()) {
    for (const Shape& shape : kShapes) {
      for (const std::string dtype : kDTypes) {
        const int64_t m = verify::case_from_text(shape.line).kv_length;
        AttentionData data(shape.line + dtype + dims(m, 1));
        set_all(data.q, 0);
        set_identity(data.k);
        set_all(data.v, 1);
        set_all(data.grad_o, 1);
        data.run(isa, 2);
        const verify::Case& c = data.c;
        int64_t wrong = 0, pairs = 0;
        for (int64_t b = 0; b < c.batch; ++b)
          for (int64_t h = 0; h < c.query_heads; ++h)
            for (int64_t q = 0; q < c.query_length; ++q) {
              int64_t visible = 0, dropped = 0, wrong_in_row = 0;
              for (int64_t k = 0; k < m; ++k) {
                if (!shape.sees(q, k)) continue;
                const bool is_gone = is_dropped(c, b, h, q, k);
                ++visible, dropped += is_gone;
                wrong_in_row += is_gone != (data.dq.get(b, h, q, k) < 0);
              }
              if (dropped == 0 || dropped == visible) continue;
              wrong += wrong_in_row, pairs += visible;
            }
        EXPECT_EQ(wrong, 0) << isa << ": " << shape.line << dtype;
        EXPECT_TRUE(pairs > 0 || c.dropout > 0.99) << shape.line;
      }
    }
  }
}

// What is computed in parts, with offsets, are parts of the whole.
TEST(Dropout, PartsHaveTheBitsOfTheWhole) {
  const std::string tail = " d=40 e=24 mask=causal-top-left dropout=0.2 seed=5";
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      AttentionData whole("hq=2 hkv=2 n=150 m=150" + tail + dtype);
      whole.run_forward(isa);
      AttentionData part("n=83 m=150 qoff=37 hoff=1" + tail + dtype);
      for (int64_t i = 0; i < 150; ++i)
        for (int64_t c = 0; c < 40; ++c) {
          part.k.set(0, 0, i, c, whole.k.get(0, 1, i, c));
          if (c < 24) part.v.set(0, 0, i, c, whole.v.get(0, 1, i, c));
          if (i < 83) part.q.set(0, 0, i, c, whole.q.get(0, 1, 37 + i, c));
        }
      part.run_forward(isa);
      for (int64_t i = 0; i < 83; ++i) {
        ASSERT_EQ(part.o.row_bits(0, 0, i), whole.o.row_bits(0, 1, 37 + i)) << isa << dtype << i;
        ASSERT_EQ(part.lse.row_bits(0, 0, i), whole.lse.row_bits(0, 1, 37 + i)) << isa << dtype;
      }
    }
  }
}

TEST(Dropout, LogsumexpIsThatWithoutIt) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      const std::string line = "hq=2 hkv=1 n=120 m=140 d=32 e=32 mask=causal" + dtype;
      AttentionData with(line + " dropout=0.5"), without(line);
      with.run_forward(isa), without.run_forward(isa);
      EXPECT_EQ(with.lse.bits(), without.lse.bits()) << isa << dtype;
      EXPECT_NE(with.o.bits(), without.o.bits()) << isa << dtype;
    }
  }
}

// 0 * NaN: as every visible value, also where all of a row's pairs are dropped.
TEST(Dropout, NaNInADroppedValueReachesTheRowsThatSeeIt) {
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : kDTypes) {
      AttentionData data("n=60 m=60 d=16 e=16 mask=causal dropout=0.9" + dtype);
      data.v.set(0, 0, 20, 3, std::nan(""));
      data.run_forward(isa);
      for (int64_t i = 0; i < 60; ++i)
        ASSERT_EQ(std::isnan(data.o.get(0, 0, i, 3)), i >= 20) << isa << dtype << " row " << i;
    }
  }
}

}  // namespace
}  // namespace tilewise::test
