// SPDX-License-Identifier: Apache-2.0
// Calls the library as a careless or hostile caller does: problems, steps and descriptors of any
// content. Each tensor gets exactly the memory that its descriptor claims, so with
// AddressSanitizer a validation that lets too much through is a report. Some of what is accepted
// and small runs, forward and backward.
//
// The last byte of the input names options, whose data is read backwards from there, so that every
// other byte means what it means without them.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuzz/byte_reader.h"
#include "fuzz/fuzz_targets.h"
#include "problem/ragged.h"
#include "problem/validate.h"
#include "problem/validate_tensors.h"
#include "tilewise/tilewise.h"

namespace tilewise::fuzz {
namespace {

// Above these nothing is allocated or run, only validated.
constexpr int64_t kMostBytes = 1 << 14;   // of one tensor
constexpr int64_t kMostLength = 1 << 14;  // of a schedule; also of heads in all batch entries
constexpr size_t kMostWorkspace = 1 << 24;
constexpr int64_t kMostStarts = 1 << 10;  // of a ragged batch

// The last byte: these in any combination, or no option below kFirstOption.
constexpr uint8_t kDropout = 1, kSink = 2, kTotalQueries = 4, kRagged = 8, kOutputDType = 16;
constexpr uint8_t kFirstOption = 0xe0;

struct Options {
  explicit Options(const std::vector<uint8_t>& reversed)
      : bytes(reversed.data(), reversed.size()), last(bytes.byte()) {
    if (last < kFirstOption) bytes = ByteReader(nullptr, 0);
  }
  bool has(uint8_t option) const { return last >= kFirstOption && (last & option) != 0; }

  ByteReader bytes;
  uint8_t last;
};

struct Memory {
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::vector<std::unique_ptr<char, Free>> blocks;
  bool is_complete = true;  // every tensor has the memory it claims

  // From the lowest to the highest element, filled with a byte of the input.
  void give(Tensor& tensor, ByteReader& bytes) {
    __int128 low = 0, high = 0;
    for (int axis = 0; axis < 4; ++axis) {
      if (tensor.shape[axis] <= 0) return;
      const __int128 reach = static_cast<__int128>(tensor.shape[axis] - 1) * tensor.strides[axis];
      (reach < 0 ? low : high) += reach;
    }
    const int64_t element = dtype_bytes(tensor.dtype);
    const __int128 size = (high - low + 1) * element;
    if (size > kMostBytes) {
      is_complete = false;
      return;
    }
    const auto count = static_cast<size_t>(size);
    blocks.emplace_back(static_cast<char*>(std::malloc(count)));
    std::memset(blocks.back().get(), bytes.byte(),
                count);  // 0 and 0xff, among others: zero and NaN
    tensor.data = blocks.back().get() - static_cast<int64_t>(low) * element;
  }

