// SPDX-License-Identifier: Apache-2.0
// Masks and scores of one's own through the public interface: what is bound when, and what is said
// when it does not fit.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "support/error_of.h"
#include "tilewise/tilewise.h"

namespace tilewise {
namespace {

constexpr int64_t kHeads = 3, kLength = 37, kDim = 8;

// Tensors of one small problem, heads apart.
struct Small {
  std::vector<float> q, k, v, o, lse;
  Small() {
    const auto fill = [](std::vector<float>& x, int64_t size, double phase) {
      for (int64_t i = 0; i < size; ++i)
        x.push_back(static_cast<float>(std::sin(phase + 0.37 * static_cast<double>(i))));
    };
    fill(q, kHeads * kLength * kDim, 0);
    fill(k, kHeads * kLength * kDim, 1);
    fill(v, kHeads * kLength * kDim, 2);
    o.assign(q.size(), -9);
    lse.assign(kHeads * kLength, -9);
  }
  ForwardTensors tensors() {
    const auto view = [](std::vector<float>& x, int64_t dim) {
      return Tensor::bhsd(x.data(), DType::kFloat32, 1, kHeads, kLength, dim);
    };
    return {view(q, kDim), view(k, kDim), view(v, kDim), {}, view(o, kDim), view(lse, 1)};
  }
  // LSE of a row by plain loops; sees(k), score(s, k).
  double expected_lse(int64_t h, int64_t i, const std::function<bool(int64_t)>& sees,
                      const std::function<double(double, int64_t)>& score) const {
    double sum = 0;
    for (int64_t j = 0; j < kLength; ++j) {
      if (!sees(j)) continue;
      double s = 0;
      for (int64_t d = 0; d < kDim; ++d)
        s += double(q[(h * kLength + i) * kDim + d]) * double(k[(h * kLength + j) * kDim + d]);
      sum += std::exp(score(s / std::sqrt(double(kDim)), j));
    }
    return std::log(sum);
  }
};

using test::error_of;

Problem small_problem() {
  Problem problem;
  problem.query_heads = kHeads;
  problem.max_query_length = problem.max_kv_length = kLength;
  problem.head_dim = kDim;
  return problem;
}

Step small_step() {
  Step step;
  step.query_length = step.kv_length = kLength;
  return step;
}

TEST(Language, MaskOfALambdaWithTableScalarAndHead) {
  const IntTable doc{"doc"};
  Problem problem = small_problem();
  problem.mask = mask([&](auto, auto h, auto q, auto k) {
    return k <= q && (doc[q] == doc[k] || h == 1) && q - k < scalar("window");
  });
  std::vector<int32_t> documents;
  for (int32_t i = 0; i < kLength; ++i) documents.push_back(i / 10);
  const Plan plan = make_plan(problem);
  Workspace workspace(plan);
  for (const int64_t width : {5, 20}) {
    Step step = small_step();
    step.tables = {{"doc", documents.data(), IntegerType::kInt32, {kLength}}};
    step.scalars = {{"window", width}};
    Small data;
    plan.forward(plan.schedule(step), data.tensors(), workspace);
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < kLength; ++i) {
        const double expected = data.expected_lse(
            h, i,
            [&](int64_t j) {
              return j <= i && (documents[i] == documents[j] || h == 1) && i - j < width;
            },
            [](double s, int64_t) { return s; });
        EXPECT_NEAR(data.lse[h * kLength + i], expected, 1e-5) << h << " " << i << " " << width;
      }
    }
  }
}

