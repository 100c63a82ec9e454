// SPDX-License-Identifier: Apache-2.0
// A ragged batch is its sequences, each computed alone: bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "problem/ragged.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"

namespace tilewise {
namespace {

struct Lengths {
  int64_t queries, keys;
};

struct RaggedCase {
  std::vector<Lengths> sequences;
  Lengths tail = {0, 0};
  Mask mask = {};
  Score score = {};
  DType dtype = DType::kFloat32;
  int64_t query_heads = 4, kv_heads = 2, head_dim = 24, value_dim = 16;
  int bias = 0;  // 0: none; else the axes of which it has more than 1: 1 batch, 2 heads, 4 queries
  std::vector<IntegerTable> tables = {};
  bool has_slopes = false;  // a real table "slope" of the heads
  double slope = 0.3;       // of head 0; half of it for the next, and so on
  bool is_wide = false;     // starts of int64
  int64_t batch_offset = 0;
};

std::vector<unsigned char> bytes_of(const Tensor& tensor) {
  std::vector<unsigned char> bytes;
  const int64_t* n = tensor.shape;
  const int64_t size = dtype_bytes(tensor.dtype);
  for (int64_t b = 0; b < n[0]; ++b)
    for (int64_t h = 0; h < n[1]; ++h)
      for (int64_t i = 0; i < n[2]; ++i)
        for (int64_t c = 0; c < n[3]; ++c) {
          const auto* at = static_cast<const unsigned char*>(tensor.data) +
                           size * (b * tensor.strides[0] + h * tensor.strides[1] +
                                   i * tensor.strides[2] + c * tensor.strides[3]);
          bytes.insert(bytes.end(), at, at + size);
        }
  return bytes;
}

// Every element of the tensor is this number.
bool holds_only(const Tensor& tensor, double value) {
  const std::vector<unsigned char> bytes = bytes_of(tensor);
  const auto count = static_cast<int64_t>(bytes.size()) / dtype_bytes(tensor.dtype);
  for (int64_t i = 0; i < count; ++i)
    if (load_element(bytes.data(), tensor.dtype, i) != value) return false;
  return true;
}

class Memory {
 public:
  // [batch, length, heads, dim], all NaN.
  Tensor make(DType dtype, int64_t batch, int64_t heads, int64_t length, int64_t dim) {
    parts_.emplace_back(static_cast<size_t>(batch * heads * length * dim * dtype_bytes(dtype)) + 8,
                        0xff);
    return Tensor::bshd(parts_.back().data(), dtype, batch, length, heads, dim);
  }
  static void fill(const Tensor& t, Random& random) {
    for (int64_t b = 0; b < t.shape[0]; ++b)
      for (int64_t i = 0; i < t.shape[2]; ++i)
        for (int64_t h = 0; h < t.shape[1]; ++h)
          for (int64_t c = 0; c < t.shape[3]; ++c)
            store_element(t.data, t.dtype,
                          b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + c * t.strides[3],
                          random.normal());
  }

