// SPDX-License-Identifier: Apache-2.0
// A backward kernel that computes nothing: it follows the protocol of turns in kernels/launch.h,
// records what it was asked to do, and notes every breach.
#pragma once

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "engine/stub_plan.h"

namespace tilewise::testing {

struct BackwardRecord {
  std::mutex mutex;
  std::vector<BackwardItem> items;     // in the order of their starts; batch entries of the step
  std::vector<int64_t> rows_prepared;  // per (batch, head): rows seen so far
  std::vector<std::string> breaches;
  std::set<int64_t> careful_heads;  // batch * kv_heads + kv head that meet "NaN"
  bool grad_bias_was_zero = true;
};

inline BackwardRecord* record = nullptr;  // kernels are plain functions

inline void breach(const char* what) {
  const std::lock_guard lock(record->mutex);
  record->breaches.emplace_back(what);
}

inline void stub_prepare(const BackwardLaunch& launch, const PrepareItem& item) {
  const std::lock_guard lock(record->mutex);
  if (!record->items.empty()) record->breaches.emplace_back("prepared after the walk began");
  const int64_t batch = launch.origin.batch + item.batch;
  record->rows_prepared[static_cast<size_t>(batch * launch.shape.query_heads + item.head)] +=
      item.row_end - item.row_begin;
}

// Waits until all earlier key tiles of the head have added to the tile of queries, then adds.
inline void take_turn(const BackwardLaunch& launch, const BackwardItem& item, int64_t query_tile) {
  const int64_t group = launch.shape.query_heads / launch.shape.kv_heads;
  int32_t earlier = 0;
  const TileRows& by_query = launch.mask_classes[0].by_query;
  for (int64_t run = by_query.begin[query_tile]; run < by_query.begin[query_tile + 1]; ++run) {
    for (int32_t tile = by_query.runs[run].first; tile < by_query.runs[run].last; ++tile) {
      earlier += tile < item.key_tile;
    }
  }
  for (int64_t head = 0; head < group; ++head) {
    std::atomic_ref<int32_t> turn(item.turn[head * by_query.rows + query_tile]);
    for (int32_t now = turn.load(); now != earlier; now = turn.load()) {
      if (now > earlier) return breach("a turn was not zero at the start of a head");
      std::this_thread::yield();
    }
    turn.store(earlier + 1);
  }
}

inline void wait_for(std::atomic_ref<int32_t> turn, int32_t expected) {
  for (int32_t now = turn.load(); now != expected; now = turn.load()) {
    if (now > expected) return breach("a turn was missed");
    std::this_thread::yield();
  }
}

// Counts items in element 0 of the tables.
inline void add_to_table(const TableGradients& tables, const BackwardItem& item) {
  std::atomic_ref<int32_t> turn(tables.turn[item.table_copy]);
  wait_for(turn, item.table_turn);
  static_cast<float*>(tables.sums)[item.table_copy * tables.elements] += 1.0F;
  turn.store(item.next_table_turn);
}

inline void stub_backward(const BackwardLaunch& launch, const BackwardItem& item, void*) {
  const int64_t local = item.batch * launch.shape.kv_heads + item.kv_head;
  const int64_t head = launch.origin.batch * launch.shape.kv_heads + local;
  {
    const std::lock_guard lock(record->mutex);
    record->items.push_back(item);
    record->items.back().batch += launch.origin.batch;
  }
  if (record->careful_heads.count(head) != 0 && !item.careful)
    std::atomic_ref<int32_t>(launch.careful[local]).store(1, std::memory_order_relaxed);
  const TileRows& by_key = launch.mask_classes[0].by_key;
  for (int64_t run = by_key.begin[item.key_tile]; run < by_key.begin[item.key_tile + 1]; ++run) {
    for (int32_t tile = by_key.runs[run].first; tile < by_key.runs[run].last; ++tile) {
      take_turn(launch, item, tile);
    }
  }
  if (launch.tables.lookups != nullptr) add_to_table(launch.tables, item);
  if (launch.grad_bias.data == nullptr) return;
  std::atomic_ref<int32_t> turn(launch.bias_turn[item.key_tile]);
  if (item.bias_turn >= 0) wait_for(turn, item.bias_turn);
  auto& sum = *static_cast<float*>(launch.grad_bias.data);  // of the first key tile
  if (item.key_tile == 0) {
    if (item.bias_turn <= 0 && sum != 0.0F) record->grad_bias_was_zero = false;
    sum += 1.0F;
  }
  if (item.bias_turn >= 0) turn.store(item.bias_turn + 1);
}

inline Kernel backward_stub_kernel() {
  Kernel kernel = stub_kernel();
  kernel.backward_prepare = stub_prepare;
  kernel.backward = stub_backward;
  return kernel;
}

}  // namespace tilewise::testing
