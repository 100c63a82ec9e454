// SPDX-License-Identifier: Apache-2.0
// Programs and elementary functions of one vocabulary, for the tests.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "kernels/cpu/check-inl.h"
#include "kernels/cpu/generic/eval_tile-inl.h"
#include "kernels/cpu/generic/online_softmax-inl.h"
#include "kernels/cpu/vocabulary_checks.h"

namespace {

// See VocabularyChecks::evaluate. Registers start as garbage.
template <class X>
void evaluate(const tilewise::TileProgram& program, const tilewise::ProgramSizes& sizes,
              const tilewise::ProgramTile& tile, double* values) {
  using Real = typename X::Real;
  constexpr int W = kWidth<X>, L = X::kLanes;
  static char memory[1 << 23];
  char* const aligned = memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64);
  Scratch counted{nullptr}, scratch{aligned};
  const TileEvaluator<X> size_only(sizes, tile.rows_are_keys, counted);
  std::memset(aligned, 0xff, static_cast<size_t>(counted.used));
  TileEvaluator<X> evaluator(sizes, tile.rows_are_keys, scratch);
  const TilePlace place = {
      tile.batch, {tile.head, nullptr}, {tile.query, nullptr}, {tile.key, nullptr}};
  evaluator.begin(program, place, tile.rows, tile.j1);
  const int all_rows = static_cast<int>((tile.rows + kUnit - 1) / kUnit * kUnit);
  for (int row = 0; row < all_rows; row += kUnit) {
    Real s[kUnit * W];
    for (int i = 0; i < kUnit * W; ++i) s[i] = static_cast<Real>(tile.scores[row * W + i]);
    evaluator.unit(row, tile.j0, tile.j1, s);
    for (int o = 0; o < program.output_count; ++o) {
      const auto type = program.registers[program.outputs[o]].type;
      const Operand& out = evaluator.output(o);
      for (int i = 0; i < kUnit; ++i)
        for (int lane = tile.j0 * L; lane < tile.j1 * L; ++lane) {
          const char* vector = out.at(i, lane / L);
          double& to = values[(o * all_rows + row + i) * W + lane];
          const int l = lane % L;
          if (type == ProgramType::kBool) {
            to = reinterpret_cast<const uint16_t*>(vector)[0] >> l & 1;
          } else if (type == ProgramType::kReal) {
            to = static_cast<double>(reinterpret_cast<const Real*>(vector)[l]);
          } else {
            to = program.is_narrow
                     ? static_cast<double>(reinterpret_cast<const int32_t*>(vector)[l])
                     : static_cast<double>(reinterpret_cast<const int64_t*>(vector)[l]);
          }
        }
    }
  }
}

// Largest error in units of the spacing of Real at the truth, over arguments of all sizes.
template <class X, class Function, class Truth>
const char* check_elementary_function(const char* name, const Function& function,
                                      const Truth& truth, double ulps) {
  using Real = typename X::Real;
  static char text[128];
  constexpr int L = X::kLanes;
  const auto check = [&](Real x) {
    Real lane[L];
    for (int i = 0; i < L; ++i) lane[i] = x;
    X::store(lane, function(X::load(lane)));
    const double expected = truth(static_cast<double>(x));
    const auto rounded = static_cast<Real>(expected);
    const Real size = std::fabs(rounded) < std::numeric_limits<Real>::min()
                          ? std::numeric_limits<Real>::min()
                          : std::fabs(rounded);
    const double spacing =
        static_cast<double>(std::nextafter(size, std::numeric_limits<Real>::infinity()) - size);
    const bool fits = std::isfinite(rounded)
                          ? std::fabs(static_cast<double>(lane[0]) - expected) <= ulps * spacing
                          : lane[0] == rounded || (lane[0] != lane[0] && rounded != rounded);
    if (!fits)
      std::snprintf(text, sizeof(text), "%s(%.9g) = %.9g, expected %.9g", name, double(x),
                    double(lane[0]), expected);
    return fits;
  };
  const double infinity = std::numeric_limits<double>::infinity();
  for (double x : {0.0, -0.0, 1.0, infinity, -infinity, std::nan(""), 1e-44, 88.7, -87.3, 200.0})
    if (!check(static_cast<Real>(x))) return text;
  for (double size = 0x1p-126; size < 1e30; size *= 1.0007)
    for (double sign : {1.0, -1.0})
      if (!check(static_cast<Real>(sign * size))) return text;
  return nullptr;
}

