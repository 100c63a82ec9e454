// SPDX-License-Identifier: Apache-2.0
// The C interface over the C++ one: copies structs, catches everything.
#include "tilewise/tilewise_c.h"

#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "base/message.h"
#include "tilewise/tilewise.h"

using tilewise::InvalidArgument;
using tilewise::message;

namespace {

thread_local std::string last_error;

// Runs body; what it throws becomes a status and the text of tilewise_last_error().
template <class Body>
tilewise_status guarded(const Body& body) noexcept {
  const auto failed = [](tilewise_status status, const char* text) {
    try {
      last_error = text;
    } catch (...) {
      last_error.clear();  // no memory even for the text
    }
    return status;
  };
  try {
    body();
    return TILEWISE_OK;
  } catch (const tilewise::Error& error) {
    return failed(static_cast<tilewise_status>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(TILEWISE_DEVICE_ERROR, "out of memory");
  } catch (const std::exception& error) {
    return failed(TILEWISE_INTERNAL_ERROR, error.what());
  } catch (...) {
    return failed(TILEWISE_INTERNAL_ERROR, "unknown exception");
  }
}

// A caller compiled against an older header gives a smaller struct: the rest is zero, the default.
// One compiled against a newer header gives a larger one: fine as long as what we do not know is
// zero.
template <class Struct>
Struct known_part(const Struct* given, const char* operation, const char* name) {
  if (!given) throw InvalidArgument(message(operation, name, "NULL", "a pointer"));
  const size_t size = given->struct_size;
  if (size < sizeof(size_t))
    throw InvalidArgument(message(operation, std::string(name) + ".struct_size",
                                  std::to_string(size), std::to_string(sizeof(Struct)),
                                  "set it to sizeof the struct"));
  const char* bytes = reinterpret_cast<const char*>(given);
  for (size_t i = sizeof(Struct); i < size; ++i)
    if (bytes[i] != 0)
      throw InvalidArgument(message(operation, std::string(name) + ".struct_size",
                                    std::to_string(size),
                                    "at most " + std::to_string(sizeof(Struct)),
                                    "a newer option is set that this library does not know"));
  Struct known;
  std::memset(&known, 0, sizeof known);
  std::memcpy(&known, given, size < sizeof known ? size : sizeof known);
  return known;
}

template <class Struct>
Struct known_part_or_default(const Struct* given, const char* operation, const char* name) {
  Struct zero;
  std::memset(&zero, 0, sizeof zero);
  return given ? known_part(given, operation, name) : zero;
}

template <class Handle>
Handle& required(Handle* handle, const char* operation, const char* name) {
  if (!handle) throw InvalidArgument(message(operation, name, "NULL", "a handle"));
  return *handle;
}

tilewise::Tensor to_tensor(const tilewise_tensor* given, const char* operation, const char* name) {
  tilewise::Tensor tensor;
  if (!given) return tensor;
  const tilewise_tensor known = known_part(given, operation, name);
  tensor.data = known.data;
  tensor.dtype = static_cast<tilewise::DType>(known.dtype);
  std::memcpy(tensor.shape, known.shape, sizeof tensor.shape);
  std::memcpy(tensor.strides, known.strides, sizeof tensor.strides);
  return tensor;
}

const char* required_text(const char* text, const char* operation, const std::string& name) {
  if (!text) throw InvalidArgument(message(operation, name, "NULL", "a name"));
  return text;
}

// Calls add(struct, name for messages) for every struct of an array of pointers.
template <class Struct, class Add>
void for_each_struct(const Struct* const* list, size_t count, const char* operation,
                     const char* name, const Add& add) {
  if (count > 0 && !list)
    throw InvalidArgument(message(operation, name, "NULL", std::to_string(count) + " pointers"));
  for (size_t i = 0; i < count; ++i) {
    const std::string element = std::string(name) + "[" + std::to_string(i) + "]";
    add(known_part(list[i], operation, element.c_str()), element);
  }
}

std::vector<tilewise::IntegerTable> to_tables(const tilewise_integer_table* const* list,
                                              size_t count, const char* operation) {
  std::vector<tilewise::IntegerTable> tables;
  for_each_struct(list, count, operation, "tables",
                  [&](const tilewise_integer_table& t, const std::string& name) {
                    if (t.rank < 1 || t.rank > 4)
                      throw InvalidArgument(
                          message(operation, name + ".rank", std::to_string(t.rank), "1 to 4"));
                    tables.push_back({required_text(t.name, operation, name + ".name"),
                                      t.data,
                                      static_cast<tilewise::IntegerType>(t.type),
                                      {t.shape, t.shape + t.rank}});
                  });
  return tables;
}

std::vector<tilewise::NamedScalar> to_scalars(const tilewise_scalar* const* list, size_t count,
                                              const char* operation) {
  std::vector<tilewise::NamedScalar> scalars;
  for_each_struct(
      list, count, operation, "scalars", [&](const tilewise_scalar& s, const std::string& name) {
        const std::string text = required_text(s.name, operation, name + ".name");
        s.is_real ? scalars.emplace_back(text, s.real) : scalars.emplace_back(text, s.integer);
      });
  return scalars;
}

std::vector<tilewise::NamedTensor> to_named(const tilewise_named_tensor* const* list, size_t count,
                                            const char* operation, const char* what) {
  std::vector<tilewise::NamedTensor> tensors;
  for_each_struct(list, count, operation, what,
                  [&](const tilewise_named_tensor& t, const std::string& name) {
                    tensors.push_back({required_text(t.name, operation, name + ".name"),
                                       to_tensor(t.tensor, operation, name.c_str())});
                  });
  return tensors;
}

std::optional<uint64_t> to_seed(const uint64_t* seed) {
  return seed ? std::optional(*seed) : std::nullopt;
}

tilewise::SequenceStarts to_starts(const void* data, int32_t type, int64_t sequences) {
  if (!data) return {};
  return {data, static_cast<tilewise::IntegerType>(type), sequences + 1};
}

tilewise::ForwardTensors to_tensors(const tilewise_forward_tensors* given, const char* operation) {
  const tilewise_forward_tensors t = known_part(given, operation, "tensors");
  const auto get = [&](const tilewise_tensor* x, const char* name) {
    return to_tensor(x, operation, name);
  };
  return {get(t.query, "query"),
          get(t.key, "key"),
          get(t.value, "value"),
          get(t.bias, "bias"),
          get(t.output, "output"),
          get(t.logsumexp, "logsumexp"),
          to_named(t.tables, t.table_count, operation, "tables"),
          get(t.sink, "sink"),
          to_seed(t.dropout_seed)};
}

tilewise::BackwardTensors to_tensors(const tilewise_backward_tensors* given,
                                     const char* operation) {
  const tilewise_backward_tensors t = known_part(given, operation, "tensors");
  const auto get = [&](const tilewise_tensor* x, const char* name) {
    return to_tensor(x, operation, name);
  };
  return {get(t.query, "query"),
          get(t.key, "key"),
          get(t.value, "value"),
          get(t.bias, "bias"),
          get(t.output, "output"),
          get(t.logsumexp, "logsumexp"),
          get(t.grad_output, "grad_output"),
          get(t.grad_logsumexp, "grad_logsumexp"),
          get(t.grad_query, "grad_query"),
          get(t.grad_key, "grad_key"),
          get(t.grad_value, "grad_value"),
          get(t.grad_bias, "grad_bias"),
          to_named(t.tables, t.table_count, operation, "tables"),
          to_named(t.grad_tables, t.grad_table_count, operation, "grad_tables"),
          get(t.sink, "sink"),
          get(t.grad_sink, "grad_sink"),
          to_seed(t.dropout_seed)};
}

tilewise::Mask to_mask(const char* text) {
  return text ? tilewise::mask_from_text(text) : tilewise::Mask();
}

tilewise::Score to_score(const char* text) {
  return text ? tilewise::score_from_text(text) : tilewise::Score();
}

std::optional<double> to_scale(double scale) {
  return scale == 0 ? std::nullopt : std::optional<double>(scale);
}

// An application's pool behind the Executor interface.
class CallbackExecutor final : public tilewise::Executor {
 public:
  CallbackExecutor(tilewise_run_workers run, void* context, int workers)
      : run_(run), context_(context), workers_(workers) {}
  [[nodiscard]] int max_workers() const noexcept override { return workers_; }
  void run(int workers, void (*task)(void* context, int worker), void* task_context) override {
    run_(context_, workers, task, task_context);
  }

 private:
  tilewise_run_workers run_;
  void* context_;
  int workers_;
};

tilewise::AttentionOptions to_options(const tilewise_attention_options* given,
                                      const char* operation) {
  const tilewise_attention_options o = known_part_or_default(given, operation, "options");
  tilewise::AttentionOptions options;
  options.mask = to_mask(o.mask);
  options.score = to_score(o.score);
  options.tables = to_tables(o.tables, o.table_count, operation);
  options.scalars = to_scalars(o.scalars, o.scalar_count, operation);
  options.scale = to_scale(o.scale);
  options.query_offset = o.query_offset;
  options.key_offset = o.key_offset;
  options.same_bits_as_prefill = o.same_bits_as_prefill != 0;
  options.dropout = o.dropout;
  options.query_starts = to_starts(o.query_starts, o.starts_type, o.sequences);
  options.key_starts = to_starts(o.key_starts, o.starts_type, o.sequences);
  options.plan.isa = o.isa ? o.isa : "";
  options.plan.threads = o.threads;
  return options;
}

tilewise::Step to_step(const tilewise_step* step, const char* operation) {
  const tilewise_step s = known_part(step, operation, "step");
  return {s.batch,
          s.query_length,
          s.kv_length,
          s.query_offset,
          s.key_offset,
          s.batch_offset,
          s.head_offset,
          to_tables(s.tables, s.table_count, operation),
          to_scalars(s.scalars, s.scalar_count, operation),
          to_starts(s.query_starts, s.starts_type, s.batch),
          to_starts(s.key_starts, s.starts_type, s.batch)};
}

}  // namespace

struct tilewise_plan {
  std::unique_ptr<CallbackExecutor> executor;
  tilewise::Plan plan;
};
struct tilewise_schedule {
  tilewise::Schedule schedule;
};
struct tilewise_workspace {
  tilewise::Workspace workspace;
};

extern "C" {

const char* tilewise_version(void) { return TILEWISE_VERSION; }

const char* tilewise_last_error(void) { return last_error.c_str(); }

size_t tilewise_available_isas(const char** names, size_t capacity) {
  // The names live as long as the program; filled once.
  static const std::vector<std::string> isas = tilewise::available_isas();
  for (size_t i = 0; names && i < isas.size() && i < capacity; ++i) names[i] = isas[i].c_str();
  return isas.size();
}

tilewise_status tilewise_plan_create(const tilewise_problem* problem,
                                     const tilewise_plan_options* options, tilewise_plan** plan) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_plan_create";
    tilewise_plan*& result = required(plan, operation, "plan");
    result = nullptr;
    const tilewise_problem p = known_part(problem, operation, "problem");
    const tilewise_plan_options o = known_part_or_default(options, operation, "options");
    tilewise::Problem description;
    description.query_heads = p.query_heads == 0 ? 1 : p.query_heads;
    description.kv_heads = p.kv_heads;
    description.max_batch = p.max_batch == 0 ? 1 : p.max_batch;
    description.max_query_length = p.max_query_length;
    description.max_kv_length = p.max_kv_length;
    description.head_dim = p.head_dim;
    description.value_dim = p.value_dim;
    description.dtype = static_cast<tilewise::DType>(p.dtype);
    description.mask = to_mask(p.mask);
    description.score = to_score(p.score);
    description.scale = to_scale(p.scale);
    description.has_bias = p.has_bias != 0;
    description.same_bits_as_prefill = p.same_bits_as_prefill != 0;
    description.has_sink = p.has_sink != 0;
    description.dropout = p.dropout;
    description.max_total_queries = p.max_total_queries;
    if (p.max_table_elements != 0) description.max_table_elements = p.max_table_elements;
    std::unique_ptr<CallbackExecutor> executor;
    if (o.run_workers) {
      if (o.executor_workers < 1 || o.executor_workers > 4096)
        throw InvalidArgument(message(operation, "options.executor_workers",
                                      std::to_string(o.executor_workers), "1 to 4096"));
      executor =
          std::make_unique<CallbackExecutor>(o.run_workers, o.executor_context, o.executor_workers);
    }
    const tilewise::PlanOptions plan_options{o.isa ? o.isa : "", o.threads, executor.get()};
    tilewise::Plan made = tilewise::make_plan(description, plan_options);
    result = new tilewise_plan{std::move(executor), std::move(made)};
  });
}

