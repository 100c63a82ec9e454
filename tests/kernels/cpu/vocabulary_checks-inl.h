// SPDX-License-Identifier: Apache-2.0
// Checks of one vocabulary and of the verbs built on it. Truth is written here in plain loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>

#include "base/dtype.h"
#include "base/random.h"
#include "kernels/cpu/check-inl.h"
#include "kernels/cpu/dropout_checks-inl.h"
#include "kernels/cpu/generic/forward_tiles-inl.h"
#include "kernels/cpu/program_checks-inl.h"
#include "kernels/cpu/visible_checks-inl.h"
#include "kernels/cpu/vocabulary_checks.h"

namespace {

template <class X>
const char* check_operations() {
  using Real = typename X::Real;
  using Vec = typename X::Vec;
  constexpr int L = X::kLanes;
  const Real inf = __builtin_inff(), nan = __builtin_nanf("");
  const Real special[] = {Real(0),    Real(-0.0), Real(1), Real(-1), Real(1.5),
                          Real(-2.5), inf,        -inf,    nan,      Real(3e5)};
  for (Real u : special)
    for (Real v : special) {
      Real a[L], b[L], r[L];
      for (int i = 0; i < L; ++i) {
        a[i] = i % 2 ? u : special[i % 10];
        b[i] = i % 3 ? v : special[(i * 7) % 10];
      }
      const Vec x = X::load(a), y = X::load(b);
      const auto each = [&](const char* name, Vec got, auto truth) -> const char* {
        X::store(r, got);
        for (int i = 0; i < L; ++i) {
          const Real t = truth(a[i], b[i]);
          CHECK((r[i] != r[i] && t != t) || r[i] == t, "%s(%g, %g) = %g, expected %g", name,
                double(a[i]), double(b[i]), double(r[i]), double(t));
        }
        return nullptr;
      };
      const char* wrong = nullptr;
      if ((wrong = each("add", X::add(x, y), [](Real p, Real q) { return p + q; }))) return wrong;
      if ((wrong = each("sub", X::sub(x, y), [](Real p, Real q) { return p - q; }))) return wrong;
      if ((wrong = each("mul", X::mul(x, y), [](Real p, Real q) { return p * q; }))) return wrong;
      if ((wrong = each("div", X::div(x, y), [](Real p, Real q) { return p / q; }))) return wrong;
      if ((wrong = each("max", X::max(x, y), [](Real p, Real q) { return p > q ? p : q; })))
        return wrong;
      if ((wrong = each("min", X::min(x, y), [](Real p, Real q) { return p < q ? p : q; })))
        return wrong;
      if ((wrong = each("ceil", X::ceil(x), [](Real p, Real) { return std::ceil(p); })))
        return wrong;
      if ((wrong = each("fma", X::fma(x, y, X::broadcast(2)),
                        [](Real p, Real q) { return p * q + 2; })))
        return wrong;
      if ((wrong = each("fms", X::fms(x, y, X::broadcast(2)),
                        [](Real p, Real q) { return p * q - 2; })))
        return wrong;
      if ((wrong = each("fnma", X::fnma(x, y, X::broadcast(2)),
                        [](Real p, Real q) { return 2 - p * q; })))
        return wrong;
      if ((wrong = each("less", X::select(X::less(x, y), X::broadcast(1), X::broadcast(0)),
                        [](Real p, Real q) { return Real(p < q); })))
        return wrong;
      if ((wrong = each("equal", X::select(X::equal(x, y), X::broadcast(1), X::broadcast(0)),
                        [](Real p, Real q) { return Real(p == q); })))
        return wrong;
      if ((wrong = each("unordered", X::select(X::unordered(x), X::broadcast(1), X::broadcast(0)),
                        [](Real p, Real) { return Real(p != p); })))
        return wrong;
      if ((wrong = each("opposite, both, either",
                        X::select(X::either(X::both(X::less(x, y), X::opposite(X::unordered(x))),
                                            X::equal(x, y)),
                                  X::broadcast(1), X::broadcast(0)),
                        [](Real p, Real q) { return Real(p <= q); })))
        return wrong;
      CHECK(
          X::any(X::less(x, y)) ==
              [&] {
                bool any = false;
                for (int i = 0; i < L; ++i) any |= a[i] < b[i];
                return any;
              }(),
          "any");
    }
  Random random(7);
  for (int n = 0; n < 200; ++n) {
    int32_t a[L], b[L], r[L];
    for (int i = 0; i < L; ++i) {
      a[i] = int32_t(random.between(-3, 3)) * (i % 5 ? 1 : 700000000);
      b[i] = i % 4 ? int32_t(random.between(-3, 3)) : a[i];
    }
    typename X::Ints x, y;
    std::memcpy(&x, a, sizeof a);
    std::memcpy(&y, b, sizeof b);
    const auto bits = static_cast<uint32_t>(random.between(0, (1 << L) - 1));
    const uint32_t less = X::int_less(x, y), equal = X::int_equal(x, y);
    const typename X::Ints chosen = X::int_select(bits, x, y);
    std::memcpy(r, &chosen, sizeof r);
    Real real[L];
    X::store(real, X::to_real(x));
    for (int i = 0; i < L; ++i) {
      CHECK((less >> i & 1) == uint32_t{a[i] < b[i]}, "int_less(%d, %d)", a[i], b[i]);
      CHECK((equal >> i & 1) == uint32_t{a[i] == b[i]}, "int_equal(%d, %d)", a[i], b[i]);
      CHECK(r[i] == (bits >> i & 1 ? a[i] : b[i]), "int_select lane %d", i);
      CHECK(real[i] == Real(a[i]), "to_real(%d) = %g", a[i], double(real[i]));
    }
    int32_t ints[40], at[L], gathered[L];
    float reals[40];
    for (int i = 0; i < 40; ++i) {
      ints[i] = static_cast<int32_t>(random.between(INT32_MIN, INT32_MAX));
      reals[i] = static_cast<float>(random.normal());
    }
    for (int i = 0; i < L; ++i) at[i] = static_cast<int32_t>(random.between(-20, 19));
    typename X::Ints index;
    std::memcpy(&index, at, sizeof at);
    const typename X::Ints found = X::gather_ints(ints + 20, index);
    std::memcpy(gathered, &found, sizeof gathered);
    X::store(real, X::gather_reals(reals + 20, index));
    for (int i = 0; i < L; ++i) {
      CHECK(gathered[i] == ints[20 + at[i]], "gather_ints lane %d", i);
      CHECK(real[i] == Real(reals[20 + at[i]]), "gather_reals lane %d", i);
    }
    if constexpr (kPermutesTables<X>) {
      X::store(real, X::look_up_32(reals, index));
      for (int i = 0; i < L; ++i) CHECK(real[i] == reals[at[i] & 31], "look_up_32 lane %d", i);
    }
    CHECK(X::bits(X::lanes(bits)) == bits, "bits(lanes(%x))", bits);
    CHECK(less >> L == 0 && equal >> L == 0, "bits beyond the lanes");
    for (int i = 0; i < L; ++i) real[i] = Real(std::ldexp(1 + random.uniform(), a[i] % 100));
    Real inverse[L];
    X::store(inverse, X::reciprocal(X::load(real)));
    for (int i = 0; i < L; ++i)
      CHECK(std::fabs(double(inverse[i]) * double(real[i]) - 1) <=
                2 * double(std::numeric_limits<Real>::epsilon()),
            "reciprocal(%g) = %g", double(real[i]), double(inverse[i]));
  }
  for (uint32_t bits : {0u, 1u, 0x5u, 0x80u, 0xffffu, 0x8001u}) {
    Real r[L];
    X::store(r, X::select(X::lanes(bits), X::broadcast(1), X::broadcast(0)));
    for (int i = 0; i < L; ++i) CHECK(r[i] == Real(bits >> i & 1), "lanes(%x) lane %d", bits, i);
  }
  for (int n : {0, -1, 5, -126, -140, -300, 100}) {
    Real r[L];
    X::store(r, X::times_power_of_two(X::broadcast(Real(1.25)), X::broadcast(Real(n))));
    CHECK(r[0] == Real(std::ldexp(Real(1.25), n)), "times_power_of_two n=%d gives %g", n,
          double(r[0]));
  }
  {
    Real r[L];
    X::store(r, X::times_power_of_two(X::broadcast(Real(1)), X::broadcast(-inf)));
    CHECK(r[0] == 0, "times_power_of_two(-inf) gives %g", double(r[0]));
  }
  return "";
}

template <class X>
const char* check_transpose() {
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  typename X::Vec rows[L];
  Real in[L][L], out[L];
  for (int i = 0; i < L; ++i) {
    for (int j = 0; j < L; ++j) in[i][j] = Real(100 * i + j);
    rows[i] = X::load(in[i]);
  }
  X::transpose(rows);
  for (int i = 0; i < L; ++i) {
    X::store(out, rows[i]);
    for (int j = 0; j < L; ++j) CHECK(out[j] == in[j][i], "element (%d, %d)", i, j);
  }
  return "";
}

template <class X>
const char* check_conversions() {
  using Real = typename X::Real;
  constexpr int L = X::kLanes;
  for (uint32_t first = 0; first < 65536; first += L) {
    uint16_t bits[L], back[L];
    Real r[L];
    for (int i = 0; i < L; ++i) bits[i] = static_cast<uint16_t>(first + i);
    X::store(r, X::load_bf16(bits));
    X::store_bf16(back, X::load(r));
    for (int i = 0; i < L; ++i) {
      const float t = tilewise::bfloat16_to_float(bits[i]);
      CHECK(t != t ? r[i] != r[i] : r[i] == Real(t), "load_bf16(%04x)", bits[i]);
      const bool tiny =
          X::kWord == 2 && (bits[i] & 0x7f80) == 0;  // vcvtneps2bf16 flushes denormals
      CHECK(t != t || tiny || back[i] == bits[i], "store_bf16(%04x) gives %04x", bits[i], back[i]);
    }
    X::store(r, X::load_fp16(bits));
    X::store_fp16(back, X::load(r));
    for (int i = 0; i < L; ++i) {
      const float t = tilewise::float16_to_float(bits[i]);
      CHECK(t != t ? r[i] != r[i] : r[i] == Real(t), "load_fp16(%04x)", bits[i]);
      CHECK(t != t || back[i] == bits[i], "store_fp16(%04x) gives %04x", bits[i], back[i]);
    }
  }
  Random random(5);
  for (int n = 0; n < 20000; ++n) {  // rounding, against the scalar conversion
    Real r[L];
    uint16_t b[L], h[L];
    for (int i = 0; i < L; ++i)
      r[i] = Real(float(random.normal() * std::ldexp(1.0, int(random.between(-12, 12)))));
    X::store_bf16(b, X::load(r));
    X::store_fp16(h, X::load(r));
    for (int i = 0; i < L; ++i) {
      CHECK(b[i] == tilewise::float_to_bfloat16(float(r[i])), "store_bf16(%a)", double(r[i]));
      CHECK(h[i] == tilewise::float_to_float16(float(r[i])), "store_fp16(%a)", double(r[i]));
    }
  }
  return "";
}

// A tensor of small integers with the given strides; every sum of products is exact.
template <class X>
struct Sample {
  static constexpr int kSize = 70000;
  char memory[kSize * 8];
  Matrix matrix;
  void draw(Random& random, DType dtype, int64_t rows, int64_t dim, int layout) {
    const int64_t bytes = tilewise::dtype_bytes(dtype);
    for (int i = 0; i < kSize; ++i)
      tilewise::store_element(memory, dtype, i, double(random.between(-4, 4)));
    const int64_t row = layout == 0 ? dim : layout == 1 ? dim + 3 : layout == 2 ? 1 : -dim;
    const int64_t column = layout == 2 ? rows : 1;
    matrix = {memory + (layout == 3 ? (rows - 1) * dim * bytes : 0), row * bytes, column * bytes,
              dtype};
  }
  double at(int64_t r, int64_t c) const {
    return tilewise::load_element(matrix.at(r, c), matrix.dtype, 0);
  }
};

template <class X>
double element_of_words(const char* row, int64_t c) {
  if (X::kWord == 2) return tilewise::load_element(row, DType::kBFloat16, c);
  return double(reinterpret_cast<const typename X::Real*>(row)[c]);
}

template <class X>
const char* check_packing() {
  using Real = typename X::Real;
  Random random(3);
  static Real buffer[256 * 256];
  for (int n = 0; n < 400; ++n) {
    const DType dtypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64};
    const DType dtype =
        X::kWord == 2 ? DType::kBFloat16 : dtypes[random.between(0, sizeof(Real) == 8 ? 3 : 2)];
    const int64_t rows = random.between(1, 100), dim = random.between(1, 150);
    static Sample<X> s;
    s.draw(random, dtype, rows, dim, n % 4);
    const int64_t first = random.between(0, rows - 1), count = random.between(1, rows - first);
    const int64_t padded = round_up(count, kGroup<X>), width = value_width<X>(dim);
    for (Real& x : buffer) x = Real(77);
    Rows got = word_rows<X>(s.matrix, first, count, padded, dim, buffer);
    for (int64_t r = 0; r < (got.data == reinterpret_cast<char*>(buffer) ? padded : count); ++r)
      for (int64_t c = 0; c < dim; ++c)
        CHECK(element_of_words<X>(got.row(r), c) == (r < count ? s.at(first + r, c) : 0),
              "word_rows (%ld, %ld)", long(r), long(c));
    got = contracted_rows<X>(s.matrix, first, count, padded, dim, width, buffer);
    for (int64_t r = 0; r < padded; ++r)
      for (int64_t c = 0; c < (got.data == reinterpret_cast<char*>(buffer) ? width : dim); ++c) {
        const double truth = r < count && c < dim ? s.at(first + r, c) : 0;
        CHECK(element_of_words<X>(got.row(r / X::kWord), c * X::kWord + r % X::kWord) == truth,
              "contracted_rows (%ld, %ld)", long(r), long(c));
      }
    if constexpr (kTiled<X>) {
      static Real groups[256 * 256];
      contracted_groups<X, false>(s.matrix, first, count, padded, dim, width, buffer, groups);
      for (int64_t r = 0; r < padded; ++r)
        for (int64_t c = 0; c < width; ++c) {
          const auto* row = reinterpret_cast<const char*>(
              groups +
              ((c / kGroup<X> * padded + r) / kGroup<X> * kGroup<X> + c % kGroup<X>)*X::kStep);
          CHECK(element_of_words<X>(row, r % kGroup<X>) ==
                    (r < count && c < dim ? s.at(first + r, c) : 0),
                "contracted_groups (%ld, %ld)", long(r), long(c));
        }
    }
    const int64_t lanes = smaller(count, kWidth<X>);
    transpose_words<X>(s.matrix, first, lanes, dim, Real(2), buffer);
    for (int64_t l = 0; l < kWidth<X>; ++l)
      for (int64_t c = 0; c < dim; ++c) {
        const char* word = reinterpret_cast<const char*>(buffer + c / X::kWord * kWidth<X> + l);
        const double factor = X::kWord == 1 ? 2 : 1;
        CHECK(element_of_words<X>(word, c % X::kWord) ==
                  (l < lanes ? factor * s.at(first + l, c) : 0),
              "transpose_words (%ld, %ld)", long(l), long(c));
      }
  }
  return "";
}