 private:
  std::vector<std::vector<unsigned char>> parts_;
};

// The tensors of a ragged batch; rows of the tail hold NaN.
class RaggedData {
 public:
  explicit RaggedData(const RaggedCase& c) : c_(c) {
    queries_ = {0}, keys_ = {0};
    for (const Lengths& one : c.sequences) {
      queries_.push_back(queries_.back() + one.queries);
      keys_.push_back(keys_.back() + one.keys);
      longest_ = {std::max(longest_.queries, one.queries), std::max(longest_.keys, one.keys)};
    }
    narrow_queries_.assign(queries_.begin(), queries_.end());
    narrow_keys_.assign(keys_.begin(), keys_.end());
    const auto count = static_cast<int64_t>(c.sequences.size());
    const int64_t n = queries_.back() + c.tail.queries, m = keys_.back() + c.tail.keys;
    const DType real = c.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    const auto rows = [&](int64_t dim) { return memory_.make(c.dtype, 1, c.query_heads, n, dim); };
    const auto columns = [&](int64_t dim) { return memory_.make(c.dtype, 1, c.kv_heads, m, dim); };
    t.query = rows(c.head_dim), t.output = rows(c.value_dim), t.grad_output = rows(c.value_dim);
    t.grad_query = rows(c.head_dim);
    t.key = columns(c.head_dim), t.value = columns(c.value_dim);
    t.grad_key = columns(c.head_dim), t.grad_value = columns(c.value_dim);
    t.logsumexp = memory_.make(real, 1, c.query_heads, n, 1);
    t.grad_logsumexp = memory_.make(real, 1, c.query_heads, n, 1);
    Random random(20261126, static_cast<uint64_t>(n * 1000 + m));
    for (const Tensor& x : {t.query, t.grad_output, t.grad_logsumexp})
      Memory::fill(rows_of(x, 0, queries_.back()), random);
    for (const Tensor& x : {t.key, t.value}) Memory::fill(rows_of(x, 0, keys_.back()), random);
    if (c.bias != 0) {
      const auto bias = [&](DType dtype) {
        return memory_.make(dtype, c.bias & 1 ? count : 1, c.bias & 2 ? c.query_heads : 1,
                            c.bias & 4 ? longest_.queries + 3 : 1, longest_.keys + 2);
      };
      t.bias = bias(c.dtype), t.grad_bias = bias(real);
      Memory::fill(t.bias, random);
    }
    if (c.has_slopes) {
      slopes_ = memory_.make(DType::kFloat32, 1, 1, 1, c.query_heads);
      grad_slopes = memory_.make(real, 1, 1, 1, c.query_heads);
      for (int64_t h = 0; h < c.query_heads; ++h)
        store_element(slopes_.data, DType::kFloat32, h, c.slope * std::pow(0.5, h));
      t.tables = {{"slope", slopes_}};
      t.grad_tables = {{"slope", grad_slopes}};
    }
  }

  [[nodiscard]] Problem problem() const {
    Problem problem;
    problem.query_heads = c_.query_heads;
    problem.kv_heads = c_.kv_heads;
    problem.max_batch = static_cast<int64_t>(c_.sequences.size());
    problem.max_query_length = longest_.queries;
    problem.max_kv_length = longest_.keys;
    problem.max_total_queries = std::max<int64_t>(queries_.back(), 1);
    problem.head_dim = c_.head_dim;
    problem.value_dim = c_.value_dim;
    problem.dtype = c_.dtype;
    problem.mask = c_.mask;
    problem.score = c_.score;
    problem.has_bias = c_.bias != 0;
    return problem;
  }
  [[nodiscard]] Step step() const {
    Step step;
    step.batch = static_cast<int64_t>(c_.sequences.size());
    step.query_length = t.query.shape[2];
    step.kv_length = t.key.shape[2];
    step.batch_offset = c_.batch_offset;
    step.tables = c_.tables;
    const auto starts = [&](const auto& wide, const auto& narrow) {
      return c_.is_wide ? SequenceStarts{wide.data(), IntegerType::kInt64, step.batch + 1}
                        : SequenceStarts{narrow.data(), IntegerType::kInt32, step.batch + 1};
    };
    step.query_starts = starts(queries_, narrow_queries_);
    step.key_starts = starts(keys_, narrow_keys_);
    return step;
  }

  // What the call for one sequence alone gets.
  [[nodiscard]] BackwardTensors alone(int64_t i) const {
    const auto rows = [&](const Tensor& x) {
      return rows_of(x, queries_[static_cast<size_t>(i)], sequence(i).queries);
    };
    const auto columns = [&](const Tensor& x) {
      return rows_of(x, keys_[static_cast<size_t>(i)], sequence(i).keys);
    };
    const auto bias = [&](const Tensor& x) {
      return bias_of(x, i, sequence(i).queries, sequence(i).keys);
    };
    BackwardTensors one = t;
    for (Tensor* x : {&one.query, &one.output, &one.logsumexp, &one.grad_output,
                      &one.grad_logsumexp, &one.grad_query})
      *x = rows(*x);
    for (Tensor* x : {&one.key, &one.value, &one.grad_key, &one.grad_value}) *x = columns(*x);
    for (Tensor* x : {&one.bias, &one.grad_bias}) *x = bias(*x);
    return one;
  }
  [[nodiscard]] const Lengths& sequence(int64_t i) const {
    return c_.sequences[static_cast<size_t>(i)];
  }
  [[nodiscard]] Tensor tail(const Tensor& x, bool of_keys) const {
    const int64_t first = (of_keys ? keys_ : queries_).back();
    return rows_of(x, first, x.shape[2] - first);
  }

