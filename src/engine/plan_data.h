// SPDX-License-Identifier: Apache-2.0
// What is behind Plan and Schedule.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/head_tiles.h"
#include "engine/part_items.h"
#include "engine/score_programs.h"
#include "engine/tiling.h"
#include "engine/tuned_tiles.h"
#include "engine/workspace_layout.h"
#include "kernels/cpu/kernel_table.h"
#include "schedule/io_model.h"
#include "tilewise/plan.h"

namespace tilewise {

// A uniform step that a schedule consists of: the whole of it, or one sequence of a ragged batch.
struct SchedulePart {
  std::shared_ptr<const Schedule::Data> sequence;  // null: the schedule itself. May be shared.
  int64_t index = 0;                               // of the sequence: its entry of the batch
  int64_t first_query = 0, first_key = 0;          // rows of the tensors
  BackwardShares shares;
  // Where it begins among all parts in their order: (batch, kv head) pairs, those that are whole,
  // what decode keeps, and the accumulators of dQ of shared heads.
  int64_t first_head = 0, first_whole_head = 0;
  int64_t first_decode_query = 0, first_decode_tile = 0;
  int64_t first_slot_query = 0, first_slot_tile = 0;
};

// What the phases of a run are made of.
struct RunItems {
  PartItems forward;
  PartItems prepare;       // blocks of rows
  PartItems claims;        // of the backward: BackwardShares
  PartItems key_blocks;    // of the search for negligible tiles
  PartItems forward_rows;  // (batch, query head, row of tiles); none of what decodes
  PartItems backward_rows;
};

// A ragged batch has parts with schedules of their own, and nothing of mask, tiles and score below
// but what all of them share: the symbols' values and the tables of the score.
struct Schedule::Data {
  uint64_t plan_id = 0;
  Step step;  // tables and scalars are in mask_values and score.values, starts are these:
  std::vector<int64_t> query_starts, key_starts;
  std::vector<SchedulePart> parts;  // in the order in which they are run: most keys first
  RunItems items;
  AttentionShape shape{};
  Geometry geometry{};
  expr::Values mask_values;
  HeadClasses heads;
  int64_t pairs = 0;  // visible, of all heads
  ScorePrograms score;

  std::vector<HeadTiles> forward_tiles;  // of each class
  std::vector<MaskClass> forward_masks;  // the same for kernels
  bool forward_follows_blocks = false;   // tiles are those of follow_blocks()
  int64_t forward_items = 0;             // batch * query_heads * query tiles
  int64_t forward_flops = 0;             // or what takes as long
  int forward_workers = 1;
  ForwardLayout forward;
  bool decodes = false;   // few queries: forward_items are tiles of rows and chunks of keys
  DecodeLaunch decode{};  // without run state

  std::vector<HeadTiles> backward_tiles;
  std::vector<MaskClass> backward_masks;
  bool backward_follows_blocks = false;
  int64_t longest_queries = 0, most_query_tiles = 0, most_key_tiles = 0;  // of all parts
  int64_t backward_heads = 0;  // (batch, kv head) pairs of all parts
  int64_t worker_slots = 0;    // accumulators of dQ for whole heads
  int backward_workers = 1;
  BackwardLayout backward;
};

// The last few schedules of a plan: all layers of a model, and all steps of one length, share one.
class ScheduleCache {
 public:
  [[nodiscard]] std::shared_ptr<const Schedule::Data> find(const Problem& problem,
                                                           const Step& step) const;
  void insert(std::shared_ptr<const Schedule::Data> schedule);

 private:
  mutable std::mutex mutex_;
  std::array<std::shared_ptr<const Schedule::Data>, 8> entries_;  // under mutex_
  size_t next_ = 0;                                               // under mutex_
};

struct Plan::Data {
  uint64_t id = 0;  // of this plan in this process: a schedule belongs to one plan
  Problem problem;  // normalized
  std::string isa;
  const Kernel* kernel = nullptr;
  Executor* executor = nullptr;
  int threads = 1;
  PlanTiles tiles;          // a schedule may shorten query_tile
  ProgramSizes programs;    // no step needs larger ones
  TableSizes tables;        // likewise
  int64_t bound_steps = 0;  // of the score; 0: tiles are not searched for negligible ones
  ForwardLayout forward;    // at the plan's maxima
  BackwardLayout backward;  // at the plan's maxima
  size_t workspace_bytes = 0;
  mutable ScheduleCache schedules;
};

[[nodiscard]] AttentionShape make_shape(const Problem& problem, int64_t batch, int64_t query_length,
                                        int64_t kv_length);
// The workspace that covers every step of the plan: forward, backward, workspace_bytes.
void set_workspace_maxima(Plan::Data& plan);
[[nodiscard]] io_model::Sizes sizes_of(const AttentionShape& shape);
[[nodiscard]] inline int64_t real_bytes(const Problem& problem) {
  return problem.dtype == DType::kFloat64 ? 8 : 4;
}
// make_plan() with tiles that the kernel can take, whatever the model or a tuning file says.
[[nodiscard]] Plan make_plan_with_tiles(const Problem& problem, const PlanOptions& options,
                                        const Geometry& tiles);
// Validates the step; from the cache if it is there.
[[nodiscard]] std::shared_ptr<const Schedule::Data> make_schedule(const Plan::Data& plan,
                                                                  const Step& step,
                                                                  const char* operation);
// Validates the step; into the memory of `schedule`, which is of this plan, if nobody else holds
// it. The cache is neither asked nor filled.
void update_schedule(const Plan::Data& plan, std::shared_ptr<const Schedule::Data>& schedule,
                     const Step& step, const char* operation);
// Arguments are valid.
void run_forward(const Plan::Data& plan, const Schedule::Data& schedule,
                 const ForwardTensors& tensors, void* workspace) noexcept;
void run_backward(const Plan::Data& plan, const Schedule::Data& schedule,
                  const BackwardTensors& tensors, void* workspace) noexcept;

}  // namespace tilewise
