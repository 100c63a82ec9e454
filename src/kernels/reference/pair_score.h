// SPDX-License-Identifier: Apache-2.0
// The score of the pairs of one head, with local indices.
#pragma once

#include <optional>

#include "kernels/reference/reference.h"
#include "kernels/reference/score_point.h"

namespace tilewise::reference {

template <class Real>
class PairScore {
 public:
  PairScore(const Inputs& inputs, int64_t batch, int64_t head) : score_(inputs.score) {
    const expr::Expression* expression = score_.expression();
    if (expression == nullptr) return;
    values_ = bind_to(*expression, inputs);
    for (const expr::Symbol& symbol : expression->graph->symbols()) {
      int index = -1;
      for (size_t i = 0; i < inputs.tables.size(); ++i) {
        if (inputs.tables[i].name == symbol.name) index = static_cast<int>(i);
      }
      table_.push_back(index);
    }
    for (const NamedTensor& table : inputs.tables) tensors_.push_back(table.tensor);
    point_.batch = inputs.step.batch_offset + batch;
    point_.head = inputs.step.head_offset + head;
    at_.emplace(*expression, values_);
  }
  PairScore(const PairScore&) = delete;
  PairScore& operator=(const PairScore&) = delete;

  // Of query q and key k, whose scaled product is s.
  Real value(int64_t q, int64_t k, Real s) {
    if (!at_) return s;
    point_.query = values_.query_offset + q;
    point_.key = values_.key_offset + k;
    return at_->value(point_, s);
  }
  // d score / d s; calls add(table, dense element, derivative) for lookups in Inputs::tables.
  template <class Add>
  Real derivative(int64_t q, int64_t k, Real s, Add&& add) {
    if (!at_) return 1;
    (void)value(q, k, s);
    return at_->derivative([&](int64_t symbol, const int64_t(&index)[4], Real by_table) {
      const int table = table_[static_cast<size_t>(symbol)];
      if (table < 0) return;
      const Tensor& t = tensors_[static_cast<size_t>(table)];
      int64_t dense = 0;
      for (int axis = 0; axis < 4; ++axis) dense = dense * t.shape[axis] + index[axis];
      add(table, dense, by_table);
    });
  }

 private:
  Score score_;
  expr::Values values_;
  expr::Point point_;
  std::vector<int> table_;  // of each symbol
  std::vector<Tensor> tensors_;
  std::optional<ScorePoint<Real>> at_;  // none: s itself
};

}  // namespace tilewise::reference