  BackwardTensors t;
  Tensor grad_slopes;

 private:
  const RaggedCase& c_;
  Memory memory_;
  std::vector<int64_t> queries_, keys_;
  std::vector<int32_t> narrow_queries_, narrow_keys_;
  Lengths longest_ = {0, 0};
  Tensor slopes_;
};

ForwardTensors forward_of(const BackwardTensors& t) {
  return {t.query, t.key, t.value, t.bias, t.output, t.logsumexp, t.tables};
}

void run(const Plan& plan, const Step& step, const BackwardTensors& tensors) {
  const Schedule schedule = plan.schedule(step);
  Workspace workspace(plan);
  std::memset(workspace.data(), 0xff, workspace.bytes());
  plan.forward(schedule, forward_of(tensors), workspace);
  plan.backward(schedule, tensors, workspace);
}

// Names of what differs in a sequence.
std::string differences(const BackwardTensors& a, const BackwardTensors& b, bool with_bias) {
  std::string names;
  const auto compare = [&](const char* name, const Tensor& x, const Tensor& y) {
    if (bytes_of(x) != bytes_of(y)) names += std::string(" ") + name;
  };
  compare("output", a.output, b.output);
  compare("logsumexp", a.logsumexp, b.logsumexp);
  compare("grad_query", a.grad_query, b.grad_query);
  compare("grad_key", a.grad_key, b.grad_key);
  compare("grad_value", a.grad_value, b.grad_value);
  if (with_bias) compare("grad_bias", a.grad_bias, b.grad_bias);
  return names;
}

void expect_sequences_as_alone(const RaggedCase& c, const std::string& isa) {
  RaggedData alone(c);
  const Problem problem = alone.problem();
  const Plan plan = make_plan(problem, {.isa = isa, .threads = 1});
  const Step step = alone.step();
  // A bias that no sequence shares has the gradient of the sequence alone.
  const bool with_bias = (c.bias & 1) != 0;
  for (int64_t i = 0; i < step.batch; ++i) {
    Step one = sequence_step(step, i);
    one.tables = step.tables;
    run(plan, one, alone.alone(i));
  }
  std::vector<unsigned char> first;
  for (const int threads : {1, 3}) {
    RaggedData together(c);
    run(make_plan(problem, {.isa = isa, .threads = threads}), step, together.t);
    for (int64_t i = 0; i < step.batch; ++i)
      EXPECT_EQ(differences(together.alone(i), alone.alone(i), with_bias), "")
          << "sequence " << i << ", " << threads << " threads, " << isa;
    for (const Tensor* x : {&together.t.output, &together.t.grad_query})
      EXPECT_TRUE(holds_only(together.tail(*x, false), 0));
    EXPECT_TRUE(holds_only(together.tail(together.t.logsumexp, false),
                           -std::numeric_limits<double>::infinity()));
    for (const Tensor* x : {&together.t.grad_key, &together.t.grad_value})
      EXPECT_TRUE(holds_only(together.tail(*x, true), 0));
    // What several sequences add to: the same for any number of threads.
    std::vector<unsigned char> shared = bytes_of(together.t.grad_bias);
    const std::vector<unsigned char> slopes = bytes_of(together.grad_slopes);
    shared.insert(shared.end(), slopes.begin(), slopes.end());
    if (threads == 1) first = shared;
    EXPECT_TRUE(shared == first) << threads << " threads, " << isa;
  }
}

const std::vector<Lengths> kMixed = {{37, 101},  {0, 5},  {12, 0}, {150, 150}, {1, 1},
                                     {200, 170}, {5, 60}, {0, 0},  {37, 101},  {64, 64}};

TEST(Ragged, SequencesHaveTheBitsOfTheSequenceAlone) {
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    for (const DType dtype :
         {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
      if (dtype == DType::kFloat64 && isa != "scalar") continue;  // the same kernel everywhere
      SCOPED_TRACE(dtype_name(dtype));
      expect_sequences_as_alone(
          {.sequences = kMixed, .tail = {9, 4}, .mask = causal(), .dtype = dtype}, isa);
    }
  }
}

TEST(Ragged, TailsAreNeitherReadNorLeftUnwritten) {
  for (const Lengths tail : {Lengths{600, 0}, {0, 300}, {1, 1}}) {
    expect_sequences_as_alone({.sequences = {{30, 20}, {3, 90}}, .tail = tail}, "");
    expect_sequences_as_alone({.sequences = {}, .tail = tail}, "");
  }
}

TEST(Ragged, BiasOfEachSequenceOrOfAll) {
  for (int bias = 1; bias <= 8; ++bias) {
    SCOPED_TRACE(bias);
    expect_sequences_as_alone(
        {.sequences = kMixed, .tail = {2, 3}, .mask = window(60, 30), .bias = bias % 8 + 8}, "");
  }
}

TEST(Ragged, GroupsAndDims) {
  expect_sequences_as_alone({.sequences = kMixed,
                             .mask = causal(),
                             .query_heads = 5,
                             .kv_heads = 1,
                             .head_dim = 33,
                             .value_dim = 70,
                             .is_wide = true},
                            "");
  expect_sequences_as_alone(
      {.sequences = kMixed, .query_heads = 3, .kv_heads = 3, .head_dim = 64, .value_dim = 64}, "");
}

TEST(Ragged, FewQueriesOverManyKeysAreMergedAsAlone) {
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    expect_sequences_as_alone(
        {.sequences = {{1, 2500}, {3, 10}, {16, 1100}, {17, 1100}, {1, 1030}}, .mask = causal()},
        isa);
  }
}

TEST(Ragged, MasksAndScoresThatDependOnTheSequence) {
  const int32_t window_of[] = {9, 40, 3, 70, 1, 33, 20, 5, 60, 11};
  const IntegerTable table{.name = "w", .data = window_of, .shape = {10}};
  expect_sequences_as_alone({.sequences = kMixed,
                             .mask = mask_from_text("q - k < w[b] and k - q < 2 * w[b]"),
                             .tables = {table}},
                            "");
  expect_sequences_as_alone({.sequences = kMixed,
                             .mask = causal(),
                             .score = score_from_text("s * 0.5 + slope[h] * ((b + q) % 3)"),
                             .has_slopes = true,
                             .batch_offset = 77},
                            "");
}

TEST(Ragged, LengthsInExpressionsAreThoseOfTheSequence) {
  expect_sequences_as_alone(
      {.sequences = kMixed, .mask = mask_from_text("k * query_length <= q * kv_length")}, "");
}

TEST(Ragged, BlockSparse) {
  int32_t layout[8 * 8];
  for (int i = 0; i < 64; ++i) layout[i] = i % 3 != 1;
  const IntegerTable table{.name = "layout", .data = layout, .shape = {8, 8}};
  for (const int bias : {0, 15}) {
    expect_sequences_as_alone({.sequences = kMixed,
                               .mask = mask_from_text("layout[q // 32, k // 32] > 0"),
                               .bias = bias,
                               .tables = {table}},
                              "");
  }
}

TEST(Ragged, DistantKeysThatAreLeftOut) {
  for (const std::string isa : {"", "scalar"}) {
    expect_sequences_as_alone({.sequences = {{1000, 1000}, {40, 40}, {900, 950}},
                               .mask = causal(),
                               .score = score_from_text("s - slope[h] * (q - k)"),
                               .query_heads = 2,
                               .kv_heads = 2,
                               .head_dim = 8,
                               .value_dim = 8,
                               .has_slopes = true,
                               .slope = 4},
                              isa);
  }
}

// Another way to say the same: one sequence in which documents do not see one another.
TEST(Ragged, IsADocumentMask) {
  const std::vector<Lengths> sequences = {{40, 40}, {100, 100}, {7, 7}, {61, 61}};
  const RaggedCase c = {.sequences = sequences, .mask = causal()};
  RaggedData ragged(c), masked(c);
  run(make_plan(ragged.problem()), ragged.step(), ragged.t);
  std::vector<int32_t> doc;
  for (size_t i = 0; i < sequences.size(); ++i)
    doc.insert(doc.end(), static_cast<size_t>(sequences[i].queries), static_cast<int32_t>(i));
  const auto length = static_cast<int64_t>(doc.size());
  Problem problem = masked.problem();
  problem.max_query_length = problem.max_kv_length = problem.max_total_queries = length;
  problem.mask = mask_from_text("k <= q and doc[q] == doc[k]");
  Step step{.query_length = length, .kv_length = length};
  step.tables = {{.name = "doc", .data = doc.data(), .shape = {length}}};
  run(make_plan(problem), step, masked.t);
  const auto expect_near = [](const char* what, const Tensor& a, const Tensor& b) {
    const std::vector<unsigned char> x = bytes_of(a), y = bytes_of(b);
    double error = 0, largest = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(x.size()) / 4; ++i) {
      const double u = load_element(x.data(), DType::kFloat32, i);
      error = std::max(error, std::fabs(u - load_element(y.data(), DType::kFloat32, i)));
      largest = std::max(largest, std::fabs(u));
    }
    EXPECT_LE(error, 1e-5 * largest) << what;
  };
  expect_near("output", ragged.t.output, masked.t.output);
  expect_near("logsumexp", ragged.t.logsumexp, masked.t.logsumexp);
  expect_near("grad_query", ragged.t.grad_query, masked.t.grad_query);
  expect_near("grad_key", ragged.t.grad_key, masked.t.grad_key);
  expect_near("grad_value", ragged.t.grad_value, masked.t.grad_value);
}

