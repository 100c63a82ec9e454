// SPDX-License-Identifier: Apache-2.0
// Gradients of the real tables that a score looks up: d loss / d element is the sum of
// dS' * d score / d lookup over the pairs that read the element, where dS' is the gradient of the
// score (dS before its factor d score / d s), 0 for masked pairs.
//
// No bit depends on tiles or workers: a panel of keys has sums of its own, to which heads, queries
// and lanes add in ascending order (lanes of one vector that read one element are added up first;
// where the element does not depend on the query, the queries of a key are). Finished sums of
// panels are added, in order, to those of the head.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/eval_tile-inl.h"
#include "kernels/cpu/generic/turns-inl.h"
#include "kernels/launch.h"

namespace {

// The part of one item.
template <class X>
struct TablePart {
  using Real = typename X::Real;
  const tilewise::TableGradients* tables = nullptr;  // null: no gradients are wanted
  int64_t key_tile = 0;
  Real* sums = nullptr;      // (panels, elements)
  Real* key_sums = nullptr;  // (lookups, key_tile), of lookups that do not depend on the query
  int32_t* key_elements = nullptr;  // the same shape
  int64_t begin = 0, end = 0;       // no other elements of sums have been added to

  TablePart(const tilewise::BackwardLaunch& args, int64_t worker) {
    if (args.tables.lookups == nullptr) return;
    tables = &args.tables;
    key_tile = args.geometry.backward_key_tile;
    const int64_t panels = key_tile / kWidth<X>, keys = tables->lookup_count * key_tile;
    sums = static_cast<Real*>(tables->parts) + worker * tables->part_stride;
    key_sums = sums + panels * tables->elements;
    key_elements = tables->part_elements + worker * keys;
    begin = tables->elements;
  }
  Real* panel_sums(int64_t panel) const { return sums + panel * tables->elements; }
  void touch(int64_t first, int64_t last) {
    begin = first < begin ? first : begin;
    end = last < end ? end : last + 1;
  }
};

// The lookups of one unit: kUnit queries, lane vectors [j0, j1) of one panel.
template <class X, class I>
struct TableUnit {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  using Ints = typename I::Ints;
  using Int = typename I::Int;

  TablePart<X>& part;
  const TileEvaluator<X>& score;
  const Real* ds;  // (kUnit, kWidth)
  int64_t panel;
  int j0, j1;

  void add() {
    for (int32_t n = 0; n < part.tables->lookup_count; ++n) {
      const tilewise::TableLookup& lookup = part.tables->lookups[n];
      bool is_of_keys = true;
      for (int axis = 0; axis < lookup.rank; ++axis)
        is_of_keys = is_of_keys && index(lookup, axis).row == 0;
      if (is_of_keys)
        add_by_key(lookup, n * part.key_tile + panel * kWidth<X>);
      else
        add_by_pair(lookup);
    }
  }

