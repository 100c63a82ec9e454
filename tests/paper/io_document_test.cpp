// SPDX-License-Identifier: Apache-2.0
// The tables of docs/io_model.md are what this program computes. When a table changes, this test
// fails and prints the new one.
#include <gtest/gtest.h>

#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "schedule/cache_sim.h"
#include "schedule/count.h"
#include "schedule/io_model.h"

namespace tilewise::io_model {
namespace {

__attribute__((format(printf, 1, 2))) std::string line(const char* pattern, ...) {
  char buffer[256];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(buffer, sizeof buffer, pattern, arguments);
  va_end(arguments);
  return std::string(buffer) + "\n";
}

long long number(int64_t value) { return static_cast<long long>(value); }

void expect_in_document(const std::string& table) {
  std::ifstream file(TILEWISE_SOURCE_DIR "/docs/io_model.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(table), std::string::npos)
      << "docs/io_model.md should contain this table:\n"
      << table;
}

std::string counted_row(const char* mask, const Band& band, int64_t n, int64_t m, int64_t d,
                        int64_t query_tile, int64_t key_tile) {
  const Sizes sizes{1, 1, 1, n, m, d, d};
  const TileRowList by_query = tile_rows_by_query(band, n, m, query_tile, key_tile);
  const TileRowList by_key = tile_rows_by_key(band, n, m, query_tile, key_tile);
  const TileCounts counts = count_tiles(by_query, n, m);
  Counter forward, backward;
  walk_forward(sizes, by_query.view(), query_tile, key_tile, forward);
  walk_backward(sizes, by_key.view(), query_tile, key_tile, backward);
  const Words backward_formula = tiled_backward(sizes, count_tiles(by_key, m, n));
  EXPECT_EQ(forward.total(), tiled_forward(sizes, counts));
  EXPECT_EQ(backward.total(), backward_formula);
  return line("| %s | %lld | %lld | %lld | %lld x %lld | %lld / %lld / %lld | %lld | %lld | %lld |",
              mask, number(n), number(m), number(d), number(query_tile), number(key_tile),
              number(counts.full), number(counts.partial), number(counts.empty()),
              number(forward.total().total()), number(backward.total().total()),
              number(standard_forward(sizes).total()));
}

TEST(IoDocument, CountedTable) {
  const Band causal{-Band::kUnbounded, 0};
  expect_in_document(
      "| mask | N | M | d | tile | full / partial / empty | forward | backward | standard forward "
      "|\n|---|---|---|---|---|---|---|---|---|\n" +
      counted_row("none", {}, 4096, 4096, 64, 256, 128) +
      counted_row("causal", causal, 4096, 4096, 64, 256, 128) +
      counted_row("window:512,0", {-512, 0}, 4096, 4096, 64, 256, 128) +
      counted_row("none", {}, 1000, 777, 80, 96, 48) +
      counted_row("none", {}, 1, 4096, 128, 1, 128));
}

TEST(IoDocument, CacheTable) {
  constexpr int64_t kN = 2048, kD = 16;
  const Sizes head{1, 1, 1, kN, kN, kD, kD};
  std::string table =
      "| M | M / d² | keys outside | queries outside | standard | lower bound |\n"
      "|---|---|---|---|---|---|\n";
  for (int64_t memory = kD * kD; memory <= 8 * kN * kD; memory *= 2) {
    table += line("| %lld | %lld | %lld | %lld | %lld | %lld |", number(memory),
                  number(memory / (kD * kD)), number(simulate_algorithm1(kN, kD, memory).total()),
                  number(simulate_tiled(kN, kD, memory).total()),
                  number(simulate_standard(kN, kD, memory).total()),
                  number(forward_lower_bound(head, memory)));
  }
  expect_in_document(table);
}

// GPT-2 medium, N 1024, d 64, 16 heads, batch 64, in fp16: the case of [Dao22] Figure 2.
TEST(IoDocument, FigureTwoTable) {
  const Sizes sizes{64, 16, 16, 1024, 1024, 64, 64};
  constexpr double kGbytesPerWord = 2e-9;
  const auto gbytes = [](const Words& words) {
    return static_cast<double>(words.total()) * kGbytesPerWord;
  };
  std::string table =
      "| block | Algorithm 1 | Algorithms 1 and 4 | tiled forward | tiled forward and backward |\n"
      "|---|---|---|---|---|\n";
  for (const BlockPoint& point : block_size_sweep(sizes, {})) {
    table += line("| %lld | %.2f | %.2f | %.2f | %.2f |", number(point.block),
                  gbytes(point.algorithm1), gbytes(point.algorithm1 + point.algorithm4),
                  gbytes(point.tiled_forward), gbytes(point.tiled_forward + point.tiled_backward));
  }
  // Scale, mask and dropout in the forward and dropout in the backward are the separate passes.
  table += line("| standard, fused passes | %.2f | %.2f | | |", gbytes(standard_forward(sizes)),
                gbytes(standard_forward(sizes) + standard_backward(sizes)));
  table += line("| standard, 3 + 1 separate passes | %.2f | %.2f | | |",
                gbytes(standard_forward(sizes, 3)),
                gbytes(standard_forward(sizes, 3) + standard_backward(sizes, 1)));
  expect_in_document(table);
}

}  // namespace
}  // namespace tilewise::io_model
