// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/registry.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/cpu_features.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

class ChosenKernels : public testing::Test {
 protected:
  void SetUp() override {
    const char* isa = std::getenv("TILEWISE_ISA");
    before_ = isa ? isa : "";
    unsetenv("TILEWISE_ISA");
  }
  void TearDown() override {
    if (before_.empty())
      unsetenv("TILEWISE_ISA");
    else
      setenv("TILEWISE_ISA", before_.c_str(), 1);
  }
  std::string before_;
};

TEST_F(ChosenKernels, ScalarIsAlwaysThereAndLast) {
  ASSERT_FALSE(supported_kernels().empty());
  EXPECT_STREQ(supported_kernels().back()->name, "scalar");
}

TEST_F(ChosenKernels, SupportedMatchesTheCpu) {
  const auto has = [](const std::string& name) {
    for (const KernelTable* table : supported_kernels())
      if (name == table->name) return true;
    return false;
  };
  EXPECT_EQ(has("avx2"), cpu_features().avx2_fma_f16c);
  EXPECT_EQ(has("avx512"), cpu_features().avx512);
  EXPECT_EQ(has("avx512bf16"), cpu_features().avx512 && cpu_features().avx512_bf16);
  EXPECT_EQ(has("amx"), cpu_features().amx_bf16);
}

TEST_F(ChosenKernels, EveryKernelIsComplete) {
  for (const KernelTable* table : supported_kernels())
    for (const Kernel* kernel : table->kernels) {
      ASSERT_NE(kernel, nullptr) << table->name;
      EXPECT_TRUE(kernel->tile_bytes && kernel->forward_scratch_bytes && kernel->forward)
          << table->name;
      EXPECT_TRUE(kernel->backward_scratch_bytes && kernel->backward_prepare && kernel->backward)
          << table->name;
      EXPECT_TRUE(kernel->matmul_scratch_bytes && kernel->matmul) << table->name;
      EXPECT_TRUE(kernel->rows_scratch_bytes && kernel->mask_rows && kernel->softmax_rows &&
                  kernel->softmax_backward_rows && kernel->sum_rows)
          << table->name;
      for (int64_t Geometry::*size :
           {&Geometry::query_tile, &Geometry::key_tile, &Geometry::backward_query_tile,
            &Geometry::backward_key_tile}) {
        EXPECT_GT(kernel->limits.unit.*size, 0) << table->name;
        EXPECT_GE(kernel->limits.max.*size, kernel->limits.unit.*size) << table->name;
        EXPECT_EQ(kernel->limits.max.*size % (kernel->limits.unit.*size), 0) << table->name;
      }
      const TileBytes one = kernel->tile_bytes(1, 1), many = kernel->tile_bytes(512, 512);
      for (int64_t TileBytes::*size : {&TileBytes::query, &TileBytes::key,
                                       &TileBytes::backward_query, &TileBytes::backward_key}) {
        EXPECT_GT(one.*size, 0) << table->name;
        EXPECT_GT(many.*size, one.*size) << table->name;
      }
      EXPECT_GT(one.backward_scores, 0) << table->name;
    }
}

TEST_F(ChosenKernels, DefaultIsTheBest) {
  EXPECT_EQ(&choose_kernels(""), supported_kernels().front());
}

TEST_F(ChosenKernels, EachByName) {
  for (const KernelTable* table : supported_kernels())
    EXPECT_EQ(&choose_kernels(table->name), table);
}

TEST_F(ChosenKernels, EnvironmentOverridesTheDefaultOnly) {
  setenv("TILEWISE_ISA", "scalar", 1);
  EXPECT_STREQ(choose_kernels("").name, "scalar");
  EXPECT_EQ(&choose_kernels(supported_kernels().front()->name), supported_kernels().front());
}

TEST_F(ChosenKernels, UnknownNamesAreErrorsThatListTheKnown) {
  const auto text = [](const std::string& isa) -> std::string {
    try {
      (void)choose_kernels(isa);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(text("sse9").find("isa is 'sse9', expected one of "), std::string::npos)
      << text("sse9");
  EXPECT_NE(text("sse9").find("scalar"), std::string::npos);
  setenv("TILEWISE_ISA", "sse9", 1);
  EXPECT_NE(text("").find("TILEWISE_ISA is 'sse9'"), std::string::npos) << text("");
}

}  // namespace
}  // namespace tilewise
