// SPDX-License-Identifier: Apache-2.0
// tilewise attend computes attention: against plain float64 loops, for every dtype, mask and input.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/dtype.h"
#include "base/random.h"
#include "cli/plain_attention.h"
#include "cli/program.h"
#include "io/safetensors.h"
#include "tilewise/tilewise.h"

namespace tilewise::cli {
namespace {

io::Array normal_array(DType dtype, const std::vector<int64_t>& shape, Random& random) {
  io::Array array(dtype, shape);
  for (int64_t i = 0; i < array.elements(); ++i) {
    store_element(array.data(), dtype, i, random.normal());
  }
  return array;
}

std::vector<double> numbers(const io::Array& array) {
  std::vector<double> result;
  for (int64_t i = 0; i < array.elements(); ++i) {
    result.push_back(load_element(array.data(), *array.dtype(), i));
  }
  return result;
}

// Rounding of a result and of the probabilities inside, relative to the largest element, with room.
double tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-12;
    case DType::kFloat32:
      return 1e-5;
    case DType::kFloat16:
      return std::ldexp(1, -9);
    case DType::kBFloat16:
      return std::ldexp(1, -6);
  }
  return 0;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& expected, double bound,
                  const std::string& name) {
  ASSERT_EQ(got.size(), expected.size()) << name;
  double largest = 0;
  for (const double x : expected) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isinf(expected[i])) {
      ASSERT_EQ(got[i], expected[i]) << name << " at " << i;
    } else {
      ASSERT_NEAR(got[i], expected[i], bound * largest) << name << " at " << i;
    }
  }
}

struct Case {
  DType dtype;
  std::string mask;
  bool has_bias;
  bool has_grad_output;
  bool has_grad_logsumexp;
};

constexpr PlainShape kShape = {2, 4, 2, 13, 17, 24, 40};

std::function<bool(int64_t, int64_t)> visible_of(const std::string& mask) {
  const int64_t shift = kShape.kv_length - kShape.length;
  if (mask == "causal") return [=](int64_t q, int64_t k) { return k - q <= shift; };
  if (mask == "causal-top-left") return [](int64_t q, int64_t k) { return k <= q; };
  if (mask == "window:3,1") {
    return [=](int64_t q, int64_t k) { return -3 <= k - q - shift && k - q - shift <= 1; };
  }
  return [](int64_t, int64_t) { return true; };
}

// Writes the inputs of a case, runs the program, compares everything it wrote.
class AttendTest : public ::testing::Test {
 protected:
  void run(const Case& c, const std::vector<std::string>& more_arguments = {}) {
    const auto& s = kShape;
    Random random(5);
    const io::Array q = normal_array(c.dtype, {s.batch, s.heads, s.length, s.dim}, random);
    const io::Array k = normal_array(c.dtype, {s.batch, s.kv_heads, s.kv_length, s.dim}, random);
    const io::Array v =
        normal_array(c.dtype, {s.batch, s.kv_heads, s.kv_length, s.value_dim}, random);
    const io::Array bias = normal_array(c.dtype, {1, s.heads, 1, s.kv_length}, random);
    const io::Array grad_o =
        normal_array(c.dtype, {s.batch, s.heads, s.length, s.value_dim}, random);
    const io::Array grad_lse = normal_array(DType::kFloat32, {s.batch, s.heads, s.length}, random);
    std::vector<io::NamedArray> arrays = {{"q", &q}, {"k", &k}, {"v", &v}};
    PlainAttention plain = {s,
                            visible_of(c.mask),
                            1 / std::sqrt(static_cast<double>(s.dim)),
                            numbers(q),
                            numbers(k),
                            numbers(v),
                            {},
                            {},
                            {},
                            {},
                            {},
                            {},
                            {},
                            {},
                            {}};
    if (c.has_bias) {
      arrays.push_back({"bias", &bias});
      plain.bias = numbers(bias);
    }
    if (c.has_grad_output) {
      arrays.push_back({"do", &grad_o});
      plain.grad_o = numbers(grad_o);
    }
    if (c.has_grad_logsumexp) {
      arrays.push_back({"dlse", &grad_lse});
      plain.grad_lse = numbers(grad_lse);
    }
    io::write_safetensors(input_, arrays);
    plain.run();

    std::vector<std::string> arguments = {"attend", "--input", input_,      "--output", output_,
                                          "--mask", c.mask,    "--threads", "2"};
    arguments.insert(arguments.end(), more_arguments.begin(), more_arguments.end());
    const Outcome outcome = run_tilewise(arguments);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");

    const io::SafetensorsFile file(output_);
    const DType real = c.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    const std::vector<int64_t> rows = {s.batch, s.heads, s.length};
    const double bound = tolerance(c.dtype);
    compare(file, "o", c.dtype, grad_o.shape(), plain.o, bound);
    compare(file, "lse", DType::kFloat32, rows, plain.lse, std::max(bound, 1e-6));
    size_t count = 2;
    if (c.has_grad_output) {
      compare(file, "dq", c.dtype, q.shape(), plain.dq, bound);
      compare(file, "dk", c.dtype, k.shape(), plain.dk, bound);
      compare(file, "dv", c.dtype, v.shape(), plain.dv, bound);
      count += 3;
      if (c.has_bias) {
        compare(file, "dbias", real, bias.shape(), plain.dbias, bound);
        ++count;
      }
    }
    EXPECT_EQ(file.tensors().size(), count);
  }

