// SPDX-License-Identifier: Apache-2.0
// The tiles around the model's choice against it, on one core.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "schedule/tuning.h"
#include "tilewise/tensor.h"

namespace tilewise::cli {

struct TileSizes {
  int64_t queries = 0;
  int64_t keys = 0;
  friend bool operator==(const TileSizes&, const TileSizes&) = default;
};

struct TuneLimits {
  int64_t length = 2048;
  int min_rounds = 9;
  int max_rounds = 60;
  double seconds = 1.5;  // of one class; min_rounds comes first
};

// What was found for a class.
struct TuneResult {
  TileClass of;
  TileSizes model;
  TileSizes tuned;   // model, unless another was faster by more than the noise
  double ratio = 1;  // time with tuned tiles / with the model's
  double noise = 0;  // standard error of the ratio
  int candidates = 0;
  int rounds = 0;
};

// Sizes of half, once and twice the model's, in what the kernel can take; the model's is first.
[[nodiscard]] std::vector<TileSizes> tile_candidates(const TileSizes& model, const TileSizes& unit,
                                                     const TileSizes& max);

// Rounds in which every candidate runs once, then as many with the best one and the model's alone:
// the best of many is lucky, so its gain is measured anew. dtype: one that the kernel of the class
// computes.
[[nodiscard]] TuneResult tune_class(const TileClass& of, DType dtype, const TuneLimits& limits);

}  // namespace tilewise::cli
