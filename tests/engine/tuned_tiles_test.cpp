// SPDX-License-Identifier: Apache-2.0
#include "engine/tuned_tiles.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "engine/plan_data.h"
#include "engine/small_attention.h"
#include "io/temporary_directory.h"
#include "kernels/cpu/registry.h"
#include "support/sanitizers.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"

namespace tilewise {
namespace {

// Points the three variables at a folder of the test and puts back what was there.
class TunedTilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      const char* value = std::getenv(name);
      before_.emplace_back(value != nullptr, value != nullptr ? value : "");
    }
    unsetenv("TILEWISE_TUNING");
    unsetenv("TILEWISE_ISA");
    setenv("XDG_CONFIG_HOME", directory_.path().c_str(), 1);
    std::filesystem::create_directory(directory_.file("tilewise"));
  }
  void TearDown() override {
    for (size_t i = 0; i < std::size(kNames); ++i) {
      before_[i].first ? setenv(kNames[i], before_[i].second.c_str(), 1) : unsetenv(kNames[i]);
    }
  }

  // Of this machine: the scalar kernel, which every machine has.
  static Tuning tuning() {
    Tuning tuning;
    tuning.machine = this_machine();
    tuning.tiles = {{{"scalar", "fp32", 64, false}, 16, 40, 0},
                    {{"scalar", "fp32", 64, true}, 24, 48, 0}};
    return tuning;
  }
  std::string configured() const { return directory_.file("tilewise/tuning"); }
  static void write(const std::string& file, const Tuning& tuning) {
    io::write_bytes(file, tuning_text(tuning));
  }
  static Plan plan(int64_t head_dim = 64) {
    Problem problem;
    problem.head_dim = head_dim;
    problem.max_query_length = problem.max_kv_length = 100;
    return make_plan(problem, {.isa = "scalar"});
  }

  static constexpr const char* kNames[] = {"TILEWISE_TUNING", "TILEWISE_ISA", "XDG_CONFIG_HOME"};
  io::TemporaryDirectory directory_;
  std::vector<std::pair<bool, std::string>> before_;
};

TEST_F(TunedTilesTest, WithoutAFileTheModelChooses) {
  EXPECT_EQ(find_tuning().file, "");
  const PlanTiles tiles = plan().data().tiles;
  EXPECT_FALSE(tiles.is_forward_tuned || tiles.is_backward_tuned);
  EXPECT_EQ(tiles.tuning, "none");
  const Geometry model = model_geometry(*plan().data().kernel, 64, 64, this_machine());
  EXPECT_EQ(tiles.geometry.key_tile, model.key_tile);
}

TEST_F(TunedTilesTest, TheFileOfTheConfigurationFolderIsUsed) {
  write(configured(), tuning());
  const Plan tuned = plan();
  const PlanTiles& tiles = tuned.data().tiles;
  EXPECT_TRUE(tiles.is_forward_tuned && tiles.is_backward_tuned);
  EXPECT_EQ(tiles.tuning, configured());
  EXPECT_EQ(tiles.geometry.query_tile, 16);
  EXPECT_EQ(tiles.geometry.key_tile, 40);
  EXPECT_EQ(tiles.geometry.backward_query_tile, 24);
  EXPECT_EQ(tiles.geometry.backward_key_tile, 48);
  const std::string text = tuned.explain(tuned.schedule({.query_length = 100, .kv_length = 100}));
  EXPECT_NE(text.find("measured by tilewise tune"), std::string::npos) << text;
  EXPECT_NE(text.find("tuning    " + configured()), std::string::npos) << text;
  EXPECT_FALSE(plan(65).data().tiles.is_forward_tuned) << "another class";
}

TEST_F(TunedTilesTest, TheVariableComesFirstAndNoneTurnsItOff) {
  write(configured(), tuning());
  Tuning other = tuning();
  other.tiles.pop_back();
  other.tiles[0].keys = 80;
  other.machine.name = "another machine";
  write(directory_.file("other"), other);
  setenv("TILEWISE_TUNING", directory_.file("other").c_str(), 1);
  EXPECT_EQ(plan().data().tiles.geometry.key_tile, 80) << "whoever names a file means it";
  EXPECT_FALSE(plan().data().tiles.is_backward_tuned);
  setenv("TILEWISE_TUNING", "none", 1);
  EXPECT_FALSE(plan().data().tiles.is_forward_tuned);
}

TEST_F(TunedTilesTest, ANamedFileMustBeValid) {
  const std::string file = directory_.file("named");
  setenv("TILEWISE_TUNING", file.c_str(), 1);
  const auto error = [] {
    try {
      (void)plan();
      return std::string();
    } catch (const InvalidArgument& invalid) {
      return std::string(invalid.what());
    }
  };
  EXPECT_NE(error().find("file " + file + " is missing"), std::string::npos) << error();
  io::write_bytes(file, "tilewise-tuning 9\n");
  EXPECT_NE(error().find("line 1 of " + file), std::string::npos) << error();
  io::write_bytes(file, std::string(kMaxTuningBytes + 1, 'x'));
  EXPECT_NE(error().find("is longer"), std::string::npos) << error();
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_NE(error().find("is no file"), std::string::npos) << error();
}