  static void compare(const io::SafetensorsFile& file, const std::string& name, DType dtype,
                      const std::vector<int64_t>& shape, const std::vector<double>& expected,
                      double bound) {
    const io::TensorInfo* info = file.find(name);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(info->type, io::type_name(dtype)) << name;
    EXPECT_EQ(info->shape, shape) << name;
    expect_close(numbers(file.load(*info)), expected, bound, name);
  }

  io::Array load(const std::string& name) const {
    const io::SafetensorsFile file(output_);
    return file.load(*file.find(name));
  }

  io::TemporaryDirectory directory_;
  std::string input_ = directory_.file("in.safetensors");
  std::string output_ = directory_.file("out.safetensors");
};

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64};

TEST_F(AttendTest, ForwardOfEveryDType) {
  for (const DType dtype : kDTypes) run({dtype, "none", false, false, false});
}

TEST_F(AttendTest, EveryMask) {
  for (const char* mask : {"none", "causal", "causal-top-left", "window:3,1"}) {
    run({DType::kFloat32, mask, false, true, false});
  }
}

TEST_F(AttendTest, BackwardOfEveryDTypeWithBiasAndGradientOfLse) {
  for (const DType dtype : kDTypes) run({dtype, "causal", true, true, true});
}

TEST_F(AttendTest, EveryInstructionSetAgrees) {
  run({DType::kFloat32, "causal", true, true, true}, {"--isa", "scalar"});
  run({DType::kBFloat16, "causal", false, true, false}, {"--isa", "scalar"});
}

TEST_F(AttendTest, ConvertsToTheDTypeAskedFor) {
  const Case wide = {DType::kFloat64, "causal", true, true, true};
  run(wide);
  const std::vector<double> expected = numbers(load("o"));
  for (const auto& [name, dtype] :
       {std::pair{"fp32", DType::kFloat32}, {"bf16", DType::kBFloat16}}) {
    const Outcome outcome = run_tilewise(
        {"attend", "--input", input_, "--output", output_, "--mask", "causal", "--dtype", name});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const io::Array o = load("o");
    EXPECT_EQ(o.dtype(), dtype);
    // The inputs are rounded too: each rounding moves the result by about one more ulp.
    expect_close(numbers(o), expected, 4 * tolerance(dtype), "o");
    EXPECT_EQ(load("dbias").dtype(), DType::kFloat32);
  }
}

