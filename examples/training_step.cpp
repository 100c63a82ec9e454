// SPDX-License-Identifier: Apache-2.0
// Forward and backward with everything prepared once: what a training loop does at each step. The
// gradient is checked against a finite difference along a random direction.
#include <tilewise/tilewise.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

namespace tw = tilewise;

int main() {
  const int64_t batch = 2, heads = 4, length = 300, dim = 32;
  tw::Problem problem;
  problem.query_heads = heads;
  problem.max_batch = batch;
  problem.max_query_length = problem.max_kv_length = length;
  problem.head_dim = dim;
  problem.dtype = tw::DType::kFloat64;  // so that the finite difference is sharp
  problem.mask = tw::window(64, 0);

  const tw::Plan plan = tw::make_plan(problem);
  tw::Step step;
  step.batch = batch;
  step.query_length = step.kv_length = length;
  const tw::Schedule schedule = plan.schedule(step);
  tw::Workspace workspace(plan);
  std::puts(plan.explain(schedule).c_str());

  const size_t n = static_cast<size_t>(batch * heads * length * dim);
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  const auto draw = [&] {
    std::vector<double> x(n);
    for (double& value : x) value = normal(random);
    return x;
  };
  std::vector<double> q = draw(), k = draw(), v = draw(), d_o = draw(), direction = draw();
  std::vector<double> o(n), lse(n / dim), d_q(n), d_k(n), d_v(n);
  const auto view = [&](std::vector<double>& x) {
    return tw::Tensor::bhsd(x.data(), tw::DType::kFloat64, batch, heads, length,
                            static_cast<int64_t>(x.size()) / (batch * heads * length));
  };

  // The loss is <O, dO>, whose gradient with respect to O is dO.
  const auto loss = [&] {
    plan.forward(schedule, {view(q), view(k), view(v), {}, view(o), view(lse)}, workspace);
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += o[i] * d_o[i];
    return sum;
  };
  loss();
  tw::BackwardTensors tensors;
  tensors.query = view(q);
  tensors.key = view(k);
  tensors.value = view(v);
  tensors.output = view(o);
  tensors.logsumexp = view(lse);
  tensors.grad_output = view(d_o);
  tensors.grad_query = view(d_q);
  tensors.grad_key = view(d_k);
  tensors.grad_value = view(d_v);
  plan.backward(schedule, tensors, workspace);

  double predicted = 0;
  for (size_t i = 0; i < n; ++i) predicted += d_k[i] * direction[i];
  const double h = 1e-5;
  for (size_t i = 0; i < n; ++i) k[i] += h * direction[i];
  const double above = loss();
  for (size_t i = 0; i < n; ++i) k[i] -= 2 * h * direction[i];
  const double measured = (above - loss()) / (2 * h);
  std::printf("directional derivative along K: %.9f predicted, %.9f measured\n", predicted,
              measured);
  return std::fabs(predicted - measured) < 1e-6 * (1 + std::fabs(measured)) ? 0 : 1;
}