void tilewise_plan_destroy(tilewise_plan* plan) { delete plan; }

size_t tilewise_plan_workspace_bytes(const tilewise_plan* plan) {
  return plan ? plan->plan.workspace_bytes() : 0;
}

const char* tilewise_plan_isa(const tilewise_plan* plan) {
  return plan ? plan->plan.isa().c_str() : nullptr;
}

int32_t tilewise_plan_threads(const tilewise_plan* plan) { return plan ? plan->plan.threads() : 0; }

tilewise_status tilewise_schedule_create(const tilewise_plan* plan, const tilewise_step* step,
                                         tilewise_schedule** schedule) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_schedule_create";
    tilewise_schedule*& result = required(schedule, operation, "schedule");
    result = nullptr;
    const tilewise::Step s = to_step(step, operation);
    result = new tilewise_schedule{required(plan, operation, "plan").plan.schedule(s)};
  });
}

tilewise_status tilewise_schedule_update(const tilewise_plan* plan, tilewise_schedule* schedule,
                                         const tilewise_step* step) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_schedule_update";
    const tilewise::Step s = to_step(step, operation);
    required(plan, operation, "plan")
        .plan.update(required(schedule, operation, "schedule").schedule, s);
  });
}

void tilewise_schedule_destroy(tilewise_schedule* schedule) { delete schedule; }

