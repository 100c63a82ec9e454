// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/registry.h"

#include "base/cpu_features.h"
#include "base/environment.h"
#include "base/message.h"
#include "kernels/cpu/kernels.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

// Order of Kernel pointers: DType, that is fp32, bf16, fp16, fp64.
const KernelTable kScalarTable = {
    Isa::kScalar, "scalar", {&kScalarF32, &kScalarF32, &kScalarF32, &kScalarF64}};
#if defined(TILEWISE_X86)
const KernelTable kAvx2Table = {Isa::kAvx2, "avx2", {&kAvx2F32, &kAvx2F32, &kAvx2F32, &kScalarF64}};
const KernelTable kAvx512Table = {
    Isa::kAvx512, "avx512", {&kAvx512F32, &kAvx512F32, &kAvx512F32, &kScalarF64}};
const KernelTable kAvx512Bf16Table = {
    Isa::kAvx512Bf16, "avx512bf16", {&kAvx512F32, &kAvx512Bf16, &kAvx512F32, &kScalarF64}};
const KernelTable kAmxTable = {
    Isa::kAmx, "amx", {&kAvx512F32, &kAmxBf16, &kAvx512F32, &kScalarF64}};
#endif

struct Candidate {
  const KernelTable* table;
  bool supported;
};

// Best first.
std::vector<Candidate> compiled_kernels() {
#if defined(TILEWISE_X86)
  const CpuFeatures& cpu = cpu_features();
  return {{&kAmxTable, cpu.amx_bf16 && cpu.avx2_fma_f16c},
          {&kAvx512Bf16Table, cpu.avx512 && cpu.avx512_bf16 && cpu.avx2_fma_f16c},
          {&kAvx512Table, cpu.avx512 && cpu.avx2_fma_f16c},
          {&kAvx2Table, cpu.avx2_fma_f16c},
          {&kScalarTable, true}};
#else
  return {{&kScalarTable, true}};
#endif
}

}  // namespace

const std::vector<const KernelTable*>& supported_kernels() {
  static const std::vector<const KernelTable*> supported = [] {
    std::vector<const KernelTable*> list;
    for (const Candidate& candidate : compiled_kernels())
      if (candidate.supported) list.push_back(candidate.table);
    return list;
  }();
  return supported;
}

const KernelTable& choose_kernels(const std::string& isa) {
  const std::string from_environment = isa.empty() ? environment::isa() : std::string();
  const std::string& name = isa.empty() ? from_environment : isa;
  if (name.empty()) return *supported_kernels().front();
  std::string names;
  for (const KernelTable* table : supported_kernels()) {
    if (name == table->name) return *table;
    names += names.empty() ? table->name : std::string(", ") + table->name;
  }
  std::string hint;
  for (const Candidate& candidate : compiled_kernels())
    if (name == candidate.table->name) hint = "this CPU does not support it";
  const std::string argument = isa.empty() ? "TILEWISE_ISA" : "isa";
  throw InvalidArgument(message("make_plan", argument, "'" + name + "'", "one of " + names, hint));
}

}  // namespace tilewise
