// SPDX-License-Identifier: Apache-2.0
// Causal attention in one call: two sequences, eight query heads that share two key heads.
#include <tilewise/tilewise.h>

#include <cmath>
#include <cstdio>
#include <vector>

namespace tw = tilewise;

int main() {
  const int64_t batch = 2, heads = 8, kv_heads = 2, length = 1000, dim = 64;
  std::vector<float> q(batch * heads * length * dim), k(batch * kv_heads * length * dim),
      v(k.size()), o(q.size());
  for (size_t i = 0; i < q.size(); ++i) q[i] = std::sin(0.1f * static_cast<float>(i));
  for (size_t i = 0; i < k.size(); ++i) k[i] = std::cos(0.3f * static_cast<float>(i));
  for (size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<float>(i % dim);  // every value row is 0, 1, 2, ...

  const auto f32 = tw::DType::kFloat32;
  tw::ForwardTensors tensors;
  tensors.query = tw::Tensor::bhsd(q.data(), f32, batch, heads, length, dim);
  tensors.key = tw::Tensor::bhsd(k.data(), f32, batch, kv_heads, length, dim);
  tensors.value = tw::Tensor::bhsd(v.data(), f32, batch, kv_heads, length, dim);
  tensors.output = tw::Tensor::bhsd(o.data(), f32, batch, heads, length, dim);
  tw::AttentionOptions options;
  options.mask = tw::causal();
  tw::attention(tensors, options);

  // Attention is an average of value rows; here they are all equal, so every output row is 0, 1, 2,
  // ...
  double worst = 0;
  for (size_t i = 0; i < o.size(); ++i)
    worst = std::fmax(worst, std::fabs(o[i] - static_cast<double>(i % dim)));
  std::printf(
      "causal attention of %lld rows on %s: largest deviation from the exact average %.1e\n",
      static_cast<long long>(batch * heads * length), tw::available_isas().front().c_str(), worst);
  return worst < 1e-3 ? 0 : 1;
}
