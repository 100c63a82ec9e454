// SPDX-License-Identifier: Apache-2.0
#include "tilewise/attention.h"

#include <algorithm>
#include <bit>
#include <mutex>

#include "base/checked.h"
#include "engine/plan_data.h"
#include "kernels/cpu/registry.h"
#include "problem/ragged.h"
#include "problem/validate.h"
#include "problem/validate_tensors.h"

namespace tilewise {
namespace {

constexpr size_t kMaxPlans = 16;
constexpr size_t kMaxIdleWorkspaces = 4;            // of one plan
constexpr size_t kMaxIdleBytes = size_t{64} << 20;  // larger workspaces are not kept
constexpr int64_t kLengthStep = 1024;               // a plan serves lengths up to the next multiple

// A plan and the workspaces that wait for its next call. Safe for concurrent use.
class CachedPlan {
 public:
  explicit CachedPlan(Plan plan) : plan_(std::move(plan)) {}

  [[nodiscard]] const Plan& plan() const { return plan_; }

  [[nodiscard]] Workspace borrow() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        Workspace workspace = std::move(idle_.back());
        idle_.pop_back();
        return workspace;
      }
    }
    return Workspace(plan_);
  }
  void give_back(Workspace workspace) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdleWorkspaces && workspace.bytes() <= kMaxIdleBytes) {
      idle_.push_back(std::move(workspace));
    }
  }

 private:
  const Plan plan_;
  std::mutex mutex_;
  std::vector<Workspace> idle_;  // under mutex_
};

// Everything that a plan depends on.
struct PlanKey {
  int64_t query_heads, kv_heads, max_batch, max_query_length, max_kv_length, max_total_queries;
  int64_t head_dim, value_dim;
  DType dtype;
  uint64_t mask, score;  // hashes; 0: none
  double scale;
  bool has_bias, has_sink, same_bits_as_prefill;
  double dropout;
  int64_t max_table_elements;
  const KernelTable* kernels;
  int threads;
  Executor* executor;
  bool operator==(const PlanKey&) const = default;
};

uint64_t hash_of(const expr::Expression* expression) {
  return expression == nullptr ? 0 : expr::hash_of(*expression->graph, expression->root);
}

PlanKey key_of(const Problem& problem, const PlanOptions& options) {
  return {problem.query_heads,
          problem.kv_heads,
          problem.max_batch,
          problem.max_query_length,
          problem.max_kv_length,
          problem.max_total_queries,
          problem.head_dim,
          problem.value_dim,
          problem.dtype,
          hash_of(problem.mask.expression()),
          hash_of(problem.score.expression()),
          *problem.scale,
          problem.has_bias,
          problem.has_sink,
          problem.same_bits_as_prefill,
          problem.dropout,
          problem.max_table_elements,
          &choose_kernels(options.isa),
          options.threads,
          options.executor};
}

class PlanCache {
 public:
  std::shared_ptr<CachedPlan> get(const Problem& problem, const PlanOptions& options) {
    const PlanKey key = key_of(problem, options);
    const std::lock_guard lock(mutex_);
    auto found = std::find_if(entries_.begin(), entries_.end(),
                              [&](const Entry& entry) { return entry.key == key; });
    if (found == entries_.end()) {
      auto plan = std::make_shared<CachedPlan>(make_plan(problem, options));
      if (entries_.size() == kMaxPlans) entries_.pop_back();
      found = entries_.insert(entries_.end(), Entry{key, std::move(plan)});
    }
    std::rotate(entries_.begin(), found, found + 1);  // most recently used first
    return entries_.front().plan;
  }

 private:
  struct Entry {
    PlanKey key;
    std::shared_ptr<CachedPlan> plan;
  };
  std::mutex mutex_;
  std::vector<Entry> entries_;  // under mutex_
};

PlanCache& plan_cache() {
  static PlanCache& cache = *new PlanCache;  // never destroyed: calls may come from exit handlers
  return cache;
}

struct Call {
  Problem problem;  // normalized, of exactly these lengths
  Step step;
};

