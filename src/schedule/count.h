// SPDX-License-Identifier: Apache-2.0
// The loops of standard and tiled attention with every load and store reported and nothing
// computed. They walk the tile rows that the kernels walk, tile by tile; io_model.h has the same
// numbers by formula, and tests/paper demands that the integers agree.
//
// A Sink has load(Operand, words) and store(Operand, words).
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/tile.h"
#include "schedule/io_model.h"

namespace tilewise::io_model {

enum class Operand {
  kQuery,
  kKey,
  kValue,
  kOutput,
  kRowState,  // kRowState: one number per row: LSE, m, l, Delta
  kScores,    // S, P, dP, dS
  kGradOutput,
  kGradQuery,
  kGradKey,
  kGradValue
};
inline constexpr int kOperands = 10;

// Adds up, per operand.
class Counter {
 public:
  void load(Operand operand, int64_t words) noexcept { of(operand).read += words; }
  void store(Operand operand, int64_t words) noexcept { of(operand).written += words; }
  [[nodiscard]] const Words& operator[](Operand operand) const noexcept {
    return words_[static_cast<int>(operand)];
  }
  [[nodiscard]] Words total() const noexcept;

 private:
  Words& of(Operand operand) noexcept { return words_[static_cast<int>(operand)]; }
  Words words_[kOperands];
};

// Calls visit(tile, elements) for the tiles of one row of tile rows, elements being the extent of
// the tile along the row.
template <class Visit>
void for_each_tile(const TileRows& rows, int64_t row, int64_t tile, int64_t length, Visit&& visit) {
  for (int64_t i = rows.begin[row]; i < rows.begin[row + 1]; ++i)
    for (int64_t t = rows.runs[i].first; t < rows.runs[i].last; ++t)
      visit(t, std::min(tile, length - t * tile));
}

// Query tiles outside: the order of our forward.
template <class Sink>
void walk_forward(const Sizes& s, const TileRows& by_query, int64_t query_tile, int64_t key_tile,
                  Sink& sink) {
  for (int64_t head = 0; head < s.batch * s.query_heads; ++head) {
    for (int64_t row = 0; row < by_query.rows; ++row) {
      const int64_t queries = std::min(query_tile, s.query_length - row * query_tile);
      sink.load(Operand::kQuery, queries * s.head_dim);
      for_each_tile(by_query, row, key_tile, s.kv_length, [&](int64_t, int64_t keys) {
        sink.load(Operand::kKey, keys * s.head_dim);
        sink.load(Operand::kValue, keys * s.value_dim);
      });
      sink.store(Operand::kOutput, queries * s.value_dim);
      sink.store(Operand::kRowState, queries);
    }
  }
}

// Few queries: chunks of keys [first_key, last_key), each for all rows that share them.
template <class Sink>
void walk_decode(const Sizes& s, int64_t first_key, int64_t last_key, int64_t chunk_keys,
                 int64_t row_tile, Sink& sink) {
  const int64_t rows = s.query_heads / s.kv_heads * s.query_length;
  const int64_t first_chunk = first_key / chunk_keys;
  for (int64_t k0 = first_chunk * chunk_keys; k0 < last_key; k0 += chunk_keys) {
    const int64_t keys = std::min(k0 + chunk_keys, last_key) - std::max(k0, first_key);
    const bool is_first = k0 <= first_key, is_last = k0 + chunk_keys >= last_key;
    for (int64_t kv_head = 0; kv_head < s.batch * s.kv_heads; ++kv_head) {
      for (int64_t r0 = 0; r0 < rows; r0 += row_tile) {
        const int64_t lanes = std::min(row_tile, rows - r0);
        sink.load(Operand::kQuery, lanes * s.head_dim);
        sink.load(Operand::kKey, keys * s.head_dim);
        sink.load(Operand::kValue, keys * s.value_dim);
        if (!is_first) sink.load(Operand::kRowState, lanes * (s.value_dim + 3));
        if (!is_last) sink.store(Operand::kRowState, lanes * (s.value_dim + 3));
        if (is_last) sink.store(Operand::kOutput, lanes * s.value_dim);
        if (is_last) sink.store(Operand::kRowState, lanes);
      }
    }
  }
}

// Delta = rowsum(dO * O) and the logsumexp in base 2.
template <class Sink>
void walk_backward_prepare(const Sizes& s, Sink& sink) {
  for (int64_t row = 0; row < s.batch * s.query_heads * s.query_length; ++row) {
    sink.load(Operand::kOutput, s.value_dim);
    sink.load(Operand::kGradOutput, s.value_dim);
    sink.load(Operand::kRowState, 1);
    sink.store(Operand::kRowState, 1);
    sink.store(Operand::kRowState, 1);
  }
}

// Key tiles outside, all query heads of the group inside: the order of our backward.
template <class Sink>
void walk_backward(const Sizes& s, const TileRows& by_key, int64_t query_tile, int64_t key_tile,
                   Sink& sink) {
  for (int64_t kv_head = 0; kv_head < s.batch * s.kv_heads; ++kv_head) {
    for (int64_t row = 0; row < by_key.rows; ++row) {
      const int64_t keys = std::min(key_tile, s.kv_length - row * key_tile);
      sink.load(Operand::kKey, keys * s.head_dim);
      sink.load(Operand::kValue, keys * s.value_dim);
      for (int64_t head = 0; head < s.query_heads / s.kv_heads; ++head) {
        for_each_tile(by_key, row, query_tile, s.query_length, [&](int64_t, int64_t queries) {
          sink.load(Operand::kQuery, queries * s.head_dim);
          sink.load(Operand::kGradOutput, queries * s.value_dim);
          sink.load(Operand::kRowState, 2 * queries);  // LSE, Delta
          sink.load(Operand::kGradQuery, queries * s.head_dim);
          sink.store(Operand::kGradQuery, queries * s.head_dim);
        });
      }
      sink.store(Operand::kGradKey, keys * s.head_dim);
      sink.store(Operand::kGradValue, keys * s.value_dim);
    }
  }
}

// [Dao22] Algorithm 1, by its lines.
template <class Sink>
void walk_algorithm1(const Sizes& s, const TileRows& by_key, int64_t query_tile, int64_t key_tile,
                     Sink& sink) {
  for (int64_t head = 0; head < s.batch * s.query_heads; ++head) {
    sink.store(Operand::kOutput, s.query_length * s.value_dim);  // line 2: O = 0
    sink.store(Operand::kRowState, 2 * s.query_length);          // line 2: l = 0, m = -inf
    for (int64_t row = 0; row < by_key.rows; ++row) {            // line 5
      const int64_t keys = std::min(key_tile, s.kv_length - row * key_tile);
      sink.load(Operand::kKey, keys * s.head_dim);  // line 6
      sink.load(Operand::kValue, keys * s.value_dim);
      for_each_tile(by_key, row, query_tile, s.query_length, [&](int64_t, int64_t queries) {
        sink.load(Operand::kQuery, queries * s.head_dim);  // line 8
        sink.load(Operand::kOutput, queries * s.value_dim);
        sink.load(Operand::kRowState, 2 * queries);
        sink.store(Operand::kOutput, queries * s.value_dim);  // line 12
        sink.store(Operand::kRowState, 2 * queries);          // line 13
      });
    }
  }
}

// [Dao22] Algorithm 4.
template <class Sink>
void walk_algorithm4(const Sizes& s, const TileRows& by_key, int64_t query_tile, int64_t key_tile,
                     Sink& sink) {
  for (int64_t head = 0; head < s.batch * s.query_heads; ++head) {
    sink.store(Operand::kGradQuery, s.query_length * s.head_dim);
    for (int64_t row = 0; row < by_key.rows; ++row) {
      const int64_t keys = std::min(key_tile, s.kv_length - row * key_tile);
      sink.load(Operand::kKey, keys * s.head_dim);
      sink.load(Operand::kValue, keys * s.value_dim);
      for_each_tile(by_key, row, query_tile, s.query_length, [&](int64_t, int64_t queries) {
        sink.load(Operand::kQuery, queries * s.head_dim);
        sink.load(Operand::kOutput, queries * s.value_dim);
        sink.load(Operand::kGradOutput, queries * s.value_dim);
        sink.load(Operand::kGradQuery, queries * s.head_dim);
        sink.load(Operand::kRowState, 2 * queries);
        sink.store(Operand::kGradQuery, queries * s.head_dim);
      });
      sink.store(Operand::kGradKey, keys * s.head_dim);
      sink.store(Operand::kGradValue, keys * s.value_dim);
    }
  }
}

// [Dao22] Algorithm 0, row by row within each of its passes.
template <class Sink>
void walk_standard_forward(const Sizes& s, int64_t separate_passes, Sink& sink) {
  for (int64_t head = 0; head < s.batch * s.query_heads; ++head) {
    for (int64_t k = 0; k < s.kv_length; ++k) sink.load(Operand::kKey, s.head_dim);
    for (int64_t q = 0; q < s.query_length; ++q) {
      sink.load(Operand::kQuery, s.head_dim);
      sink.store(Operand::kScores, s.kv_length);
    }
    for (int64_t pass = 0; pass < 1 + separate_passes; ++pass) {
      for (int64_t q = 0; q < s.query_length; ++q) {
        sink.load(Operand::kScores, s.kv_length);
        sink.store(Operand::kScores, s.kv_length);
      }
    }
    for (int64_t k = 0; k < s.kv_length; ++k) sink.load(Operand::kValue, s.value_dim);
    for (int64_t q = 0; q < s.query_length; ++q) {
      sink.load(Operand::kScores, s.kv_length);
      sink.store(Operand::kOutput, s.value_dim);
    }
  }
}

// [Dao22] Algorithm 3, row by row within each of its passes.
template <class Sink>
void walk_standard_backward(const Sizes& s, int64_t separate_passes, Sink& sink) {
  const int64_t group = s.query_heads / s.kv_heads;
  // One whole operand, a row at a time.
  const auto matrix = [](int64_t rows, const auto& move) {
    for (int64_t row = 0; row < rows; ++row) move();
  };
  for (int64_t head = 0; head < s.batch * s.query_heads; ++head) {
    const bool adds = head % group != 0;  // not the first head of its group: += in slow memory
    const auto scores_in = [&] { sink.load(Operand::kScores, s.kv_length); };
    const auto scores_out = [&] { sink.store(Operand::kScores, s.kv_length); };
    // dV = P^T dO
    matrix(s.query_length, scores_in);
    matrix(s.query_length, [&] { sink.load(Operand::kGradOutput, s.value_dim); });
    if (adds) matrix(s.kv_length, [&] { sink.load(Operand::kGradValue, s.value_dim); });
    matrix(s.kv_length, [&] { sink.store(Operand::kGradValue, s.value_dim); });
    // dP = dO V^T
    matrix(s.query_length, [&] { sink.load(Operand::kGradOutput, s.value_dim); });
    matrix(s.kv_length, [&] { sink.load(Operand::kValue, s.value_dim); });
    matrix(s.query_length, scores_out);
    // dS = P (dP - Delta), Delta = rowsum(P dP)
    matrix(2 * s.query_length, scores_in);
    matrix(s.query_length, scores_out);
    for (int64_t pass = 0; pass < separate_passes; ++pass) {
      matrix(s.query_length, scores_in);
      matrix(s.query_length, scores_out);
    }
    // dQ = dS K
    matrix(s.query_length, scores_in);
    matrix(s.kv_length, [&] { sink.load(Operand::kKey, s.head_dim); });
    matrix(s.query_length, [&] { sink.store(Operand::kGradQuery, s.head_dim); });
    // dK = dS^T Q
    matrix(s.query_length, scores_in);
    matrix(s.query_length, [&] { sink.load(Operand::kQuery, s.head_dim); });
    if (adds) matrix(s.kv_length, [&] { sink.load(Operand::kGradKey, s.head_dim); });
    matrix(s.kv_length, [&] { sink.store(Operand::kGradKey, s.head_dim); });
  }
}

}  // namespace tilewise::io_model
