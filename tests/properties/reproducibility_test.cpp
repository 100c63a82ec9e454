// SPDX-License-Identifier: Apache-2.0
// The same bits, whoever computes them and whatever is computed beside them.
#include <gtest/gtest.h>

#include <string>

#include "support/attention_data.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"

namespace tilewise::test {
namespace {

const char* const kProblems[] = {
    "b=2 hq=4 hkv=2 n=150 m=163 d=64 e=64 mask=causal dlse=1",
    "b=2 hq=4 hkv=2 n=150 m=163 d=64 e=64 mask=causal dtype=bf16",
    "b=2 hq=4 hkv=2 n=300 m=263 d=16 e=16 mask=causal sink=normal dlse=1",
    "b=2 hq=3 hkv=1 n=97 m=131 d=40 e=72 mask=window:50,3 bias=nk",
    "b=1 hq=4 hkv=4 n=200 m=77 d=33 e=17 dtype=fp16 bias=hk",
    "b=1 hq=1 hkv=1 n=300 m=300 d=64 e=64 dtype=bf16",
    "b=2 hq=3 hkv=1 n=3 m=2100 d=24 e=16 mask=causal sink=normal",
    "b=1 hq=4 hkv=1 n=5 m=2300 d=32 e=32 mask=window:1200,0 bias=hk dtype=bf16",
    "b=1 hq=4 hkv=2 n=150 m=163 d=64 e=64 mask=causal dropout=0.1 qoff=5 koff=3",
    "b=1 hq=4 hkv=2 n=150 m=163 d=64 e=64 mask=causal dropout=0.1 dtype=bf16",
    "b=1 hq=4 hkv=1 n=5 m=2300 d=32 e=32 dropout=0.1 dtype=bf16",
};

TEST(Reproducibility, ThreadsDoNotChangeBits) {
  for (const std::string& isa : isas_to_run_on_threads()) {
    for (const std::string line : kProblems) {
      AttentionData one(line), many(line);
      one.run(isa, 1);
      for (int threads : {2, 3, 8}) {
        many.run(isa, threads);
        EXPECT_EQ(differences(one, many), "") << isa << ", " << threads << " threads: " << line;
      }
    }
  }
}

TEST(Reproducibility, HundredRunsHaveTheSameBits) {
  const std::string line = "b=1 hq=4 hkv=2 n=129 m=161 d=64 e=64 mask=causal bias=k dlse=1";
  for (const std::string& isa : isas_to_run_on_threads()) {
    AttentionData first(line), again(line);
    first.run(isa, 4);
    for (int n = 0; n < (kThreadSanitizer ? 10 : 100); ++n) {
      again.run(isa, 4);
      ASSERT_EQ(differences(first, again), "") << isa << ", run " << n;
    }
  }
}

// Entry (b, h) of a batch, alone.
AttentionData alone(const AttentionData& all, const std::string& line, int64_t b, int64_t kv_head) {
  AttentionData one(line);
  const int64_t group = all.c.query_heads / all.c.kv_heads;
  const auto take = [&](Buffer& to, const Buffer& from, int64_t first_head) {
    for (int64_t h = 0; h < to.shape[1]; ++h)
      for (int64_t i = 0; i < to.shape[2]; ++i)
        for (int64_t c = 0; c < to.shape[3]; ++c)
          to.set(0, h, i, c, from.get(b, first_head + h, i, c));
  };
  take(one.q, all.q, kv_head * group);
  take(one.grad_o, all.grad_o, kv_head * group);
  take(one.k, all.k, kv_head);
  take(one.v, all.v, kv_head);
  return one;
}

TEST(Reproducibility, BatchAndOtherHeadsDoNotChangeBits) {
  for (const std::string& isa : isas_to_run_on_threads()) {
    for (const std::string tail :
         {" n=130 m=99 d=64 e=48 mask=causal", " n=67 m=140 d=64 e=48 mask=causal dtype=bf16",
          " n=2 m=2100 d=16 e=24 mask=causal"}) {
      AttentionData all("b=3 hq=4 hkv=2" + tail);
      all.run(isa, 2);
      for (int64_t b = 0; b < 3; ++b) {
        for (int64_t kv_head = 0; kv_head < 2; ++kv_head) {
          AttentionData one = alone(all, "hq=2" + tail, b, kv_head);
          one.run(isa);
          for (int64_t h = 0; h < 2; ++h) {
            for (int64_t i = 0; i < one.c.query_length; ++i) {
              const int64_t head = 2 * kv_head + h;
              ASSERT_EQ(one.o.row_bits(0, h, i), all.o.row_bits(b, head, i)) << isa << tail;
              ASSERT_EQ(one.lse.row_bits(0, h, i), all.lse.row_bits(b, head, i)) << isa << tail;
              ASSERT_EQ(one.dq.row_bits(0, h, i), all.dq.row_bits(b, head, i)) << isa << tail;
            }
          }
          for (int64_t j = 0; j < one.c.kv_length; ++j) {
            ASSERT_EQ(one.dk.row_bits(0, 0, j), all.dk.row_bits(b, kv_head, j)) << isa << tail;
            ASSERT_EQ(one.dv.row_bits(0, 0, j), all.dv.row_bits(b, kv_head, j)) << isa << tail;
          }
        }
      }
    }
  }
}

TEST(Reproducibility, NeighboursDoNotChangeBits) {
  const std::string line = "b=2 hq=2 hkv=2 n=70 m=90 d=32 e=32 mask=causal";
  for (const std::string& isa : isas_to_run_on_threads()) {
    AttentionData first(line), other(line);
    first.run(isa);
    for (int64_t h = 0; h < 2; ++h) {  // batch entry 1 becomes something else
      for (int64_t i = 0; i < 70; ++i)
        other.q.set_row(1, h, i, 1e6), other.grad_o.set_row(1, h, i, 3);
      for (int64_t j = 0; j < 90; ++j) other.k.set_row(1, h, j, -7), other.v.set_row(1, h, j, 1e5);
    }
    for (int64_t i = 0; i < 35; ++i) other.q.set_row(0, 0, 2 * i, 9);  // so do neighbouring queries
    other.run(isa);
    for (int64_t i = 0; i < 70; ++i) {
      EXPECT_EQ(first.o.row_bits(0, 1, i), other.o.row_bits(0, 1, i)) << isa;
      EXPECT_EQ(first.dq.row_bits(0, 1, i), other.dq.row_bits(0, 1, i)) << isa;
      if (i % 2 == 0) continue;
      EXPECT_EQ(first.o.row_bits(0, 0, i), other.o.row_bits(0, 0, i)) << isa;
      EXPECT_EQ(first.dq.row_bits(0, 0, i), other.dq.row_bits(0, 0, i)) << isa;
    }
    for (int64_t j = 0; j < 90; ++j) {
      EXPECT_EQ(first.dk.row_bits(0, 1, j), other.dk.row_bits(0, 1, j)) << isa;
    }
  }
}

// Query i of a prefill of n tokens sees keys 0 to i: the same as one query over i + 1 keys.
TEST(Reproducibility, RowOfAPrefillIsTheRowComputedAlone) {
  for (const std::string& isa : isas_to_run_on_threads()) {
    for (const std::string tail : {" hq=2 d=64 e=64 mask=causal samebits=1",
                                   " hq=2 d=80 e=48 mask=causal dtype=bf16 sink=normal samebits=1",
                                   " hq=2 d=24 e=24 mask=window:37,0 dtype=fp16 samebits=1"}) {
      AttentionData prefill("n=180 m=180" + tail);
      prefill.run(isa);
      for (int64_t i : {0, 1, 15, 16, 31, 47, 63, 64, 65, 100, 127, 128, 150, 179}) {
        AttentionData row("n=1 m=" + std::to_string(i + 1) + tail);
        for (int64_t c = 0; c < row.c.head_dim; ++c)
          for (int64_t h = 0; h < 2; ++h) row.q.set(0, h, 0, c, prefill.q.get(0, h, i, c));
        for (int64_t c = 0; c < row.c.value_dim; ++c)
          for (int64_t h = 0; h < 2; ++h)
            row.grad_o.set(0, h, 0, c, prefill.grad_o.get(0, h, i, c));
        for (int64_t j = 0; j <= i; ++j) {
          for (int64_t c = 0; c < row.c.head_dim; ++c)
            row.k.set(0, 0, j, c, prefill.k.get(0, 0, j, c));
          for (int64_t c = 0; c < row.c.value_dim; ++c)
            row.v.set(0, 0, j, c, prefill.v.get(0, 0, j, c));
        }
        row.run(isa);
        for (int64_t h = 0; h < 2; ++h) {
          EXPECT_EQ(row.o.row_bits(0, h, 0), prefill.o.row_bits(0, h, i))
              << isa << tail << " row " << i;
          EXPECT_EQ(row.lse.row_bits(0, h, 0), prefill.lse.row_bits(0, h, i))
              << isa << tail << " row " << i;
          EXPECT_EQ(row.dq.row_bits(0, h, 0), prefill.dq.row_bits(0, h, i))
              << isa << tail << " row " << i;
        }
      }
    }
  }
}

// The last rows of a step of many queries, computed again as a step of few.
void expect_last_rows(const std::string& tail, int64_t few, int64_t keys, bool same) {
  for (const std::string& isa : isas_to_run_on_threads()) {
    const std::string lengths = " m=" + std::to_string(keys);
    AttentionData many("n=20" + lengths + tail), last("n=" + std::to_string(few) + lengths + tail);
    many.run_forward(isa);
    last.k.copy_from(many.k), last.v.copy_from(many.v);
    for (int64_t h = 0; h < many.c.query_heads; ++h)
      for (int64_t i = 0; i < few; ++i)
        for (int64_t c = 0; c < many.c.head_dim; ++c)
          last.q.set(0, h, i, c, many.q.get(0, h, 20 - few + i, c));
    last.run_forward(isa, 3);
    bool equal = true;
    for (int64_t h = 0; h < many.c.query_heads; ++h)
      for (int64_t i = 0; i < few; ++i)
        equal = equal && last.o.row_bits(0, h, i) == many.o.row_bits(0, h, 20 - few + i) &&
                last.lse.row_bits(0, h, i) == many.lse.row_bits(0, h, 20 - few + i);
    // The scalar kernel stands for all: others may agree by chance.
    if (same || isa == "scalar") {
      EXPECT_EQ(equal, same) << isa << tail << ", " << few << " queries";
    }
  }
}

TEST(Reproducibility, FewQueriesHaveTheBitsOfPrefillOnRequest) {
  for (const std::string tail : {" hq=4 hkv=2 d=32 e=32 mask=causal samebits=1",
                                 " hq=3 hkv=1 d=50 e=33 mask=window:900,0 sink=normal samebits=1",
                                 " hq=4 hkv=1 d=64 e=80 mask=causal dtype=bf16 samebits=1",
                                 " hq=2 hkv=2 d=40 e=40 dtype=fp16 samebits=1"})
    for (int64_t few : {1, 5, 16}) expect_last_rows(tail, few, 1200, true);
}

TEST(Reproducibility, FewQueriesHaveTheBitsOfPrefillWithinOneChunkOfKeys) {
  expect_last_rows(" hq=4 hkv=2 d=64 e=64 mask=causal", 3, 1024, true);
  // The other way round, so that the option is known to matter.
  expect_last_rows(" hq=4 hkv=2 d=64 e=64 mask=causal", 3, 2200, false);
}

TEST(Reproducibility, LongerSequencesDoNotChangeTheFirstRows) {
  for (const std::string& isa : isas_to_run_on_threads()) {
    for (const std::string tail : {" d=64 e=64 mask=causal", " d=64 e=64 mask=causal dtype=bf16",
                                   " d=64 e=64 mask=causal sink=normal"}) {
      AttentionData longest("n=200 m=200" + tail);
      longest.run_forward(isa);
      for (int64_t length : {1, 17, 64, 127, 129, 199}) {
        const std::string size = std::to_string(length);
        AttentionData prefix("n=" + size + " m=" + size + tail);
        for (Buffer AttentionData::*member :
             {&AttentionData::q, &AttentionData::k, &AttentionData::v}) {
          (prefix.*member).copy_from(longest.*member);
        }
        prefix.run_forward(isa);
        for (int64_t i = 0; i < length; ++i) {
          ASSERT_EQ(prefix.o.row_bits(0, 0, i), longest.o.row_bits(0, 0, i)) << isa << " row " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::test