// Programs have no shorter form for a negative divisor; the plan did not know that there would be
// one.
TEST(Language, DivisorsAsScalars) {
  Problem problem = small_problem();
  problem.mask = mask_from_text("(q * 7 + k * 3) // w % 2 == 0");
  const Plan plan = make_plan(problem);
  for (const int64_t w : {3, 4, -3, -5, -4}) {
    Step step = small_step();
    step.scalars = {{"w", w}};
    Small small;
    Workspace workspace(plan);
    plan.forward(plan.schedule(step), small.tensors(), workspace);
    for (int64_t h = 0; h < kHeads; ++h)
      for (int64_t i = 0; i < kLength; ++i) {
        const double expected = small.expected_lse(
            h, i,
            [&](int64_t j) {
              const double x = double(i * 7 + j * 3);
              return static_cast<int64_t>(std::floor(x / double(w))) % 2 == 0;
            },
            [](double s, int64_t) { return s; });
        ASSERT_NEAR(small.lse[h * kLength + i], expected, 1e-5) << w << " " << h << " " << i;
      }
  }
}

TEST(Language, ScoreWithARealTableOfARun) {
  const RealTable slope{"slope"};
  AttentionOptions options;
  options.mask = causal();
  options.score =
      score([&](auto s, auto, auto h, auto q, auto k) { return s - slope[h] * (q - k); });
  std::vector<float> slopes = {0.5f, 0.25f, 0.0f};
  for (int round = 0; round < 2; ++round) {  // the second with other data
    Small data;
    ForwardTensors tensors = data.tensors();
    tensors.tables = {{"slope", Tensor::bhsd(slopes.data(), DType::kFloat32, 1, 1, 1, kHeads)}};
    attention(tensors, options);
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < kLength; ++i) {
        const double expected = data.expected_lse(
            h, i, [&](int64_t j) { return j <= i; },
            [&](double s, int64_t j) { return s - slopes[h] * double(i - j); });
        EXPECT_NEAR(data.lse[h * kLength + i], expected, 1e-5) << h << " " << i;
      }
    }
    slopes[2] = 1;
  }
}

// Tables of any size, and what the plan of a larger limit gives.
TEST(Language, GradientsOfALargeTableInOneCall) {
  constexpr int64_t kElements = 40000;  // more than the default of max_table_elements
  const Score large = score_from_text("s + bias[h * 13000 + k * 37]");
  std::vector<float> table(kElements, 0.25f), grad(kElements, -9), planned(kElements, -9);
  Small data;
  std::vector<float> d_o = data.q, d_q = data.q, d_k = data.q, d_v = data.q;
  const ForwardTensors forward = data.tensors();
  const auto view = [&](std::vector<float>& x) {
    return Tensor::bhsd(x.data(), DType::kFloat32, 1, kHeads, kLength, kDim);
  };
  const auto row = [&](std::vector<float>& x) {
    return Tensor::bhsd(x.data(), DType::kFloat32, 1, 1, 1, kElements);
  };
  BackwardTensors backward{forward.query,  forward.key,       forward.value, {},
                           forward.output, forward.logsumexp, view(d_o),     {},
                           view(d_q),      view(d_k),         view(d_v),     {}};
  backward.tables = {{"bias", row(table)}};
  ForwardTensors with_table = forward;
  with_table.tables = backward.tables;
  AttentionOptions options;
  options.score = large;
  attention(with_table, options);
  backward.grad_tables = {{"bias", row(grad)}};
  attention_backward(backward, options);

  Problem problem = small_problem();
  problem.score = large;
  const auto with_limit = [&](int64_t limit) {
    problem.max_table_elements = limit;
    const Plan plan = make_plan(problem);
    Workspace workspace(plan);
    backward.grad_tables = {{"bias", row(planned)}};
    plan.backward(plan.schedule(small_step()), backward, workspace);
  };
  EXPECT_NE(error_of([&] { with_limit(16384); }).find("raise Problem::max_table_elements"),
            std::string::npos);
  with_limit(kElements);
  EXPECT_EQ(grad, planned);
  EXPECT_NE(grad[13037], 0);
  EXPECT_EQ(grad[39999], 0);  // never read
}