// Room for the gradients of the tables, in powers of two, so that a plan serves many sizes. What
// does not make sense is left to the validation of tables.
int64_t table_elements(const BackwardTensors& tensors) {
  int64_t room = Problem{}.max_table_elements, sum = 0;
  for (const NamedTensor& table : tensors.tables) {
    int64_t elements = 1;
    for (const int64_t extent : table.tensor.shape) {
      if (!checked_multiply(elements, std::max<int64_t>(extent, 0), elements)) return room;
    }
    if (!checked_add(sum, elements, sum)) return room;
  }
  while (room < sum && room < kMaxExtent / 2) room *= 2;
  return room;
}
int64_t table_elements(const ForwardTensors&) { return Problem{}.max_table_elements; }

template <class Tensors>
Call describe_call(const Tensors& tensors, const AttentionOptions& options, const char* operation) {
  Problem problem;
  problem.query_heads = tensors.query.shape[1];
  problem.kv_heads = tensors.key.shape[1];
  const bool ragged = options.query_starts.data != nullptr || options.key_starts.data != nullptr;
  const int64_t starts = std::max(options.query_starts.size, options.key_starts.size);
  problem.max_batch = ragged ? std::max<int64_t>(starts - 1, 0) : tensors.query.shape[0];
  problem.max_query_length = tensors.query.shape[2];
  problem.max_kv_length = tensors.key.shape[2];
  problem.head_dim = tensors.query.shape[3];
  problem.value_dim = tensors.value.shape[3];
  problem.dtype = tensors.query.dtype;
  problem.mask = options.mask;
  problem.score = options.score;
  problem.scale = options.scale;
  problem.has_bias = tensors.bias.data != nullptr;
  problem.dropout = options.dropout;
  problem.has_sink = tensors.sink.data != nullptr;
  problem.same_bits_as_prefill = options.same_bits_as_prefill;
  problem.max_table_elements = table_elements(tensors);
  Step step;
  step.batch = problem.max_batch;
  step.query_length = problem.max_query_length;
  step.kv_length = problem.max_kv_length;
  step.query_starts = options.query_starts;
  step.key_starts = options.key_starts;
  step.query_offset = options.query_offset;
  step.key_offset = options.key_offset;
  step.tables = options.tables;
  step.scalars = options.scalars;
  const Problem complete = normalized(problem, operation);
  validate_step(complete, step, operation);
  validate_threads(options.plan.threads, operation);
  return {complete, step};
}

int64_t with_room(int64_t length) {
  return std::min(round_up(std::max<int64_t>(length, 1), kLengthStep), kMaxExtent);
}

// Makes the problem one that many calls have in common.
void give_room(Problem& problem, const Step& step) {
  if (is_ragged(step)) {
    const auto batch = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(step.batch)));
    problem.max_batch = std::min(batch, kMaxExtent);
    problem.max_query_length = longest_sequence(step.query_starts);
    problem.max_kv_length = longest_sequence(step.key_starts);
  }
  problem.max_query_length = with_room(problem.max_query_length);
  problem.max_kv_length = with_room(problem.max_kv_length);
  problem.max_total_queries =
      is_ragged(step) ? with_room(total_length(step.query_starts)) : 0;  // 0: any
}

template <class Tensors, class Run>
void run_call(Call call, const Tensors& tensors, const AttentionOptions& options,
              const char* operation, const Run& run) {
  give_room(call.problem, call.step);
  const std::shared_ptr<CachedPlan> cached = plan_cache().get(call.problem, options.plan);
  const Plan::Data& plan = cached->plan().data();
  const std::shared_ptr<const Schedule::Data> schedule = make_schedule(plan, call.step, operation);
  validate_tables(schedule->score.tables, tensors, operation);
  validate_table_elements(plan.problem, schedule->score, tensors, operation);
  Workspace workspace = cached->borrow();
  run(plan, *schedule, tensors, workspace.data());
  cached->give_back(std::move(workspace));
}

}  // namespace

void attention(const ForwardTensors& tensors, const AttentionOptions& options) {
  const Call call = describe_call(tensors, options, "attention");
  validate_forward(call.problem, call.step, tensors, "attention");
  run_call(call, tensors, options, "attention", run_forward);
}

void attention_backward(const BackwardTensors& tensors, const AttentionOptions& options) {
  const Call call = describe_call(tensors, options, "attention_backward");
  validate_backward(call.problem, call.step, tensors, "attention_backward");
  run_call(call, tensors, options, "attention_backward", run_backward);
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : supported_kernels()) names.emplace_back(table->name);
  return names;
}

}  // namespace tilewise
