// SPDX-License-Identifier: Apache-2.0
// Every mask and score of docs/rules.md, forward and backward, in every dtype and on every
// instruction set of this CPU, against the float64 reference, which asks the scalar evaluator pair
// by pair.
#include <gtest/gtest.h>

#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "kernels/reference/reference.h"
#include "problem/rules.h"
#include "tilewise/attention.h"
#include "verify/case.h"
#include "verify/case_memory.h"
#include "verify/experiment.h"

namespace tilewise::verify {
namespace {

// Called so that each hides some pairs of the shapes below and shows others. Their data: see
// case_data.h.
constexpr const char* kMasks[] = {
    "causal",
    "causal-top-left",
    "window:20,3",
    "sink-window:sinks=2,window=9",
    "document",
    "document-causal",
    "document-span",
    "padding",
    "padding-causal",
    "prefix-lm",
    "image-bidirectional",
    "chunked:chunk=23",
    "block-causal:block=7",
    "level-causal",
    "block-diffusion:length=48,block=8",
    "dilated-window:window=24,dilation=3",
    "longformer:window=9,global=3",
    "longformer-marked:window=9",
    "bigbird:block=16,window=0,global=1",
    "strided:stride=11,summary=2",
    "natten:length=97,radius=6",
    "natten-2d:width=11,height=9,radius=2",
    "natten-3d:width=5,height=5,depth=4,radius=1",
    "sliding-tile:tile=4,columns=5,rows=5,radius=1",
    "swin:width=12,window=3",
    "swin-shifted:width=12,height=9,window=3,shift=1",
    "joint-text-image:text=10",
    "flamingo",
    "tree",
    "shared-prefix",
    "svg-spatial:prompt=5,window=7",
    "svg-temporal:prompt=5,frame=11,window=3",
    "block-sparse:block=16",
};
constexpr const char* kScores[] = {
    "softcap:cap=2.5",
    "alibi",
    "relative-bias:reach=15",
    "bucket-bias:reach=15",
    "window-bias:width=12,window=7",
    "disentangled:reach=15",
    "graph-bias",
    "kerple-log",
    "positional-kernel:reach=15",
    "relu",
};

struct Shape {
  const char* name;
  const char* line;
};
// No position beyond 96; grouped heads. Few queries run in a kernel of their own.
constexpr Shape kManyQueries{"ManyQueries", "hq=4 hkv=2 n=67 m=93 d=16 e=16 qoff=20 koff=3"};
constexpr Shape kFewQueries{"FewQueries", "b=2 hq=4 hkv=2 n=7 m=93 d=16 e=24 qoff=31 koff=3"};

std::vector<std::string> rules_in_cases() {
  std::vector<std::string> words;
  for (const char* mask : kMasks) words.push_back(std::string("mask=") + mask);
  for (const char* score : kScores) words.push_back(std::string("score=") + score);
  return words;
}

struct Setting {
  Shape shape;
  DType dtype;
};
void PrintTo(const Setting& setting, std::ostream* stream) { *stream << setting.shape.line; }
std::string name_of(const testing::TestParamInfo<Setting>& info) {
  return std::string(info.param.shape.name) + "_" + dtype_name(info.param.dtype);
}
std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const Shape& shape : {kManyQueries, kFewQueries}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16})
      all.push_back({shape, dtype});
  }
  return all;
}

class NamedRules : public testing::TestWithParam<Setting> {};
INSTANTIATE_TEST_SUITE_P(Plan, NamedRules, testing::ValuesIn(settings()), name_of);

TEST_P(NamedRules, WithinTheErrorOfNaive) {
  const Setting& setting = GetParam();
  for (const std::string& rule : rules_in_cases()) {
    const std::string line =
        std::string(setting.shape.line) + " dtype=" + dtype_name(setting.dtype) + " seed=5 " + rule;
    Experiment experiment(case_from_text(line));
    for (const std::string& isa : available_isas())
      EXPECT_EQ(experiment.run(isa, 1).failure, "") << isa << " " << line;
  }
}

TEST(NamedRulesCases, AreAllRulesOfTheLibrary) {
  std::set<std::string> judged, known;
  for (const std::string& rule : rules_in_cases()) judged.insert(rule.substr(0, rule.find(':')));
  for (const Rule& rule : rules())
    known.insert((rule.is_score ? "score=" : "mask=") + std::string(rule.name));
  EXPECT_EQ(judged, known);
}

TEST(NamedRulesCases, HideSomePairsAndShowOthers) {
  for (const Shape& shape : {kManyQueries, kFewQueries}) {
    for (const char* mask : kMasks) {
      const std::string line = std::string(shape.line) + " seed=5 mask=" + mask;
      const CaseMemory memory(case_from_text(line));
      const reference::Inputs in = memory.reference_inputs();
      reference::Visibility is_visible(in, 0, 1);
      int64_t visible = 0, hidden = 0;
      for (int64_t q = 0; q < in.query.shape[2]; ++q)
        for (int64_t k = 0; k < in.key.shape[2]; ++k) ++(is_visible(q, k) ? visible : hidden);
      EXPECT_GT(visible, 0) << line;
      EXPECT_GT(hidden, 0) << line;
    }
  }
}

}  // namespace
}  // namespace tilewise::verify
