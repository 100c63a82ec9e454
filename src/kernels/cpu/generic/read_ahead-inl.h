// SPDX-License-Identifier: Apache-2.0
// Reading ahead in the forward: to the next tile of keys, and from one item to the next.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/forward_tiles-inl.h"

namespace {

// What is read next, fetched beside a tile of keys: the next one of the item, or what the next item
// reads first. Otherwise short sequences, whose tensors come from memory, wait for it.
template <class X>
class ReadAhead {
 public:
  ReadAhead() = default;
  ReadAhead(const tilewise::ForwardLaunch& args, const Matrix& key, const Matrix& value,
            int64_t tile) {
    const int64_t k0 = tile * args.geometry.key_tile;
    const int64_t rows = smaller(args.geometry.key_tile, args.shape.kv_length - k0);
    part_[1] = Fetch<X>(key, k0, rows, args.shape.head_dim);
    part_[2] = Fetch<X>(value, k0, rows, args.shape.value_dim);
  }
  ReadAhead(const tilewise::ForwardLaunch& args, const tilewise::ForwardItem& item) {
    const auto& shape = args.shape;
    const int64_t kv_head = item.head / (shape.query_heads / shape.kv_heads);
    const tilewise::TileRows& tiles = mask_of(args, item.batch, item.head).by_query;
    const int64_t run = tiles.begin[item.query_tile];
    if (run < tiles.begin[item.query_tile + 1])
      *this = ReadAhead(args, matrix_of(args.key, item.batch, kv_head),
                        matrix_of(args.value, item.batch, kv_head), tiles.runs[run].first);
    const int64_t q0 = item.query_tile * args.geometry.query_tile;
    part_[0] = Fetch<X>(matrix_of(args.query, item.batch, item.head), q0,
                        smaller(args.geometry.query_tile, shape.query_length - q0), shape.head_dim);
  }
  // What is left is spread over so many calls of step().
  void spread(int64_t steps) {
    for (int i = 0; i < 3; ++i) each_[i] = part_[i].each(steps);
  }
  void step() {
    for (int i = 0; i < 3; ++i) part_[i].lines(each_[i]);
  }

 private:
  Fetch<X> part_[3];
  int each_[3] = {0, 0, 0};
};

}  // namespace