// The file in the repository holds its own truth, computed in float64 with NumPy.
TEST_F(AttendTest, AgreesOnTheGptLayer) {
  const std::string layer = TILEWISE_SOURCE_DIR "/data/gpt_layer.safetensors";
  const Outcome outcome = run_tilewise(
      {"attend", "--input", layer, "--output", output_, "--mask", "causal", "--scale", "0.125"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const io::SafetensorsFile truth(layer);
  for (const char* name : {"o", "lse", "dq", "dk", "dv"}) {
    expect_close(numbers(load(name)), numbers(truth.load(*truth.find(name))), 1e-5, name);
  }
}

// A sink is one more key whose value is 0: here the last one, whose score comes from the bias.
TEST_F(AttendTest, SinkIsAKeyWhoseValueIsZero) {
  Random random(3);
  const auto draw = [&](const std::vector<int64_t>& shape) {
    return normal_array(DType::kFloat64, shape, random);
  };
  const io::Array q = draw({1, 2, 5, 8}), k = draw({1, 2, 6, 8}), v = draw({1, 2, 6, 8}),
                  grad_o = draw({1, 2, 5, 8}), sink = draw({2});
  const auto longer = [](const io::Array& keys) {
    io::Array result(DType::kFloat64, {1, 2, 7, 8});
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < 7 * 8; ++i)
        store_element(result.data(), DType::kFloat64, h * 7 * 8 + i,
                      i < 6 * 8 ? load_element(keys.data(), DType::kFloat64, h * 6 * 8 + i) : 0);
    return result;
  };
  io::Array bias(DType::kFloat64, {1, 2, 1, 7});
  for (int64_t i = 0; i < 14; ++i)
    store_element(bias.data(), DType::kFloat64, i,
                  i % 7 == 6 ? load_element(sink.data(), DType::kFloat64, i / 7) : 0);
  const io::Array longer_k = longer(k), longer_v = longer(v);
  io::write_safetensors(
      input_, {{"q", &q}, {"k", &longer_k}, {"v", &longer_v}, {"bias", &bias}, {"do", &grad_o}});
  ASSERT_EQ(run_tilewise({"attend", "--input", input_, "--output", output_}).exit_code, 0);
  const std::vector<double> o = numbers(load("o")), lse = numbers(load("lse")),
                            dq = numbers(load("dq")), dbias = numbers(load("dbias"));

  io::write_safetensors(input_,
                        {{"q", &q}, {"k", &k}, {"v", &v}, {"sinks", &sink}, {"do", &grad_o}});
  const Outcome outcome =
      run_tilewise({"attend", "--input", input_, "--output", output_, "--sink", "sinks"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  expect_close(numbers(load("o")), o, 1e-12, "o");
  expect_close(numbers(load("lse")), lse, 1e-6, "lse");
  expect_close(numbers(load("dq")), dq, 1e-12, "dq");
  EXPECT_EQ(load("dsink").shape(), std::vector<int64_t>{2});
  expect_close(numbers(load("dsink")), {dbias[6], dbias[13]}, 1e-12, "dsink");
}

// Bit for bit what a caller of the library gets for the seed.
TEST_F(AttendTest, DropoutIsThatOfTheSeed) {
  constexpr int64_t kHeads = 2, kLength = 21, kDim = 8;
  const std::vector<int64_t> shape = {1, kHeads, kLength, kDim};
  Random random(4);
  const auto draw = [&] { return normal_array(DType::kFloat32, shape, random); };
  const io::Array q = draw(), k = draw(), v = draw(), grad_o = draw();
  io::write_safetensors(input_, {{"q", &q}, {"k", &k}, {"v", &v}, {"do", &grad_o}});
  const auto attend = [&](const std::string& seed) {
    const Outcome outcome = run_tilewise({"attend", "--input", input_, "--output", output_,
                                          "--mask", "causal", "--dropout", "0.3", "--seed", seed});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  };

  const Plan plan = make_plan({.query_heads = kHeads,
                               .max_query_length = kLength,
                               .max_kv_length = kLength,
                               .head_dim = kDim,
                               .mask = causal(),
                               .dropout = 0.3});
  const Schedule schedule = plan.schedule({.query_length = kLength, .kv_length = kLength});
  Workspace workspace(plan);
  const io::Array o = draw(), dq = draw(), dk = draw(), dv = draw(),
                  lse = normal_array(DType::kFloat32, {1, kHeads, kLength}, random);
  plan.forward(schedule,
               {.query = q.tensor(),
                .key = k.tensor(),
                .value = v.tensor(),
                .bias = {},
                .output = o.tensor(),
                .logsumexp = lse.tensor(),
                .dropout_seed = 5},
               workspace);
  plan.backward(schedule,
                {.query = q.tensor(),
                 .key = k.tensor(),
                 .value = v.tensor(),
                 .bias = {},
                 .output = o.tensor(),
                 .logsumexp = lse.tensor(),
                 .grad_output = grad_o.tensor(),
                 .grad_logsumexp = {},
                 .grad_query = dq.tensor(),
                 .grad_key = dk.tensor(),
                 .grad_value = dv.tensor(),
                 .grad_bias = {},
                 .dropout_seed = 5},
                workspace);
  attend("5");
  EXPECT_EQ(numbers(load("o")), numbers(o));
  EXPECT_EQ(numbers(load("lse")), numbers(lse));
  EXPECT_EQ(numbers(load("dq")), numbers(dq));
  EXPECT_EQ(numbers(load("dk")), numbers(dk));
  EXPECT_EQ(numbers(load("dv")), numbers(dv));
  attend("6");
  EXPECT_NE(numbers(load("o")), numbers(o));
  EXPECT_EQ(numbers(load("lse")), numbers(lse));
}

TEST_F(AttendTest, RefusesBadSinksAndDropout) {
  Random random(9);
  const io::Array x = normal_array(DType::kFloat32, {1, 2, 3, 8}, random),
                  sink = normal_array(DType::kFloat32, {3}, random);
  io::write_safetensors(input_, {{"q", &x}, {"k", &x}, {"v", &x}, {"sinks", &sink}});
  const auto expect_error = [&](const std::vector<std::string>& options, const std::string& text) {
    std::vector<std::string> arguments = {"attend", "--input", input_, "--output", output_};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Outcome outcome = run_tilewise(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
  };
  expect_error({"--sink", "sinks"}, "shape of tensor \"sinks\" is [3], expected [2]");
  expect_error({"--sink", "other"}, "tensor \"other\" is missing, expected that of --sink");
  expect_error({"--dropout", "often"}, "--dropout");
  expect_error({"--seed", "1"}, "--seed requires --dropout");
  const std::string probability = ", expected a probability in [0, 1 - 2^-16]";
  expect_error({"--dropout", "1"}, "dropout is 1" + probability);
  expect_error({"--dropout", "nan"}, "dropout is NaN" + probability);
}

TEST_F(AttendTest, MayReplaceItsInput) {
  Random random(9);
  const io::Array x = normal_array(DType::kFloat32, {1, 1, 3, 8}, random);
  io::write_safetensors(input_, {{"q", &x}, {"k", &x}, {"v", &x}});
  ASSERT_EQ(run_tilewise({"attend", "--input", input_, "--output", input_}).exit_code, 0);
  const io::SafetensorsFile file(input_);
  EXPECT_NE(file.find("o"), nullptr);
  EXPECT_EQ(file.find("q"), nullptr);
}

// No keys: every row is o = 0, lse = -inf. No queries: empty outputs.
TEST_F(AttendTest, AcceptsZeroLengths) {
  Random random(9);
  const io::Array some = normal_array(DType::kFloat32, {1, 1, 3, 8}, random);
  const io::Array none = normal_array(DType::kFloat32, {1, 1, 0, 8}, random);
  io::write_safetensors(input_, {{"q", &some}, {"k", &none}, {"v", &none}});
  Outcome outcome = run_tilewise({"attend", "--input", input_, "--output", output_});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const double x : numbers(load("o"))) EXPECT_EQ(x, 0);
  for (const double x : numbers(load("lse"))) EXPECT_EQ(x, -INFINITY);

  io::write_safetensors(input_, {{"q", &none}, {"k", &some}, {"v", &some}});
  outcome = run_tilewise({"attend", "--input", input_, "--output", output_});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(load("o").shape(), (std::vector<int64_t>{1, 1, 0, 8}));
}

// One plain sequence in which sequences do not see one another; tails see nothing.
TEST_F(AttendTest, RaggedBatchIsItsSequences) {
  const std::vector<int64_t> queries = {0, 5, 5, 11}, keys = {0, 6, 9, 15};
  const PlainShape s = {1, 4, 2, 13, 17, 24, 40};
  const auto sequence_of = [](const std::vector<int64_t>& starts, int64_t row) {
    return std::upper_bound(starts.begin(), starts.end(), row) - starts.begin() - 1;
  };
  const auto sees = [&](int64_t q, int64_t k) {
    const auto i = static_cast<size_t>(sequence_of(queries, q));
    if (i == 3 || static_cast<size_t>(sequence_of(keys, k)) != i) return false;
    return k - keys[i + 1] <= q - queries[i + 1];  // the last query sees the last key
  };
  Random random(6);
  const auto rows = [&](int64_t heads, int64_t length, int64_t dim) {
    return normal_array(DType::kFloat32, {1, heads, length, dim}, random);
  };
  const io::Array q = rows(s.heads, s.length, s.dim), k = rows(s.kv_heads, s.kv_length, s.dim),
                  v = rows(s.kv_heads, s.kv_length, s.value_dim),
                  grad_o = rows(s.heads, s.length, s.value_dim);
  PlainAttention plain = {s,
                          sees,
                          1 / std::sqrt(static_cast<double>(s.dim)),
                          numbers(q),
                          numbers(k),
                          numbers(v),
                          {},
                          numbers(grad_o),
                          {},
                          {},
                          {},
                          {},
                          {},
                          {},
                          {}};
  plain.run();
  io::Array query_starts("I32", {4}), key_starts("I64", {4});
  for (size_t i = 0; i < 4; ++i) {
    static_cast<int32_t*>(query_starts.data())[i] = static_cast<int32_t>(queries[i]);
    static_cast<int64_t*>(key_starts.data())[i] = keys[i];
  }
  io::write_safetensors(input_, {{"q", &q},
                                 {"k", &k},
                                 {"v", &v},
                                 {"do", &grad_o},
                                 {"starts", &query_starts},
                                 {"key starts", &key_starts}});
  const std::vector<std::string> arguments = {
      "attend",         "--input", input_,           "--output",   output_,     "--mask", "causal",
      "--cu-seqlens-q", "starts",  "--cu-seqlens-k", "key starts", "--threads", "2"};
  const Outcome outcome = run_tilewise(arguments);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const double bound = tolerance(DType::kFloat32);
  expect_close(numbers(load("o")), plain.o, bound, "o");
  expect_close(numbers(load("lse")), plain.lse, bound, "lse");
  expect_close(numbers(load("dq")), plain.dq, bound, "dq");
  expect_close(numbers(load("dk")), plain.dk, bound, "dk");
  expect_close(numbers(load("dv")), plain.dv, bound, "dv");

  const auto error_with = [&](const std::string& q_name, const std::string& k_name) {
    std::vector<std::string> wrong = arguments;
    wrong[8] = q_name, wrong[10] = k_name;
    const Outcome refused = run_tilewise(wrong);
    EXPECT_EQ(refused.exit_code, 2);
    return refused.err;
  };
  EXPECT_NE(error_with("none", "key starts").find("tensor \"none\" is missing"), std::string::npos);
  EXPECT_NE(error_with("q", "key starts").find("dtype of tensor \"q\" is F32, expected I32 or I64"),
            std::string::npos);
  EXPECT_NE(error_with("key starts", "starts").find("step.query_starts[3] is 15, expected 9 to 13"),
            std::string::npos);
  const Outcome one =
      run_tilewise({"attend", "--input", input_, "--output", output_, "--cu-seqlens-q", "starts"});
  EXPECT_EQ(one.exit_code, 2);
  EXPECT_NE(one.err.find("--cu-seqlens-k"), std::string::npos) << one.err;
}

}  // namespace
}  // namespace tilewise::cli
