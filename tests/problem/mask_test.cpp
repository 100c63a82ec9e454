// SPDX-License-Identifier: Apache-2.0
#include "problem/mask.h"

#include <gtest/gtest.h>

#include <limits>

#include "tilewise/error.h"

namespace tilewise {
namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

struct Rule {
  Mask mask;
  bool (*sees)(int64_t q, int64_t k, int64_t N, int64_t M, int64_t q0, int64_t k0);
};

// The definitions of problem.h, written out once more.
const Rule kRules[] = {
    {{}, [](int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) { return true; }},
    {causal(), [](int64_t q, int64_t k, int64_t N, int64_t M, int64_t,
                  int64_t) { return k - q - (M - N) <= 0; }},
    {causal_top_left(), [](int64_t q, int64_t k, int64_t, int64_t, int64_t q0,
                           int64_t k0) { return k0 + k <= q0 + q; }},
    {window(2, 1), [](int64_t q, int64_t k, int64_t N, int64_t M, int64_t,
                      int64_t) { return -2 <= k - q - (M - N) && k - q - (M - N) <= 1; }},
    {window(0, 0), [](int64_t q, int64_t k, int64_t N, int64_t M, int64_t,
                      int64_t) { return k - q - (M - N) == 0; }},
};

TEST(Mask, BandAndPairsAgreeWithTheDefinitionOnEverySmallShape) {
  for (const Rule& rule : kRules) {
    for (int64_t N = 0; N <= 7; ++N) {
      for (int64_t M = 0; M <= 7; ++M) {
        for (const int64_t q0 : {0, 3}) {
          for (const int64_t k0 : {0, 2, 9}) {
            const Band band = detail::band_of(rule.mask, N, M, q0, k0);
            int64_t pairs = 0;
            for (int64_t q = 0; q < N; ++q) {
              for (int64_t k = 0; k < M; ++k) {
                const bool sees = rule.sees(q, k, N, M, q0, k0);
                pairs += sees;
                ASSERT_EQ(band.lo <= k - q && k - q <= band.hi, sees)
                    << rule.mask.text() << " " << q << " " << k;
              }
            }
            ASSERT_EQ(detail::visible_pairs(band, N, M), pairs)
                << rule.mask.text() << " " << N << " x " << M;
          }
        }
      }
    }
  }
}

TEST(Mask, PairsOfAnEmptyBandAreZero) { EXPECT_EQ(detail::visible_pairs({1, 0}, 10, 10), 0); }

TEST(Mask, PairsOfLargeShapesDoNotOverflow) {
  const int64_t n = (int64_t{1} << 31) - 1;
  EXPECT_EQ(detail::visible_pairs({}, n, n), n * n);
  EXPECT_EQ(detail::visible_pairs(detail::band_of(causal(), n, n, 0, 0), n, n), n * (n + 1) / 2);
}

TEST(Mask, HugeLimitsAndOffsetsMeanUnbounded) {
  const Band band = detail::band_of(window(kHuge, kHuge), 5, 9, 0, 0);
  EXPECT_EQ(detail::visible_pairs(band, 5, 9), 45);
  const Band all = detail::band_of(causal_top_left(), 5, 9, kHuge - 5, 0);
  EXPECT_EQ(all.hi, Band::kUnbounded);
  const Band none = detail::band_of(causal_top_left(), 5, 9, 0, kHuge - 9);
  EXPECT_EQ(detail::visible_pairs(none, 5, 9), 0);
}

TEST(Mask, TextAndBack) {
  for (const char* text : {"none", "causal", "causal-top-left", "window:0,0", "window:128,7"}) {
    EXPECT_EQ(mask_from_text(text).text(), text);
  }
  EXPECT_EQ(Mask().text(), "none");
  EXPECT_EQ(window(4, 0).text(), "window:4,0");
}

TEST(Mask, TextsThatMeanNothing) {
  for (const char* text : {"", "None", "causal ", "window", "window:", "window:1", "window:1,",
                           "window:,1", "window:1,2,3", "window:1, 2", "window:+1,2", "window:a,b",
                           "window:1,9223372036854775808"}) {
    EXPECT_THROW((void)mask_from_text(text), InvalidArgument) << text;
  }
  EXPECT_THROW((void)mask_from_text("window:-1,2"), InvalidArgument);
}

}  // namespace
}  // namespace tilewise