// Sums over sequences against the sums of what each gives alone.
TEST(Ragged, SharedGradientsAreSumsOverSequences) {
  const RaggedCase c = {.sequences = kMixed,
                        .mask = causal(),
                        .score = score_from_text("s - slope[h] * (q - k)"),
                        .bias = 8 + 2 + 4,
                        .has_slopes = true,
                        .slope = 0.01};
  RaggedData together(c), alone(c);
  const Plan plan = make_plan(together.problem(), {.threads = 3});
  run(plan, together.step(), together.t);
  std::vector<double> bias(bytes_of(alone.t.grad_bias).size() / 4), slopes(4);
  for (int64_t i = 0; i < together.step().batch; ++i) {
    run(plan, sequence_step(alone.step(), i), alone.alone(i));
    for (size_t h = 0; h < 4; ++h)
      slopes[h] += load_element(alone.grad_slopes.data, DType::kFloat32, static_cast<int64_t>(h));
    const Tensor own = alone.alone(i).grad_bias;
    for (int64_t h = 0; h < own.shape[1]; ++h)
      for (int64_t q = 0; q < own.shape[2]; ++q)
        for (int64_t k = 0; k < own.shape[3]; ++k) {
          const int64_t at = h * own.strides[1] + q * own.strides[2] + k;
          bias[static_cast<size_t>(at)] += load_element(own.data, DType::kFloat32, at);
        }
  }
  double error = 0, largest = 0;
  for (size_t i = 0; i < bias.size(); ++i) {
    const double got =
        load_element(together.t.grad_bias.data, DType::kFloat32, static_cast<int64_t>(i));
    error = std::max(error, std::fabs(got - bias[i]));
    largest = std::max(largest, std::fabs(bias[i]));
  }
  EXPECT_LE(error, 1e-5 * largest);
  for (size_t h = 0; h < 4; ++h) {
    const double got =
        load_element(together.grad_slopes.data, DType::kFloat32, static_cast<int64_t>(h));
    EXPECT_NEAR(got, slopes[h], 1e-4 * std::fabs(slopes[h])) << h;
  }
}

TEST(Ragged, OneCallTakesStartsAsOptions) {
  const RaggedCase c = {.sequences = kMixed, .tail = {3, 2}, .mask = causal(), .bias = 15};
  RaggedData planned(c), called(c);
  run(make_plan(planned.problem()), planned.step(), planned.t);
  const Step step = called.step();
  AttentionOptions options;
  options.mask = c.mask;
  options.query_starts = step.query_starts;
  options.key_starts = step.key_starts;
  attention(forward_of(called.t), options);
  attention_backward(called.t, options);
  EXPECT_EQ(differences(planned.t, called.t, true), "");
}

}  // namespace
}  // namespace tilewise