  // Room for the starts of size sequences, if that is not absurd.
  void* give_starts(const SequenceStarts& starts) {
    const int64_t element = starts.type == IntegerType::kInt32 ? 4 : 8;
    const int64_t count = std::clamp<int64_t>(starts.size, 0, kMostStarts);
    blocks.emplace_back(static_cast<char*>(std::malloc(static_cast<size_t>(count * element))));
    return blocks.back().get();
  }
};

Mask make_mask(ByteReader& bytes) {
  switch (bytes.below(6)) {
    case 1:
      return causal();
    case 2:
      return causal_top_left();
    case 3:
      return window(bytes.extent(20), bytes.extent(20));
    case 4: {
      std::string text;
      for (int64_t length = bytes.below(32); length > 0; --length) {
        text += static_cast<char>(bytes.byte());
      }
      return mask_from_text(text);
    }
    default:
      return {};
  }
}

double make_dropout(ByteReader& bytes) {
  constexpr double kEdges[] = {0,
                               -0.0,
                               0x1p-17,
                               0x1p-18,
                               1 - 0x1p-16,
                               1 - 0x1p-17,
                               1,
                               -0x1p-17,
                               std::numeric_limits<double>::denorm_min(),
                               std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN()};
  switch (bytes.below(4)) {
    case 0:
      return std::bit_cast<double>(bytes.word());
    case 1:
      return kEdges[static_cast<size_t>(bytes.byte()) % std::size(kEdges)];
    default:
      return bytes.byte() / 256.0;
  }
}

Problem make_problem(ByteReader& bytes, Options& options) {
  Problem problem;
  problem.query_heads = bytes.extent(4);
  problem.kv_heads = bytes.extent(4);
  problem.max_batch = bytes.extent(2);
  problem.max_query_length = bytes.extent(40);
  problem.max_kv_length = bytes.extent(40);
  problem.head_dim = bytes.extent(70);
  problem.value_dim = bytes.extent(70);
  problem.dtype = static_cast<DType>(bytes.one_in(64) ? static_cast<int32_t>(bytes.word())
                                                      : static_cast<int32_t>(bytes.below(4)));
  if (bytes.one_in(8)) problem.scale = std::bit_cast<double>(bytes.word());
  problem.has_bias = bytes.one_in(3);
  problem.mask = make_mask(bytes);
  problem.has_sink = options.has(kSink);
  if (options.has(kDropout)) problem.dropout = make_dropout(options.bytes);
  if (options.has(kTotalQueries)) problem.max_total_queries = options.bytes.extent(80);
  return problem;
}

Step make_step(const Problem& problem, ByteReader& bytes) {
  Step step;
  step.batch = problem.max_batch;
  step.query_length = problem.max_query_length;
  step.kv_length = problem.max_kv_length;
  int64_t* const fields[] = {&step.batch,        &step.query_length, &step.kv_length,
                             &step.query_offset, &step.key_offset,   &step.batch_offset,
                             &step.head_offset};
  for (int64_t changes = bytes.below(4); changes > 0; --changes) {
    *fields[bytes.below(7)] = bytes.extent(40);
  }
  return step;
}

// Mostly batch + 1 starts that ascend by up to most; now and then of another size or type, or none.
SequenceStarts make_starts(int64_t batch, int64_t most, ByteReader& bytes, Memory& memory) {
  SequenceStarts starts;
  starts.type = static_cast<IntegerType>(bytes.one_in(32) ? static_cast<int32_t>(bytes.word())
                                                          : static_cast<int32_t>(bytes.below(2)));
  const bool has_any_size = bytes.one_in(16) || batch < 0 || batch >= kMostStarts;
  starts.size = has_any_size ? bytes.extent(4) : batch + 1;
  // Too many to allocate, but as many as expected: none, as they would be read.
  if (bytes.one_in(16) || (starts.size > kMostStarts && starts.size - 1 == batch)) return starts;
  void* const data = memory.give_starts(starts);
  uint64_t start = bytes.one_in(32) ? bytes.word() : 0;
  for (int64_t i = 0; i < std::min(starts.size, kMostStarts); ++i) {
    if (starts.type == IntegerType::kInt32) {
      static_cast<int32_t*>(data)[i] = static_cast<int32_t>(start);
    } else {
      static_cast<int64_t*>(data)[i] = static_cast<int64_t>(start);
    }
    start += static_cast<uint64_t>(bytes.extent(most));
  }
  starts.data = data;
  return starts;
}

// Mostly the rows of all sequences, and a few behind them.
int64_t make_length(const SequenceStarts& starts, ByteReader& bytes) {
  const bool has_last = starts.data != nullptr && starts.size > 0 && starts.size <= kMostStarts;
  if (bytes.one_in(8) || !has_last) return bytes.extent(80);
  return static_cast<int64_t>(static_cast<uint64_t>(total_length(starts)) +
                              static_cast<uint64_t>(bytes.below(4)));
}

void make_ragged(const Problem& problem, ByteReader& bytes, Step& step, Memory& memory) {
  const auto most = [](int64_t length) { return std::clamp<int64_t>(length, 0, 40); };
  step.query_starts = make_starts(step.batch, most(problem.max_query_length), bytes, memory);
  step.key_starts = bytes.one_in(4)
                        ? step.query_starts
                        : make_starts(step.batch, most(problem.max_kv_length), bytes, memory);
  step.query_length = make_length(step.query_starts, bytes);
  step.kv_length = make_length(step.key_starts, bytes);
}

// A tensor as it should be, in one of four layouts.
Tensor good_tensor(DType dtype, const std::vector<int64_t>& shape, ByteReader& bytes) {
  const int64_t b = shape[0], h = shape[1], n = shape[2], d = shape[3];
  uint64_t packed[4] = {static_cast<uint64_t>(h) * n * d, static_cast<uint64_t>(n) * d,
                        static_cast<uint64_t>(d), 1};  // wraps where extents are absurd
  Tensor tensor{nullptr, dtype, {b, h, n, d}, {}};
  const int64_t layout = bytes.below(8);
  if (layout == 5) {  // [batch, length, heads, dim]
    packed[1] = static_cast<uint64_t>(d);
    packed[2] = static_cast<uint64_t>(h) * d;
  }
  for (int axis = 0; axis < 4; ++axis) tensor.strides[axis] = static_cast<int64_t>(packed[axis]);
  if (layout == 6) tensor.strides[bytes.below(4)] = 0;
  if (layout == 7) {
    int64_t& stride = tensor.strides[bytes.below(4)];
    stride = static_cast<int64_t>(0 - static_cast<uint64_t>(stride));
  }
  return tensor;
}

void spoil(Tensor& tensor, ByteReader& bytes) {
  switch (bytes.below(5)) {
    case 0:
      tensor.shape[bytes.below(4)] = bytes.extent(40);
      break;
    case 1:
      tensor.strides[bytes.below(4)] = bytes.extent(200);
      break;
    case 2:
      tensor.dtype = static_cast<DType>(bytes.below(6));
      break;
    case 3:
      tensor.data = nullptr;
      break;
    case 4:
      tensor.data = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(tensor.data) +
                                            static_cast<uintptr_t>(bytes.below(9)));
      break;
  }
}

BackwardTensors make_tensors(const Problem& problem, const Step& step, ByteReader& bytes,
                             Options& options, Memory& memory) {
  const int64_t batch = is_ragged(step) ? 1 : step.batch;
  const DType real = problem.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const std::vector<int64_t> query = {batch, problem.query_heads, step.query_length,
                                      problem.head_dim};
  const std::vector<int64_t> key = {batch, problem.kv_heads, step.kv_length, problem.head_dim};
  const std::vector<int64_t> value = {batch, problem.kv_heads, step.kv_length, problem.value_dim};
  const std::vector<int64_t> output = {batch, problem.query_heads, step.query_length,
                                       problem.value_dim};
  const std::vector<int64_t> rows = {batch, problem.query_heads, step.query_length, 1};
  std::vector<int64_t> bias = {step.batch, problem.query_heads, step.query_length, step.kv_length};
  if (is_ragged(step)) {
    bias[2] = longest_sequence(step.query_starts) + options.bytes.below(3);
    bias[3] = longest_sequence(step.key_starts) + options.bytes.below(3);
  }
  for (int axis = 0; axis < 3; ++axis) {
    if (bytes.one_in(3)) bias[static_cast<size_t>(axis)] = 1;
  }

  BackwardTensors t;
  t.query = good_tensor(problem.dtype, query, bytes);
  t.key = good_tensor(problem.dtype, key, bytes);
  t.value = good_tensor(problem.dtype, value, bytes);
  t.output = good_tensor(problem.dtype, output, bytes);
  if (options.has(kOutputDType)) t.output.dtype = static_cast<DType>(options.bytes.below(5));
  t.logsumexp = good_tensor(real, rows, bytes);
  t.grad_output = good_tensor(problem.dtype, output, bytes);
  t.grad_query = good_tensor(problem.dtype, query, bytes);
  t.grad_key = good_tensor(problem.dtype, key, bytes);
  t.grad_value = good_tensor(problem.dtype, value, bytes);
  std::vector<Tensor*> all = {&t.query,      &t.key,       &t.value,
                              &t.output,     &t.logsumexp, &t.grad_output,
                              &t.grad_query, &t.grad_key,  &t.grad_value};
  if (problem.has_bias || bytes.one_in(32)) {
    t.bias = good_tensor(bytes.one_in(2) ? real : problem.dtype, bias, bytes);
    t.grad_bias = good_tensor(real, bias, bytes);
    all.push_back(&t.bias);
    all.push_back(&t.grad_bias);
  }
  if (bytes.one_in(3)) {
    t.grad_logsumexp = good_tensor(real, rows, bytes);
    all.push_back(&t.grad_logsumexp);
  }
  // Mostly given where the problem has it.
  if (problem.has_sink != options.bytes.one_in(16)) {
    t.sink = good_tensor(real, {1, problem.query_heads, 1, 1}, options.bytes);
    t.grad_sink = good_tensor(real, {1, problem.query_heads, 1, 1}, options.bytes);
    all.push_back(&t.sink);
    if (!options.bytes.one_in(4)) all.push_back(&t.grad_sink);
  }
  if ((problem.dropout > 0) != options.bytes.one_in(16)) t.dropout_seed = options.bytes.word();
  // Claims are spoiled before memory is given, addresses after.
  Tensor* const victim = all[static_cast<size_t>(bytes.byte()) % all.size()];
  const int64_t when = bytes.below(8);
  if (when == 1) spoil(*victim, bytes);
  for (Tensor* tensor : all) memory.give(*tensor, bytes);
  if (when == 2) {
    if (bytes.one_in(3)) {
      victim->data = all[static_cast<size_t>(bytes.byte()) % all.size()]->data;
    } else {
      spoil(*victim, bytes);
    }
    memory.is_complete = memory.is_complete && victim->data == nullptr;
  }
  return t;
}

ForwardTensors forward_part(const BackwardTensors& t) {
  return {t.query, t.key, t.value, t.bias, t.output, t.logsumexp, {}, t.sink, t.dropout_seed};
}

// What was accepted must also run; backward may be refused for its own tensors.
void run(const Plan& plan, const Schedule& schedule, const BackwardTensors& tensors) {
  Workspace workspace(plan);
  plan.forward(schedule, forward_part(tensors), workspace);
  plan.backward(schedule, tensors, workspace);
}

}  // namespace