TEST(Language, TablesStayOutOfTheWorkspace) {
  Problem problem = small_problem();
  problem.score = score_from_text("s + bias[h]");
  const Plan plan = make_plan(problem);
  Workspace workspace(plan);
  Small data;
  ForwardTensors tensors = data.tensors();
  tensors.tables = {{"bias", Tensor::bhsd(workspace.data(), DType::kFloat32, 1, 1, 1, kHeads)}};
  EXPECT_EQ(error_of([&] { plan.forward(plan.schedule(small_step()), tensors, workspace); }),
            "forward: workspace is in the memory of bias, expected memory of its own");
}

TEST(Language, SchedulesAreSharedUntilDataChanges) {
  Problem problem = small_problem();
  problem.mask = mask_from_text("doc[q] == doc[k]");
  const Plan plan = make_plan(problem);
  std::vector<int32_t> documents(kLength, 0);
  Step step = small_step();
  step.tables = {{"doc", documents.data(), IntegerType::kInt32, {kLength}}};
  const Schedule first = plan.schedule(step);
  EXPECT_EQ(&plan.schedule(step).data(), &first.data());
  documents[5] = 1;
  EXPECT_NE(&plan.schedule(step).data(), &first.data());
}

TEST(Language, HeadsThatSeeTheSameShareTheirTiles) {
  Problem problem = small_problem();
  problem.query_heads = problem.kv_heads = 6;
  problem.mask = mask_from_text("h % 2 == 0 or k <= q");
  const Plan plan = make_plan(problem);
  EXPECT_NE(plan.explain(plan.schedule(small_step())).find("3 of 6 see what batch 0, head 1 sees"),
            std::string::npos);
}

TEST(Language, SaysWhatDoesNotFitAndWhen) {
  Problem problem = small_problem();
  problem.mask = mask_from_text("doc[q + 1] == doc[k]");
  problem.score = score_from_text("s + bias[h, min(max(k - q, 0), 9)]");
  const Plan plan = make_plan(problem);
  std::vector<int32_t> documents(kLength, 0);
  Step step = small_step();
  EXPECT_EQ(error_of([&] { (void)plan.schedule(step); }),
            "schedule: table \"doc\" is missing, expected an integer table with 1 axis; the "
            "expression uses it; none is given");
  step.tables = {{"doc", documents.data(), IntegerType::kInt32, {kLength}}};
  EXPECT_EQ(error_of([&] { (void)plan.schedule(step); }),
            "schedule: index 0 of table doc is 1 to 37, expected 0 to 36; keep it inside with min "
            "and max, or bind a larger table");
  documents.push_back(0);
  step.tables = {{"doc", documents.data(), IntegerType::kInt32, {kLength + 1}}};
  const Schedule schedule = plan.schedule(step);
  Workspace workspace(plan);
  Small data;
  EXPECT_EQ(
      error_of([&] { plan.forward(schedule, data.tensors(), workspace); }),
      "forward: table \"bias\" is missing, expected a tensor of real numbers with 2 axes; the "
      "score uses it");
  std::vector<float> bias(kHeads * 9);
  ForwardTensors tensors = data.tensors();
  tensors.tables = {{"bias", Tensor::bhsd(bias.data(), DType::kFloat32, 1, 1, kHeads, 9)}};
  EXPECT_EQ(error_of([&] { plan.forward(schedule, tensors, workspace); }),
            "forward: table \"bias\".shape is [1, 1, 3, 9], expected at least 10 in axis 3; the "
            "score looks it up there");
  EXPECT_EQ(data.o[0], -9);  // nothing was written
}

TEST(Language, DivisorsThatMayBeZeroAreRefused) {
  Problem problem = small_problem();
  problem.mask = mask_from_text("q % step == 0");
  const Plan plan = make_plan(problem);
  Step step = small_step();
  step.scalars = {{"step", 0}};
  EXPECT_EQ(error_of([&] { (void)plan.schedule(step); }),
            "schedule: divisor of % is 0, expected no range that contains 0; keep it away from 0 "
            "with max(1, ...)");
  step.scalars = {{"step", 4}};
  EXPECT_EQ(error_of([&] { (void)plan.schedule(step); }), "no error");
}

}  // namespace
}  // namespace tilewise
