// SPDX-License-Identifier: Apache-2.0
#include "tilewise/plan.h"

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "base/environment.h"
#include "engine/explain.h"
#include "engine/plan_data.h"
#include "kernels/cpu/registry.h"
#include "problem/reject.h"
#include "problem/validate.h"
#include "problem/validate_tensors.h"

namespace tilewise {
namespace {

uint64_t next_plan_id() {
  static std::atomic<uint64_t> count{0};
  return ++count;
}

// A plan without tiles.
std::shared_ptr<Plan::Data> start_plan(const Problem& problem, const PlanOptions& options) {
  auto plan = std::make_shared<Plan::Data>();
  plan->problem = normalized(problem);
  validate_threads(options.threads);
  const KernelTable& table = choose_kernels(options.isa);
  plan->id = next_plan_id();
  plan->isa = table.name;
  plan->kernel = table.kernels[static_cast<int32_t>(plan->problem.dtype)];
  plan->executor = options.executor != nullptr ? options.executor : &default_executor();
  plan->threads = options.threads != 0 ? options.threads
                                       : std::clamp(plan->executor->max_workers(), 1, kMaxThreads);
  return plan;
}

Plan finish_plan(const std::shared_ptr<Plan::Data>& plan) {
  set_workspace_maxima(*plan);
  if (environment::verbose()) {
    std::fprintf(stderr, "tilewise: plan %s, %s, %d threads, workspace %zu bytes\n",
                 describe(plan->problem).c_str(), plan->isa.c_str(), plan->threads,
                 plan->workspace_bytes);
  }
  return Plan(plan);
}

void require_own(const Plan::Data& plan, const Schedule::Data& schedule, const char* operation) {
  if (schedule.plan_id == plan.id) return;
  reject(operation, "schedule", "of another plan", "one made by this plan's schedule()");
}

template <class Tensors>
void validate_run(const Plan::Data& plan, const Schedule::Data& schedule, const Tensors& tensors,
                  const Workspace& workspace, const char* operation) {
  require_own(plan, schedule, operation);
  if constexpr (std::is_same_v<Tensors, ForwardTensors>) {
    validate_forward(plan.problem, schedule.step, tensors, operation);
  } else {
    validate_backward(plan.problem, schedule.step, tensors, operation);
  }
  validate_tables(schedule.score.tables, tensors, operation);
  validate_table_elements(plan.problem, schedule.score, tensors, operation);
  validate_workspace(workspace.data(), workspace.bytes(), plan.workspace_bytes, operation);
  validate_apart(workspace.data(), plan.workspace_bytes, tensors, operation);
}

// At most so many rows of tiles, of a shortest tile, have all entries of the batch together.
int64_t most_tile_rows(const Problem& problem, int64_t tile) {
  return std::min(problem.max_batch * ceil_divide(problem.max_query_length, tile),
                  problem.max_total_queries / tile + problem.max_batch);
}

ForwardExtents most_forward(const Plan::Data& plan, AttentionShape shape,
                            const Geometry& geometry) {
  const Problem& problem = plan.problem;
  ForwardExtents extents;
  extents.batch = shape.batch;
  extents.tile_rows = most_tile_rows(problem, kLeastTile);
  extents.scratch_bytes = plan.kernel->forward_scratch_bytes(shape, geometry, plan.programs);
  shape.query_length = std::min(shape.query_length, kDecodeQueries);
  extents.decode_queries = std::min(shape.batch * shape.query_length, problem.max_total_queries);
  extents.decode_tiles = shape.batch * decode_row_tiles(*plan.kernel, shape);
  extents.scratch_bytes =
      std::max(extents.scratch_bytes, plan.kernel->decode_scratch_bytes(shape, plan.programs));
  return extents;
}

// Tiles that follow the blocks of a mask are shorter, in either length: more turns to take.
BackwardExtents most_backward(const Plan::Data& plan, const AttentionShape& shape,
                              const Geometry& geometry) {
  const bool may_follow = plan.problem.mask.expression() != nullptr;
  const auto shortest = [&](int64_t tile) { return may_follow ? shortest_block_tile(tile) : tile; };
  const int64_t slots = max_slots(shape.batch * shape.kv_heads, plan.threads);
  BackwardExtents extents;
  extents.batch = shape.batch;
  extents.queries = plan.problem.max_total_queries;
  extents.tile_rows = most_tile_rows(plan.problem, kLeastTile);
  extents.slot_queries = slots * shape.query_length;
  extents.slot_tiles =
      slots * ceil_divide(shape.query_length, shortest(geometry.backward_query_tile));
  extents.key_tiles = ceil_divide(shape.kv_length, shortest(geometry.backward_key_tile));
  extents.key_tile = geometry.backward_key_tile;
  extents.scratch_bytes = plan.kernel->backward_scratch_bytes(shape, geometry, plan.programs);
  return extents;
}

}  // namespace

void set_workspace_maxima(Plan::Data& plan) {
  const Problem& problem = plan.problem;
  const AttentionShape shape =
      make_shape(problem, problem.max_batch, problem.max_query_length, problem.max_kv_length);
  const Geometry geometry =
      longest_geometry(plan.tiles.geometry, *plan.kernel, problem.max_query_length);
  plan.programs = expr::larger(largest_program(problem.mask), largest_program(problem.score));
  plan.bound_steps = problem.has_bias ? 0 : bound_steps(problem.score);
  plan.forward = forward_layout(shape, most_forward(plan, shape, geometry), plan.bound_steps,
                                plan.threads, real_bytes(problem));
  plan.tables = largest_tables(problem);
  plan.backward = backward_layout(*plan.kernel, shape, most_backward(plan, shape, geometry),
                                  plan.tables, plan.bound_steps, plan.threads, real_bytes(problem));
  plan.workspace_bytes = static_cast<size_t>(std::max({plan.forward.bytes, plan.backward.bytes}));
}

AttentionShape make_shape(const Problem& problem, int64_t batch, int64_t query_length,
                          int64_t kv_length) {
  return {batch,     problem.query_heads, problem.kv_heads, query_length,
          kv_length, problem.head_dim,    problem.value_dim};
}

io_model::Sizes sizes_of(const AttentionShape& shape) {
  return {shape.batch,     shape.query_heads, shape.kv_heads, shape.query_length,
          shape.kv_length, shape.head_dim,    shape.value_dim};
}

Plan make_plan(const Problem& problem, const PlanOptions& options) {
  const auto plan = start_plan(problem, options);
  plan->tiles = choose_tiles(plan->isa, *plan->kernel, plan->problem.head_dim,
                             plan->problem.value_dim, this_machine(), find_tuning());
  return finish_plan(plan);
}

Plan make_plan_with_tiles(const Problem& problem, const PlanOptions& options,
                          const Geometry& tiles) {
  const auto plan = start_plan(problem, options);
  plan->tiles.geometry = tiles;
  return finish_plan(plan);
}

Schedule Plan::schedule(const Step& step) const {
  return Schedule(make_schedule(*data_, step, "schedule"));
}

void Plan::update(Schedule& schedule, const Step& step) const {
  require_own(*data_, schedule.data(), "update");
  update_schedule(*data_, schedule.data_, step, "update");
}

size_t Plan::workspace_bytes() const noexcept { return data_->workspace_bytes; }

void Plan::forward(const Schedule& schedule, const ForwardTensors& tensors,
                   Workspace& workspace) const {
  validate_run(*data_, schedule.data(), tensors, workspace, "forward");
  run_forward(*data_, schedule.data(), tensors, workspace.data());
}

void Plan::backward(const Schedule& schedule, const BackwardTensors& tensors,
                    Workspace& workspace) const {
  validate_run(*data_, schedule.data(), tensors, workspace, "backward");
  run_backward(*data_, schedule.data(), tensors, workspace.data());
}

std::string Plan::explain(const Schedule& schedule) const {
  require_own(*data_, schedule.data(), "explain");
  return explain_schedule(*data_, schedule.data());
}

const Problem& Plan::problem() const noexcept { return data_->problem; }
const std::string& Plan::isa() const noexcept { return data_->isa; }
int Plan::threads() const noexcept { return data_->threads; }

}  // namespace tilewise
