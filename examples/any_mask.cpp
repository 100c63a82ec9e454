// SPDX-License-Identifier: Apache-2.0
// A mask and a score of your own: packed documents, causal inside each, with a soft cap and a
// penalty by distance. No kernel is written for it, and tiles of other documents are never visited.
#include <tilewise/tilewise.h>

#include <cmath>
#include <cstdio>
#include <vector>

namespace tw = tilewise;

int main() {
  const int64_t heads = 4, length = 1200, dim = 64;
  std::vector<float> q(heads * length * dim), k(q.size()), v(q.size()), o(q.size());
  for (size_t i = 0; i < q.size(); ++i) q[i] = std::sin(0.1f * static_cast<float>(i));
  for (size_t i = 0; i < k.size(); ++i) k[i] = std::cos(0.3f * static_cast<float>(i));

  // Three documents in one sequence. A value row is the number of its document and its position.
  std::vector<int32_t> doc(length);
  for (int64_t i = 0; i < length; ++i) doc[i] = i < 500 ? 0 : i < 900 ? 1 : 2;
  for (int64_t row = 0; row < heads * length; ++row) {
    v[row * dim] = static_cast<float>(doc[row % length]);
    v[row * dim + 1] = static_cast<float>(row % length);
  }
  std::vector<float> slope(heads);
  for (int64_t h = 0; h < heads; ++h) slope[h] = 8 + static_cast<float>(h);

  const tw::IntTable doc_of{"doc"};
  const tw::RealTable slope_of{"slope"};
  tw::AttentionOptions options;
  options.mask = tw::mask([&](auto, auto, auto query, auto key) {
    return key <= query && doc_of[query] == doc_of[key];
  });
  options.score = tw::score([&](auto s, auto, auto head, auto query, auto key) {
    return 2 * tanh(s / 2) - slope_of[head] * (query - key);
  });
  options.tables = {{.name = "doc", .data = doc.data(), .shape = {length}}};

  const auto f32 = tw::DType::kFloat32;
  tw::ForwardTensors tensors;
  tensors.query = tw::Tensor::bhsd(q.data(), f32, 1, heads, length, dim);
  tensors.key = tw::Tensor::bhsd(k.data(), f32, 1, heads, length, dim);
  tensors.value = tw::Tensor::bhsd(v.data(), f32, 1, heads, length, dim);
  tensors.output = tw::Tensor::bhsd(o.data(), f32, 1, heads, length, dim);
  tensors.tables = {{"slope", tw::Tensor::bhsd(slope.data(), f32, 1, 1, 1, heads)}};
  tw::attention(tensors, options);

  // A row sees its own document only. Of capped scores two differ by 4 at most, so a key at
  // distance n weighs at most exp(4 - 8 n), and the mean position is within 0.02 of the query.
  double worst_document = 0, worst_position = 0;
  for (int64_t row = 0; row < heads * length; ++row) {
    const double document = o[row * dim], position = o[row * dim + 1];
    worst_document = std::fmax(worst_document, std::fabs(document - doc[row % length]));
    worst_position =
        std::fmax(worst_position, std::fabs(position - static_cast<double>(row % length)));
  }
  std::printf("mask %s, score %s:\nlargest distance from the document %.1e, from the query %.1e\n",
              options.mask.text().c_str(), options.score.text().c_str(), worst_document,
              worst_position);
  return worst_document < 1e-5 && worst_position < 0.02 ? 0 : 1;
}