TEST_F(TunedTilesTest, SizesThatTheKernelCannotTakeAreRefused) {
  const auto error = [](const TunedTiles& tiles) {
    Tuning one;
    one.tiles = {tiles};
    try {
      validate_tuning(one, "file");
      return std::string();
    } catch (const InvalidArgument& invalid) {
      return std::string(invalid.what());
    }
  };
  const TileLimits& limits = choose_kernels("scalar").kernels[0]->limits;
  const TileClass forward = {"scalar", "fp32", 64, false}, backward = {"scalar", "fp32", 64, true};
  EXPECT_EQ(error({forward, limits.max.query_tile, limits.max.key_tile, 5}), "");
  EXPECT_EQ(error({backward, limits.max.backward_query_tile, limits.max.backward_key_tile, 5}), "");
  EXPECT_NE(error({forward, limits.max.query_tile + limits.unit.query_tile, 8, 5})
                .find("line 5 of file is for "),
            std::string::npos);
  EXPECT_NE(error({forward, limits.unit.query_tile + 1, 8, 5}).find("a multiple of"),
            std::string::npos);
  EXPECT_NE(error({forward, limits.unit.query_tile, 264, 5}).find("up to 256"), std::string::npos);
  EXPECT_NE(error({backward, 264, 48, 5}).find("up to 256"), std::string::npos);
  EXPECT_NE(error({{"mmx", "fp32", 64, true}, 8, 8, 5}).find("fp32 on mmx"), std::string::npos);
  EXPECT_NE(error({{"scalar", "fp8", 64, true}, 8, 8, 5}).find("fp8 on scalar"), std::string::npos);
}

TEST_F(TunedTilesTest, AnInvalidOrForeignFileOfTheFolderIsIgnoredWithTheReason) {
  Tuning foreign = tuning();
  foreign.machine.name = "another machine";
  write(configured(), foreign);
  EXPECT_FALSE(plan().data().tiles.is_forward_tuned);
  EXPECT_NE(plan().data().tiles.tuning.find("is ignored: made on \"another machine\""),
            std::string::npos);
  Tuning bad = tuning();
  bad.tiles[1].keys = 7;
  write(configured(), bad);
  EXPECT_FALSE(plan().data().tiles.is_forward_tuned) << "no line of an invalid file is used";
  EXPECT_NE(plan().data().tiles.tuning.find("is ignored: tuning: line 6"), std::string::npos)
      << plan().data().tiles.tuning;
}

// Nothing but speed depends on tiles, so a tuning file changes no bit.
TEST_F(TunedTilesTest, BitsDoNotDependOnTiles) {
  Problem problem;
  problem.query_heads = 2;
  problem.kv_heads = 1;
  problem.max_query_length = 210;
  problem.max_kv_length = 300;
  problem.head_dim = 24;
  problem.value_dim = 40;
  problem.mask = causal();
  const Step step = {.query_length = 210, .kv_length = 300};
  for (const std::string& isa : test::isas_to_run_on_threads()) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      problem.dtype = dtype;
      testing::SmallAttention attention(problem, step, [](int64_t, int64_t) { return true; });
      const auto bits = [&](const Plan& plan) {
        Workspace workspace(plan);
        plan.forward(plan.schedule(step), attention.forward_tensors(), workspace);
        plan.backward(plan.schedule(step), attention.backward_tensors(), workspace);
        return std::vector{attention.output.bytes, attention.grad_query.bytes,
                           attention.grad_key.bytes, attention.grad_value.bytes};
      };
      const PlanOptions options = {.isa = isa, .threads = 2};
      const auto first = bits(make_plan(problem, options));
      const TileLimits& limits = make_plan(problem, options).data().kernel->limits;
      const Geometry &unit = limits.unit, &max = limits.max;
      for (const Geometry& tiles :
           {unit, max,
            Geometry{unit.query_tile, max.key_tile, 3 * unit.backward_query_tile,
                     3 * unit.backward_key_tile},
            Geometry{3 * unit.query_tile, 5 * unit.key_tile, max.backward_query_tile,
                     unit.backward_key_tile},
            // As tiles that follow blocks: register blocks that are not filled.
            Geometry{unit.query_tile + 5, 64, 64, 64}, Geometry{100, 128, 96, 128}}) {
        EXPECT_TRUE(bits(make_plan_with_tiles(problem, options, tiles)) == first)
            << isa << " " << tiles.query_tile << " " << tiles.key_tile << " "
            << tiles.backward_query_tile << " " << tiles.backward_key_tile;
      }
    }
  }
}

}  // namespace
}  // namespace tilewise
