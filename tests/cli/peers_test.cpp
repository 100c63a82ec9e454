// SPDX-License-Identifier: Apache-2.0
// bench/peers.py with the peers that happen to be installed, mostly none, and with invented ones;
// and bench/compare_builds.py, which shares its cases.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/program.h"
#include "cli/python.h"

namespace tilewise::cli {
namespace {

using Json = nlohmann::json;

const std::string kBench = TILEWISE_SOURCE_DIR "/bench";

class Peers : public ::testing::Test {
 protected:
  void SetUp() override {
    python_ = python_with("numpy, matplotlib");
    if (python_.empty()) GTEST_SKIP() << "no .venv, and no python3 with numpy and matplotlib";
  }
  // The exit code of a script with arguments; its output is in out() and err().
  int run(const std::string& script_and_arguments) const {
    const int status = std::system(
        (python_ + " " + script_and_arguments + " >" + file("out") + " 2>" + file("err")).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  int run_peers(const std::string& arguments) const {
    return run(kBench + "/peers.py --build " TILEWISE_BUILD_DIR " " + arguments);
  }
  std::string file(const std::string& name) const { return directory_.file(name); }
  std::string out() const { return io::read_bytes(file("out")); }
  std::string err() const { return io::read_bytes(file("err")); }

 private:
  io::TemporaryDirectory directory_;
  std::string python_;
};

TEST_F(Peers, EveryContestantHasATimeOrAReason) {
  ASSERT_EQ(run_peers("--quick --only 'fp32 B1 H1 N128' --threads 1 --output " + file("p.json") +
                      " --figure " + file("p.svg")),
            0)
      << err();
  const Json json = Json::parse(io::read_bytes(file("p.json")));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["machine"]["threads"], 1);
  ASSERT_EQ(json["cases"].size(), 1U);
  const Json& only = json["cases"][0];
  EXPECT_EQ(only["name"], "forward fp32 B1 H1 N128 d64 full");
  EXPECT_EQ(only["flops"], 4 * 128 * 128 * 64);
  EXPECT_GT(only["fraction_of_peak"], 0);
  ASSERT_EQ(only["contestants"].size(), 5U);
  const Json& ours = only["contestants"][0];
  EXPECT_EQ(ours["name"], "tilewise");
  EXPECT_EQ(ours["ratio"], 1);
  EXPECT_NEAR(ours["gflops"].get<double>() * ours["median_ms"].get<double>() * 1e6,
              only["flops"].get<double>(), 1);
  for (const Json& row : only["contestants"]) {
    if (row.contains("reason")) {
      EXPECT_NE(row["reason"], "") << row;
    } else {
      EXPECT_GE(row["rounds"], 3) << row;
      EXPECT_FALSE(row.contains("wrong")) << row;
    }
  }
  EXPECT_EQ(io::read_bytes(file("p.svg")).rfind("<svg", 0), 0U);
}

// Attention in numpy, once right, once scaled wrongly, and once failing.
constexpr const char* kInvented = R"(
import sys
import numpy as np
import contestants, peers
def invented(scale):
    def make(case, data, setup):
        q, k, v = (contestants.to_fp32(data[name], case.dtype).astype(np.float64) for name in "qkv")
        hidden = np.triu(np.ones((case.queries, case.keys), bool), 1) & case.causal
        def attend():
            s = np.where(hidden, -np.inf, q @ k.swapaxes(2, 3) * scale / case.dim**0.5)
            p = np.exp(s - s.max(-1, keepdims=True))
            return {"o": (p / p.sum(-1, keepdims=True)) @ v}
        return attend, attend
    return make
def broken(case, data, setup):
    raise ValueError("no luck\ntoday")
contestants.CONTESTANTS.update(zip(("torch", "torch unfused", "onnxruntime", "openvino"),
                                   (invented(1), invented(2), broken, broken)))
peers.main()
)";

TEST_F(Peers, AnotherResultIsCaughtAndAFailureIsAReason) {
  std::ofstream(file("invented.py")) << kInvented;
  ::setenv("PYTHONPATH", kBench.c_str(), 1);
  EXPECT_EQ(
      run(file("invented.py") +
          " --build " TILEWISE_BUILD_DIR " --quick --only 'H1 N128' --output " + file("p.json")),
      1);
  EXPECT_NE(err().find("results differ"), std::string::npos) << err();
  const Json cases = Json::parse(io::read_bytes(file("p.json")))["cases"];
  ASSERT_EQ(cases.size(), 2U) << "fp32 and bf16";
  for (const Json& one : cases) {
    const Json& rows = one["contestants"];
    SCOPED_TRACE(rows.dump());
    EXPECT_NE(err().find(one["name"].get<std::string>() + ": torch unfused"), std::string::npos);
    EXPECT_FALSE(rows[1].contains("wrong"));
    EXPECT_GT(rows[1]["difference"], 0);
    EXPECT_EQ(rows[2]["wrong"], true);
    EXPECT_EQ(rows[3]["reason"], "ValueError: no luck");
    EXPECT_EQ(one["best_peer"], "torch") << "a wrong result cannot win";
  }
}

TEST_F(Peers, BadOptionsAreRefused) {
  for (const auto& [arguments, text] : {std::pair{"--only '('", "--only is '('"},
                                        std::pair{"--only nothing", "expected to match a case"},
                                        std::pair{"--threads 0", "--threads is 0"},
                                        std::pair{"--build /nowhere", "build it with"}}) {
    EXPECT_NE(run_peers(arguments), 0) << arguments;
    EXPECT_NE(err().find(text), std::string::npos) << err();
    EXPECT_EQ(out(), "");
  }
}

const std::string kLibrary = TILEWISE_BUILD_DIR "/src/libtilewise_shared.so";

TEST_F(Peers, ABuildBesideItselfHasTheSameBits) {
  ASSERT_EQ(run(kBench + "/compare_builds.py " + kLibrary + " " + kLibrary +
                " --only 'backward fp32 B8 H12 N512 d64 causal' --seconds 0.01"),
            0)
      << err();
  EXPECT_NE(out().find("old takes "), std::string::npos) << out();
  EXPECT_NE(out().find("bits the same\n"), std::string::npos) << out();
}

// Two builds of which the second is slow and gives a zero of the other sign.
constexpr const char* kTwoBuilds = R"(
import itertools, time
import numpy as np
import compare_builds
build = itertools.count()
def invented(case, data, setup):
    n = next(build)
    def run():
        end = time.thread_time() + 0.004 * (1 + n)
        while time.thread_time() < end:
            pass
    return run, lambda: {"o": np.array([1, -0.0 if n else 0.0])}
compare_builds.tilewise = invented
compare_builds.main()
)";

TEST_F(Peers, ASlowerBuildWithOtherBitsIsSeen) {
  std::ofstream(file("two.py")) << kTwoBuilds;
  ::setenv("PYTHONPATH", kBench.c_str(), 1);
  ASSERT_EQ(run(file("two.py") + " " + kLibrary + " " + kLibrary +
                " --only 'forward fp32 B1 H1 N64' --seconds 0.2"),
            0)
      << err();
  EXPECT_NE(out().find("old takes 0."), std::string::npos) << out();
  EXPECT_NE(out().find("bits differ\n"), std::string::npos) << out();
}

TEST_F(Peers, BadOptionsOfTwoBuildsAreRefused) {
  for (const auto& [arguments, text] :
       {std::pair{"--only '('", "--only is '('"},
        std::pair{"--only nothing", "expected to match a case"},
        std::pair{"--seconds 0", "--seconds is 0"}, std::pair{"--only N64", "build it with"}}) {
    EXPECT_NE(run(kBench + "/compare_builds.py /nowhere /nowhere " + arguments), 0) << arguments;
    EXPECT_NE(err().find(text), std::string::npos) << err();
    EXPECT_EQ(out(), "");
  }
}

}  // namespace
}  // namespace tilewise::cli