template <class X>
const char* check_products() {
  using Real = typename X::Real;
  Random random(9);
  constexpr int kRowsOfWords = 64, kW = kWidth<X>;
  static Real b[kRowsOfWords * kW], c[16 * kW];
  static char a[kRowsOfWords * 64 * sizeof(Real)];
  const DType dtype = X::kWord == 2       ? DType::kBFloat16
                      : sizeof(Real) == 8 ? DType::kFloat64
                                          : DType::kFloat32;
  for (int n = 0; n < 200; ++n) {
    for (int64_t i = 0; i < int64_t(sizeof b / tilewise::dtype_bytes(dtype)); ++i)
      tilewise::store_element(b, dtype, i, double(random.between(-3, 3)));
    for (int64_t i = 0; i < int64_t(sizeof a / tilewise::dtype_bytes(dtype)); ++i)
      tilewise::store_element(a, dtype, i, double(random.between(-3, 3)));
    const int64_t depth = random.between(1, 60);
    const Rows rows = {a, 61 * int64_t(sizeof(Real))};
    typename X::Vec s[X::kRows][X::kVectors];
    multiply_abt<X, X::kVectors>(s, rows, b, depth);
    for (int i = 0; i < X::kRows; ++i)
      for (int l = 0; l < kW; ++l) {
        double truth = 0;
        for (int64_t k = 0; k < depth * X::kWord; ++k)
          truth +=
              element_of_words<X>(rows.row(i), k) *
              element_of_words<X>(reinterpret_cast<char*>(b + k / X::kWord * kW + l), k % X::kWord);
        Real r[X::kLanes];
        X::store(r, s[i][l / X::kLanes]);
        CHECK(double(r[l % X::kLanes]) == truth, "multiply_abt (%d, %d)", i, l);
      }
    VisibleTile<X> visible;
    const int bandwidth = int(random.between(0, 40));
    tilewise::TileRule rule;
    rule.band = {-bandwidth, bandwidth};
    find_visible<X>(visible, rule, {0, 0, true, 56, kW, X::kVectors});
    for (Real& x : c) x = Real(1);
    multiply_add_ab<X, false>(rows, 16, b, visible, {0, kMaxRows}, nullptr, c);
    for (int i = 0; i < 16; ++i)
      for (int l = 0; l < kW; ++l) {
        double truth = 1;
        for (int q = 0; q < visible.count; ++q) {
          const Segment& seg = visible.segments[q];
          if (l / X::kLanes < seg.j0 || l / X::kLanes >= seg.j1) continue;
          for (int k = seg.begin; k < seg.end; ++k)
            truth += element_of_words<X>(rows.row(k / X::kWord), i * X::kWord + k % X::kWord) *
                     element_of_words<X>(reinterpret_cast<char*>(b + k / X::kWord * kW + l),
                                         k % X::kWord);
        }
        CHECK(double(c[i * kW + l]) == truth, "multiply_add_ab (%d, %d): %g, expected %g", i, l,
              double(c[i * kW + l]), truth);
      }
  }
  return "";
}

