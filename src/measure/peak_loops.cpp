// SPDX-License-Identifier: Apache-2.0
// Twelve independent accumulators: latency 4 to 5 times two units need 8 to 10, and 12 with two
// operands fit the 16 registers of AVX2. The instruction is inline assembly, so that no compiler
// merges, reorders or removes it; target attributes keep the rest of the file at the baseline.
#include "measure/peak_loops.h"

#include <bit>

namespace tilewise::measure {
namespace {

constexpr int kAccumulators = 12;

template <class Vector, class Element>
constexpr double kFmaFlops = 2.0 * kAccumulators * sizeof(Vector) / sizeof(Element);

// Factors close to 1 and small terms: no overflow, no denormal numbers, whatever the iterations.
template <class Element>
constexpr Element kFactor = Element(0.9999999);
template <class Element>
constexpr Element kTerm = Element(1e-7);

typedef float Floats4 __attribute__((vector_size(16)));
typedef double Doubles2 __attribute__((vector_size(16)));

template <class Vector, class Element>
double multiply_add(int64_t iterations) noexcept {
  Vector sums[kAccumulators];
  for (int i = 0; i < kAccumulators; ++i) sums[i] = Vector{} + Element(i);
  const Vector factor = Vector{} + kFactor<Element>;
  const Vector term = Vector{} + kTerm<Element>;
  for (int64_t n = 0; n < iterations; ++n)
    for (int i = 0; i < kAccumulators; ++i) sums[i] = sums[i] * factor + term;
  double result = 0;
  for (const Vector& sum : sums) result += static_cast<double>(sum[0]);
  return result;
}

#ifdef TILEWISE_X86
typedef float Floats8 __attribute__((vector_size(32)));
typedef double Doubles4 __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));
typedef double Doubles8 __attribute__((vector_size(64)));

// One function per (registers, instruction): a target attribute cannot be a template argument.
#define TILEWISE_PEAK_LOOP(name, target_name, Vector, Element, instruction, a_value, b_value)  \
  __attribute__((target(target_name), noinline)) double name(int64_t iterations) noexcept {    \
    Vector s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{}, s8{}, s9{}, s10{}, s11{};           \
    const Vector a = Vector{} + (a_value), b = Vector{} + (b_value);                           \
    for (int64_t n = 0; n < iterations; ++n) {                                                 \
      asm volatile(instruction " %12, %13, %0\n\t" instruction " %12, %13, %1\n\t" instruction \
                               " %12, %13, %2\n\t" instruction " %12, %13, %3\n\t" instruction \
                               " %12, %13, %4\n\t" instruction " %12, %13, %5\n\t" instruction \
                               " %12, %13, %6\n\t" instruction " %12, %13, %7\n\t" instruction \
                               " %12, %13, %8\n\t" instruction " %12, %13, %9\n\t" instruction \
                               " %12, %13, %10\n\t" instruction " %12, %13, %11"               \
                   : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6),     \
                     "+v"(s7), "+v"(s8), "+v"(s9), "+v"(s10), "+v"(s11)                        \
                   : "v"(a), "v"(b));                                                          \
    }                                                                                          \
    const Vector sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;            \
    return static_cast<double>(sum[0]);                                                        \
  }

// Two bf16 ones, 0x3f80 each, in the bits of one float.
constexpr auto kBfloatOnes = std::bit_cast<float>(0x3f803f80u);

TILEWISE_PEAK_LOOP(fma_256_fp32, "avx2,fma", Floats8, float, "vfmadd231ps", 1e-3f, 1e-3f)
TILEWISE_PEAK_LOOP(fma_256_fp64, "avx2,fma", Doubles4, double, "vfmadd231pd", 1e-3, 1e-3)
TILEWISE_PEAK_LOOP(fma_512_fp32, "avx512f", Floats16, float, "vfmadd231ps", 1e-3f, 1e-3f)
TILEWISE_PEAK_LOOP(fma_512_fp64, "avx512f", Doubles8, double, "vfmadd231pd", 1e-3, 1e-3)
TILEWISE_PEAK_LOOP(dot_512_bf16, "avx512f", Floats16, float, "vdpbf16ps", kBfloatOnes, kBfloatOnes)
#undef TILEWISE_PEAK_LOOP

// Four accumulators of 16 x 16: the latency is 52 cycles, one product takes 16.
constexpr double kTileFlops = 4 * 2.0 * 16 * 16 * 32;
struct TileConfiguration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
constexpr TileConfiguration kSixTiles = {
    1, 0, {}, {64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16}};

__attribute__((target("amx-tile,amx-bf16"), noinline)) double tiles_bf16(
    int64_t iterations) noexcept {
  float ones[16], sums[16 * 16];
  for (float& pair : ones) pair = kBfloatOnes;
  asm volatile(
      "ldtilecfg %0\n\t"
      "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
      "tileloadd (%1,%2,1), %%tmm4\n\t"
      "tileloadd (%1,%2,1), %%tmm5"
      :
      : "m"(kSixTiles), "r"(ones), "r"(int64_t{0})
      : "memory");
  for (int64_t n = 0; n < iterations; ++n)
    asm volatile(
        "tdpbf16ps %tmm5, %tmm4, %tmm0\n\ttdpbf16ps %tmm5, %tmm4, %tmm1\n\t"
        "tdpbf16ps %tmm5, %tmm4, %tmm2\n\ttdpbf16ps %tmm5, %tmm4, %tmm3");
  asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilerelease"
               :
               : "r"(sums), "r"(int64_t{64})
               : "memory");
  return static_cast<double>(sums[0]);
}
#endif

}  // namespace

PeakLoop peak_loop(Isa isa, DType dtype) noexcept {
  const bool is_double = dtype == DType::kFloat64;
#ifdef TILEWISE_X86
  if (isa == Isa::kAmx && dtype == DType::kBFloat16) return {tiles_bf16, kTileFlops};
  if (isa == Isa::kAvx512Bf16 && dtype == DType::kBFloat16)
    return {dot_512_bf16, 2 * kFmaFlops<Floats16, float>};
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Bf16 || isa == Isa::kAmx) {
    return is_double ? PeakLoop{fma_512_fp64, kFmaFlops<Doubles8, double>}
                     : PeakLoop{fma_512_fp32, kFmaFlops<Floats16, float>};
  }
  if (isa == Isa::kAvx2) {
    return is_double ? PeakLoop{fma_256_fp64, kFmaFlops<Doubles4, double>}
                     : PeakLoop{fma_256_fp32, kFmaFlops<Floats8, float>};
  }
#endif
  return is_double ? PeakLoop{multiply_add<Doubles2, double>, kFmaFlops<Doubles2, double>}
                   : PeakLoop{multiply_add<Floats4, float>, kFmaFlops<Floats4, float>};
}

}  // namespace tilewise::measure