tilewise_status tilewise_workspace_create(const tilewise_plan* plan, void* memory, size_t bytes,
                                          tilewise_workspace** workspace) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_workspace_create";
    tilewise_workspace*& result = required(workspace, operation, "workspace");
    result = nullptr;
    const tilewise::Plan& p = required(plan, operation, "plan").plan;
    result = memory ? new tilewise_workspace{tilewise::Workspace(memory, bytes)}
                    : new tilewise_workspace{tilewise::Workspace(p)};
  });
}

void tilewise_workspace_destroy(tilewise_workspace* workspace) { delete workspace; }

tilewise_status tilewise_forward(const tilewise_plan* plan, const tilewise_schedule* schedule,
                                 const tilewise_forward_tensors* tensors,
                                 tilewise_workspace* workspace) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_forward";
    required(plan, operation, "plan")
        .plan.forward(required(schedule, operation, "schedule").schedule,
                      to_tensors(tensors, operation),
                      required(workspace, operation, "workspace").workspace);
  });
}

tilewise_status tilewise_backward(const tilewise_plan* plan, const tilewise_schedule* schedule,
                                  const tilewise_backward_tensors* tensors,
                                  tilewise_workspace* workspace) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_backward";
    required(plan, operation, "plan")
        .plan.backward(required(schedule, operation, "schedule").schedule,
                       to_tensors(tensors, operation),
                       required(workspace, operation, "workspace").workspace);
  });
}