template <class X>
const char* check_elementary() {
  using Vec = typename X::Vec;
  using Real = typename X::Real;
  const char* wrong = check_elementary_function<X>(
      "exp", [](Vec x) { return exp_real<X>(x); }, [](double x) { return std::exp(x); }, 3);
  if (!wrong)
    wrong = check_elementary_function<X>(
        "log", [](Vec x) { return log_real<X>(x); }, [](double x) { return std::log(x); }, 3);
  if (!wrong)
    wrong = check_elementary_function<X>(
        "tanh", [](Vec x) { return tanh_real<X>(x); }, [](double x) { return std::tanh(x); }, 2);
  if (!wrong)
    wrong = check_elementary_function<X>(
        "sqrt", [](Vec x) { return X::sqrt(x); }, [](double x) { return std::sqrt(x); }, 0.51);
  if (!wrong) {  // 2^(n + 1/2): a tie may be rounded either way without changing bits
    Real half[X::kLanes], minus_half[X::kLanes];
    X::store(half, exp2_fraction<X>(X::broadcast(Real(0.5)), Real(1)));
    X::store(minus_half, exp2_fraction<X>(X::broadcast(Real(-0.5)), Real(2)));
    if (half[0] != minus_half[0]) wrong = "2^(1/2) and 2 * 2^(-1/2) have different bits";
  }
  if (!wrong)  // so that its derivative vanishes
    wrong = check_elementary_function<X>(
        "tanh of large numbers",
        [](Vec x) {
          const Vec size = X::max(x, X::sub(Vec{}, x)), one = X::broadcast(1);
          return X::sub(tanh_real<X>(X::add(size, X::broadcast(sizeof(Real) == 8 ? 20 : 10))), one);
        },
        [](double x) { return std::isnan(x) ? x : 0.0; }, 0);
  return wrong ? wrong : "";
}

template <class X>
const char* check_exp2() {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  using E = Exp2<Real>;
  constexpr int L = X::kLanes;
  const double bound = X::kWord == 2 ? 1.05e-4 : sizeof(Real) == 8 ? 6e-16 : 2.5e-7;
  for (Real m : {Real(0), Real(7), Real(-33), Real(2097152), Real(-2097152)}) {
    const Vec base = X::broadcast(E::kMagic + E::kBias - m);
    for (int step = -40000; step <= 5600; ++step) {
      Real s[L], p[L], tr[L];
      for (int i = 0; i < L; ++i)
        s[i] = m + Real(step + i / double(L)) * Real(1.0 / 320);  // m - 125 to m + 17.5
      Vec t;
      X::store(p, exp2_minus<X, true>(X::load(s), base, Vec{}, t));
      X::store(tr, t);
      for (int i = 0; i < L; ++i) {
        const double x = double(s[i]) - double(m);
        const bool over = X::any_bits(X::broadcast(tr[i]), E::kOverflowBits);
        CHECK(over == (x > 16.5 || (x == 16.5 && over)), "overflow of %g says %d", x, over);
        if (over) continue;
        const double truth = std::exp2(x);
        CHECK(std::fabs(double(p[i]) - truth) <= bound * truth, "2^%.9g = %.9g, error %g", x,
              double(p[i]), double(p[i]) / truth - 1);
      }
    }
    Vec t;
    Real p[L];
    X::store(p, exp2_minus<X, true>(X::broadcast(m + E::kZero), base, Vec{}, t));
    CHECK(same_bits(p[0], Real(0)), "2^kZero = %g", double(p[0]));
    for (Real bad : {Real(__builtin_nanf("")), Real(__builtin_inff())}) {
      exp2_minus<X, true>(X::broadcast(bad), base, Vec{}, t);
      CHECK(X::any_bits(t, E::kOverflowBits), "%g is not noticed", double(bad));
    }
  }
  return "";
}

}  // namespace
