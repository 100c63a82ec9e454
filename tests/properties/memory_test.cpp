// SPDX-License-Identifier: Apache-2.0
// Where tensors lie, and what lies around them, is not observable.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>
#include <vector>

#include "support/attention_data.h"
#include "tilewise/attention.h"

namespace tilewise::test {
namespace {

constexpr Buffer AttentionData::*kInputs[] = {&AttentionData::q, &AttentionData::k,
                                              &AttentionData::v, &AttentionData::grad_o};

void copy_inputs(AttentionData& to, const AttentionData& from) {
  for (auto member : kInputs) (to.*member).copy_from(from.*member);
}

TEST(Memory, ContentsOfWorkspaceAndOutputsDoNotMatter) {
  const std::string line = "b=2 hq=4 hkv=2 n=67 m=131 d=40 e=72 mask=causal bias=hk dlse=1";
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : {" dtype=fp32", " dtype=bf16", " dtype=fp64"}) {
      AttentionData zeros(line + dtype), nans(line + dtype);
      zeros.run(isa, 2, 0);
      for (uint8_t poison : {0xff, 0x7f}) {
        nans.run(isa, 2, poison);
        EXPECT_EQ(differences(zeros, nans), "") << isa << dtype;
      }
    }
  }
}

TEST(Memory, GapsAndTailsDoNotMatter) {
  const std::string line =
      "b=2 hq=2 hkv=2 n=61 m=67 d=41 e=23 mask=causal q=bhsd+5 k=bshd+3 v=bhsd+1 o=bhsd+7";
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : {" dtype=fp32", " dtype=bf16"}) {
      AttentionData nans(line + dtype), zeros(line + dtype);
      for (auto member : kInputs) {
        (zeros.*member).fill_bytes(0);
        (zeros.*member).copy_from(nans.*member);
      }
      nans.run(isa);
      zeros.run(isa);
      EXPECT_EQ(differences(nans, zeros), "") << isa << dtype;
    }
  }
}

TEST(Memory, LayoutsDoNotChangeBits) {
  const std::string shape = "b=2 hq=4 hkv=2 n=67 m=131 d=64 e=48 mask=causal";
  for (const std::string& isa : available_isas()) {
    for (const std::string dtype : {" dtype=fp32", " dtype=bf16", " dtype=fp16"}) {
      AttentionData plain(shape + dtype);
      plain.run(isa);
      for (const std::string layouts :
           {" q=bshd k=bshd v=bshd o=bshd g=bshd", " q=bhds k=bhds v=bhds o=bhds g=bhds",
            " q=bhsd~s k=bshd~d v=hbsd~h+3 o=sbhd+1 g=bhsd/2"}) {
        AttentionData other(shape + dtype + layouts);
        copy_inputs(other, plain);
        other.run(isa);
        EXPECT_EQ(differences(plain, other), "") << isa << dtype << layouts;
      }
    }
  }
}

TEST(Memory, BroadcastStridesAreRepeatedTensors) {
  const std::string shape = "b=2 hq=2 hkv=2 n=33 m=65 d=32 e=32";
  for (const std::string& isa : available_isas()) {
    AttentionData repeated(shape), broadcast(shape + " k=bhsd*h v=bhsd*b");
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t h = 0; h < 2; ++h)
        for (int64_t j = 0; j < 65; ++j)
          for (int64_t c = 0; c < 32; ++c) {
            repeated.k.set(b, h, j, c, repeated.k.get(b, 0, j, c));
            repeated.v.set(b, h, j, c, repeated.v.get(0, h, j, c));
          }
    copy_inputs(broadcast, repeated);
    repeated.run(isa);
    broadcast.run(isa);
    EXPECT_EQ(differences(repeated, broadcast), "") << isa;
  }
}

// Address space without memory behind it: pages appear where they are written.
class SparseMapping {
 public:
  explicit SparseMapping(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~SparseMapping() {
    if (is_mapped()) munmap(data_, bytes_);
  }
  SparseMapping(const SparseMapping&) = delete;
  SparseMapping& operator=(const SparseMapping&) = delete;
  [[nodiscard]] bool is_mapped() const { return data_ != MAP_FAILED; }
  [[nodiscard]] float* data() const { return static_cast<float*>(data_); }

 private:
  void* data_;
  size_t bytes_;
};

TEST(Memory, StridesBeyondFourGigaElements) {
  constexpr int64_t kLength = 19, kDim = 16, kFar = (int64_t{1} << 32) + 64;
  const std::string line = "b=2 hq=2 hkv=2 n=19 m=19 d=16 e=16 mask=causal";
  // batch entries 2^32 + 64 elements apart in q and the output, heads in k, rows in v, downwards
  const int64_t strides[3][4] = {
      {kFar, kLength * kDim, kDim, 1}, {kLength * kDim, kFar, kDim, 1}, {2 * kDim, kDim, -kFar, 1}};
  std::vector<size_t> sizes = {size_t(kFar + 1024) * 4, size_t(kFar + 1024) * 4,
                               size_t(kFar * (kLength - 1) + 1024) * 4, size_t(kFar + 1024) * 4};
  SparseMapping q(sizes[0]), k(sizes[1]), v(sizes[2]), o(sizes[3]);
  if (!q.is_mapped() || !k.is_mapped() || !v.is_mapped() || !o.is_mapped()) {
    GTEST_SKIP() << "the system gives no address space of " << sizes[2] << " bytes";
  }
  for (const std::string& isa : available_isas()) {
    AttentionData plain(line);
    plain.run_forward(isa);
    const auto far = [&](float* data, const int64_t(&stride)[4]) {
      Tensor t = Tensor::bhsd(data, DType::kFloat32, 2, 2, kLength, kDim);
      std::copy(stride, stride + 4, t.strides);
      return t;
    };
    const Tensor tensors[] = {far(q.data(), strides[0]), far(k.data(), strides[1]),
                              far(v.data() + kFar * (kLength - 1), strides[2]),
                              far(o.data(), strides[0])};
    const Buffer* sources[] = {&plain.q, &plain.k, &plain.v};
    const auto at = [](const Tensor& t, int64_t b, int64_t h, int64_t i, int64_t c) -> float& {
      return static_cast<float*>(
          t.data)[b * t.strides[0] + h * t.strides[1] + i * t.strides[2] + c];
    };
    for (int tensor = 0; tensor < 3; ++tensor)
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t h = 0; h < 2; ++h)
          for (int64_t i = 0; i < kLength; ++i)
            for (int64_t c = 0; c < kDim; ++c)
              at(tensors[tensor], b, h, i, c) =
                  static_cast<float>(sources[tensor]->get(b, h, i, c));
    ForwardTensors run;
    run.query = tensors[0], run.key = tensors[1], run.value = tensors[2], run.output = tensors[3];
    AttentionOptions options;
    options.mask = causal();
    options.plan.isa = isa;
    attention(run, options);
    for (int64_t b = 0; b < 2; ++b)
      for (int64_t h = 0; h < 2; ++h)
        for (int64_t i = 0; i < kLength; ++i)
          for (int64_t c = 0; c < kDim; ++c)
            ASSERT_EQ(at(tensors[3], b, h, i, c), plain.o.get(b, h, i, c)) << isa;
  }
}

}  // namespace
}  // namespace tilewise::test