tilewise_status tilewise_explain(const tilewise_plan* plan, const tilewise_schedule* schedule,
                                 char* text, size_t capacity, size_t* length) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_explain";
    if (!text && capacity > 0)
      throw InvalidArgument(message(operation, "text", "NULL", "a buffer"));
    const std::string whole = required(plan, operation, "plan")
                                  .plan.explain(required(schedule, operation, "schedule").schedule);
    if (length) *length = whole.size();
    if (capacity == 0) return;
    const size_t n = whole.size() < capacity ? whole.size() : capacity - 1;
    std::memcpy(text, whole.data(), n);
    text[n] = '\0';
  });
}

tilewise_status tilewise_attention(const tilewise_forward_tensors* tensors,
                                   const tilewise_attention_options* options) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_attention";
    tilewise::attention(to_tensors(tensors, operation), to_options(options, operation));
  });
}

tilewise_status tilewise_attention_backward(const tilewise_backward_tensors* tensors,
                                            const tilewise_attention_options* options) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_attention_backward";
    tilewise::attention_backward(to_tensors(tensors, operation), to_options(options, operation));
  });
}

tilewise_status tilewise_merge(const tilewise_merge_tensors* tensors, int32_t threads) {
  return guarded([&] {
    constexpr const char* operation = "tilewise_merge";
    const tilewise_merge_tensors t = known_part(tensors, operation, "tensors");
    std::vector<tilewise::PartialResult> parts;
    for_each_struct(t.parts, t.part_count, operation, "parts",
                    [&](const tilewise_partial_result& part, const std::string& name) {
                      const std::string output = name + ".output", lse = name + ".logsumexp";
                      parts.push_back({to_tensor(part.output, operation, output.c_str()),
                                       to_tensor(part.logsumexp, operation, lse.c_str())});
                    });
    tilewise::merge(parts, to_tensor(t.output, operation, "output"),
                    to_tensor(t.logsumexp, operation, "logsumexp"),
                    to_tensor(t.sink, operation, "sink"), {threads, nullptr});
  });
}

}  // extern "C"