// A lane's bits may not depend on whether a neighbour sent the unit to the cold path.
template <class X>
const char* check_cold_path() {
  using Real = typename X::Real;
  constexpr int kW = kWidth<X>, kDepth = 16, kKeys = 64;
  static Real qt[kDepth * kW], o[2][16 * kW], state[2][7][kW], p[2][kKeys * kW], bias[kKeys * kW];
  static Real scores[kGroup<X> * kW];
  static char keys[kKeys * kDepth * sizeof(Real)];
  const DType dtype = X::kWord == 2       ? DType::kBFloat16
                      : sizeof(Real) == 8 ? DType::kFloat64
                                          : DType::kFloat32;
  Random random(21);
  if constexpr (kTiled<X>) X::begin_tiles();
  for (int n = 0; n < 60; ++n) {
    const double spread = n % 3 == 0 ? 1 : n % 3 == 1 ? 8 : 40;
    for (int64_t i = 0; i < int64_t(sizeof qt / tilewise::dtype_bytes(dtype)); ++i)
      tilewise::store_element(qt, dtype, i, random.normal() * spread);
    for (int64_t i = 0; i < int64_t(sizeof keys / tilewise::dtype_bytes(dtype)); ++i)
      tilewise::store_element(keys, dtype, i, random.normal());
    for (Real& x : bias) x = random.between(0, 9) ? Real(random.normal()) : -Real(__builtin_inff());
    VisibleTile<X> visible;
    tilewise::TileRule rule;
    if (n % 2 == 0) rule.band = {-20, 20};
    find_visible<X>(visible, rule, {0, 0, true, kKeys - 3, kW, X::kVectors});
    const Real scale = X::kWord == 1 ? Real(1) : Real(0.3);
    const Rows rows = {keys, kDepth * int64_t(sizeof(Real))};
    for (int cold = 0; cold < 2; ++cold) {
      Real(*of_lanes)[kW] = state[cold];
      QueryBlock<X> q{qt,
                      o[cold],
                      of_lanes[0],
                      of_lanes[1],
                      of_lanes[2],
                      of_lanes[3],
                      of_lanes[X::kWord == 2 ? 4 : 3],
                      true,
                      true,
                      -1,
                      of_lanes[5],
                      nullptr,
                      of_lanes[6]};
      const bool biased = n % 5 == 4;
      reset(q, 16, kPrescaled<X> || biased ? Real(1) : scale);
      std::memset(p[cold], 0, sizeof p[cold]);
      const TileScores<X> tile{.p = p[cold],
                               .s = kTiled<X> ? scores : nullptr,
                               .score = nullptr,
                               .unit = nullptr,
                               .unscaled = 1,
                               .bias = biased ? bias : nullptr,
                               .bits = visible.bits,
                               .to_log2 = scale,
                               .key = 0,
                               .depth = kDepth,
                               .careful = false,
                               .vectors = X::kVectors,
                               .dropped = nullptr};
      for (int i = 0; i < visible.count; ++i) {
        const Segment& s = visible.segments[i];
        for (int row = s.begin; row < s.end; row += kUnit) {
          if constexpr (kTiled<X>) {
            const int group = row / kGroup<X> * kGroup<X>;
            score_group(q, tile, rows, group, row > group);
          }
          for (int j = s.j0; j < s.j1; ++j) {
            const Rows unit = {rows.row(row), rows.stride};
            if (cold)
              score_unit_cold<X, 1>(q, tile, unit, row, j, s.masked);
            else if (biased)
              score_unit<X, 1, UnitKind::kBiased>(q, tile, unit, row, j, s.masked);
            else if (s.masked)
              score_unit<X, 1, UnitKind::kMasked>(q, tile, unit, row, j, true);
            else
              score_unit<X, 1, UnitKind::kPlain>(q, tile, unit, row, j, false);
          }
        }
      }
    }
    CHECK(std::memcmp(p[0], p[1], sizeof p[0]) == 0, "P differs (case %d)", n);
    CHECK(std::memcmp(state[0][0], state[1][0], sizeof state[0][0]) == 0, "m differs (case %d)", n);
    for (int l : {3, 4})
      CHECK(std::memcmp(state[0][l], state[1][l], sizeof state[0][l]) == 0, "l differs (case %d)",
            n);
  }
  if constexpr (kTiled<X>) X::end_tiles();
  return "";
}

template <class X>
constexpr tilewise::VocabularyChecks make_checks(const char* name,
                                                 const char* (*products)() = check_products<X>) {
  return {name,
          check_operations<X>,
          check_transpose<X>,
          check_conversions<X>,
          check_exp2<X>,
          products,
          check_visible<X>,
          check_packing<X>,
          check_cold_path<X>,
          check_dropout<X>,
          check_elementary<X>,
          X::kLanes,
          kWidth<X>,
          evaluate<X>};
}

}  // namespace