void fuzz_problem(const uint8_t* data, size_t size) {
  ByteReader bytes(data, size);
  const std::vector<uint8_t> reversed(std::make_reverse_iterator(data + size),
                                      std::make_reverse_iterator(data));
  Options options(reversed);
  try {
    static const std::vector<std::string> isas = available_isas();
    PlanOptions plan_options;
    plan_options.isa = isas[static_cast<size_t>(bytes.byte()) % isas.size()];
    plan_options.threads = bytes.one_in(128) ? static_cast<int>(bytes.word()) : 1;
    const Problem problem = make_problem(bytes, options);
    const Plan plan = make_plan(problem, plan_options);
    Memory memory;
    Step step = make_step(plan.problem(), bytes);
    if (options.has(kRagged)) make_ragged(plan.problem(), options.bytes, step, memory);
    validate_step(plan.problem(), step);
    std::optional<Schedule> schedule;
    if (std::max({step.query_length, step.kv_length, step.batch * problem.query_heads}) <=
        kMostLength) {
      schedule = plan.schedule(step);
    }

    const BackwardTensors tensors = make_tensors(plan.problem(), step, bytes, options, memory);
    // A run takes a thousand times as long as a validation.
    if (bytes.one_in(64) && schedule && memory.is_complete &&
        plan.workspace_bytes() <= kMostWorkspace && plan.threads() == 1) {
      run(plan, *schedule, tensors);
    } else {
      validate_forward(plan.problem(), step, forward_part(tensors));
      validate_backward(plan.problem(), step, tensors);
    }
  } catch (const InvalidArgument&) {
  }
}

}  // namespace tilewise::fuzz