 private:
  const Operand& index(const tilewise::TableLookup& lookup, int axis) const {
    return score.output(lookup.output + 1 + axis);
  }
  // 0 times anything is 0: what is masked adds nothing, whatever its derivative is; what `where`
  // does not take adds nothing, whatever the gradient is.
  Vec gradient(const tilewise::TableLookup& lookup, int i, int j) const {
    const Vec x = X::load(ds + i * kWidth<X> + j * X::kLanes);
    const Vec derivative =
        X::load(reinterpret_cast<const Real*>(score.output(lookup.output).at(i, j)));
    const auto adds_nothing = X::either(X::equal(x, Vec{}), X::equal(derivative, Vec{}));
    return X::select(adds_nothing, Vec{}, X::mul(x, derivative));
  }
  // Which elements the lanes read. Indices of lanes beyond the keys may be outside: they add 0.
  Ints elements(const tilewise::TableLookup& lookup, int i, int j) const {
    Ints at{};
    for (int axis = 0; axis < lookup.rank; ++axis) {
      Ints x;
      std::memcpy(&x, index(lookup, axis).at(i, j), sizeof(x));
      const Ints last = Ints{} + static_cast<Int>(lookup.extent[axis] - 1);
      x = x < 0 ? Ints{} : x;
      x = last < x ? last : x;
      at = at * static_cast<Int>(lookup.extent[axis]) + x;
    }
    return at + static_cast<Int>(lookup.first);
  }
  void add_by_key(const tilewise::TableLookup& lookup, int64_t first) {
    for (int j = j0; j < j1; ++j) {
      Real* const to = part.key_sums + first + j * X::kLanes;
      Vec sum = X::load(to);
      for (int i = 0; i < kUnit; ++i) sum = X::add(sum, gradient(lookup, i, j));
      X::store(to, sum);
      const Ints at = elements(lookup, 0, j);
      for (int l = 0; l < X::kLanes; ++l)
        part.key_elements[first + j * X::kLanes + l] = static_cast<int32_t>(at[l]);
    }
  }
  void add_by_pair(const tilewise::TableLookup& lookup) {
    Real* const sums = part.panel_sums(panel);
    Ints ascending{};
    for (int l = 0; l < X::kLanes; ++l) ascending[l] = l;
    Ints least = Ints{} + static_cast<Int>(part.tables->elements), most{};
    for (int i = 0; i < kUnit; ++i)
      for (int j = j0; j < j1; ++j) {
        const Vec g = gradient(lookup, i, j);
        const Ints at = elements(lookup, i, j);
        least = at < least ? at : least;
        most = most < at ? at : most;
        constexpr uint32_t kAll = (1u << X::kLanes) - 1;
        if ((I::equal(at, Ints{} + at[0]) & kAll) == kAll) {
          sums[at[0]] += sum_of_lanes<X>(g);
          continue;
        }
        if ((I::equal(at, at[0] + ascending) & kAll) == kAll) {  // the same sums, sooner
          X::store(sums + at[0], X::add(X::load(sums + at[0]), g));
          continue;
        }
        Real lane[X::kLanes];
        X::store(lane, g);
        for (int l = 0; l < X::kLanes; ++l) sums[at[l]] += lane[l];
      }
    for (int l = 0; l < X::kLanes; ++l) part.touch(least[l], most[l]);
  }
};

template <class X>
__attribute__((noinline)) void add_table_unit(TablePart<X>& part, const TileEvaluator<X>& score,
                                              const typename X::Real* ds, int64_t panel, int j0,
                                              int j1) {
  if (score.is_narrow())
    TableUnit<X, NarrowInts<X>>{part, score, ds, panel, j0, j1}.add();
  else
    TableUnit<X, WideInts<X>>{part, score, ds, panel, j0, j1}.add();
}

// After the last query of a head: what was summed by key, keys ascending.
template <class X>
void settle_keys(TablePart<X>& part) {
  if (part.tables == nullptr) return;
  for (int64_t panel = 0; panel < part.key_tile / kWidth<X>; ++panel)
    for (int32_t n = 0; n < part.tables->lookup_count; ++n)
      for (int64_t i = 0; i < kWidth<X>; ++i) {
        const int64_t at = n * part.key_tile + panel * kWidth<X> + i;
        if (part.key_sums[at] == 0) continue;
        const int32_t element = part.key_elements[at];
        part.panel_sums(panel)[element] += part.key_sums[at];
        part.touch(element, element);
        part.key_sums[at] = 0;
      }
}

// After the last head of an item: into the sums of a copy, in the order of turns.
template <class X>
void add_table_part(const tilewise::BackwardLaunch& args, const tilewise::BackwardItem& item,
                    TablePart<X>& part) {
  if (part.tables == nullptr) return;
  using Real = typename X::Real;
  const tilewise::TableGradients& tables = args.tables;
  Real* const to = static_cast<Real*>(tables.sums) + item.table_copy * tables.elements;
  wait_for_turn(tables.turn + item.table_copy, item.table_turn);
  for (int64_t panel = 0; panel < part.key_tile / kWidth<X>; ++panel) {
    Real* const from = part.panel_sums(panel);
    for (int64_t i = part.begin; i < part.end; ++i) to[i] += from[i], from[i] = 0;
  }
  pass_turn(tables.turn + item.table_copy, item.next_table_turn);
}

}  // namespace
