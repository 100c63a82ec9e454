// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/bench.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "kernels/cpu/registry.h"
#include "measure/regression.h"
#include "problem/validate.h"
#include "schedule/machine.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

using measure::Speed;
using measure::Verdict;

constexpr int kSchema = 2;  // 1 had neither machine nor spread
constexpr int kRuns = 3;    // of a case, whose median counts
constexpr int kLooks = 3;   // at a case that comes out slower
constexpr const char* kMakeAnew = "make it anew with bench/run_cases.py --output";

// An object of the file that knows where it stands.
class Node {
 public:
  Node(std::string file, Json value, std::string path = "")
      : file_(std::move(file)), value_(std::move(value)), path_(std::move(path)) {}

  Node at(const char* name) const {
    const std::string path = path_.empty() ? name : path_ + "." + name;
    if (!value_.is_object() || !value_.contains(name)) {
      Node(file_, {}, path).reject("missing", "a field of a results file");
    }
    return {file_, value_.at(name), path};
  }
  bool has(const char* name) const { return value_.is_object() && value_.contains(name); }
  std::vector<Node> elements() const {
    if (!value_.is_array() || value_.empty()) reject(text(), "a list that is not empty");
    std::vector<Node> nodes;
    for (const Json& element : value_) {
      nodes.emplace_back(file_, element, path_ + "[" + std::to_string(nodes.size()) + "]");
    }
    return nodes;
  }
  int64_t integer() const {
    if (!value_.is_number_integer() || value_.get<double>() > 1e15) reject(text(), "an integer");
    return value_.get<int64_t>();
  }
  double positive() const {
    const double number = value_.is_number() ? value_.get<double>() : 0;
    if (!(number > 0) || !std::isfinite(number)) reject(text(), "a positive number");
    return number;
  }
  bool boolean() const {
    if (!value_.is_boolean()) reject(text(), "true or false");
    return value_.get<bool>();
  }
  std::string string() const {
    if (!value_.is_string()) reject(text(), "a string");
    return value_.get<std::string>();
  }
  [[noreturn]] void reject(const std::string& got, const std::string& expected,
                           const std::string& hint = kMakeAnew) const {
    throw InvalidArgument(message("--compare " + file_, path_, got, expected, hint));
  }
  // Whatever work refuses is a fault of this node.
  template <class Work>
  auto checked(const Work& work) const {
    try {
      return work();
    } catch (const InvalidArgument& error) {
      throw InvalidArgument("--compare " + file_ + ": " + path_ + ": " + error.what());
    }
  }
  template <class Parse>
  auto parsed(const Parse& parse) const {
    const std::string value = string();
    return checked([&] { return parse(value); });
  }

 private:
  std::string text() const {
    return value_.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60);
  }

  std::string file_;
  Json value_;
  std::string path_;
};

struct RecordedCase {
  BenchOptions options;
  Problem problem;
  Speed speed;
};

struct MeasuredCase {
  Speed speed;
  Verdict verdict = Verdict::kSame;
};

Node load(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw InvalidArgument(message("--compare", "file", file, "a file to read"));
  try {
    return {file, Json::parse(stream)};
  } catch (const std::exception& error) {  // of the parser, or of a stream that cannot be read
    throw InvalidArgument("--compare " + file + ": not JSON: " + error.what() + "; " + kMakeAnew);
  }
}

void require_this_machine(const Node& machine) {
  const Machine here = this_machine();
  const char* hint = "fractions of peak of another machine say nothing about this one";
  const auto require = [&](const char* name, const std::string& got, const std::string& expected) {
    if (got != expected) machine.at(name).reject(got, expected + ", as here", hint);
  };
  require("cpu", machine.at("cpu").string(), here.name);
  require("threads", std::to_string(machine.at("threads").integer()), std::to_string(here.threads));
  require("isa", machine.at("isa").string(), choose_kernels("").name);
}

RecordedCase read_case(const Node& node) {
  RecordedCase result;
  BenchOptions& options = result.options;
  options.compares_errors = false;
  options.implementation = node.at("impl").parsed(implementation_from_name);
  options.pass = node.at("pass").parsed(pass_from_name);
  options.seed = static_cast<uint64_t>(node.at("seed").integer());
  Problem& problem = options.problem.problem;
  problem.max_batch = node.at("batch").integer();
  problem.query_heads = node.at("heads").integer();
  problem.kv_heads = node.at("kv_heads").integer();
  problem.max_query_length = node.at("seq").integer();
  problem.max_kv_length = node.at("kv_seq").integer();
  problem.head_dim = node.at("head_dim").integer();
  problem.value_dim = node.at("value_dim").integer();
  if (!dtype_from_name(node.at("dtype").string(), problem.dtype)) {
    node.at("dtype").reject(node.at("dtype").string(), "fp32, bf16, fp16 or fp64");
  }
  problem.mask = node.at("mask").parsed(mask_from_text);
  // Files from before there were scores do not name it.
  if (node.has("score")) problem.score = node.at("score").parsed(score_from_text);
  problem.scale = node.at("scale").positive();
  problem.same_bits_as_prefill = node.at("same_bits_as_prefill").boolean();
  options.problem.plan.isa = node.at("isa").string();
  options.problem.plan.threads = static_cast<int>(std::min<int64_t>(
      node.at("threads").integer(), 1 << 20));  // what is too many, the plan refuses
  result.problem = node.checked([&] { return normalized(problem, "bench"); });
  node.checked([&] { return make_plan(result.problem, options.problem.plan); });

  const Node low = node.at("fraction_of_peak_low"), high = node.at("fraction_of_peak_high");
  result.speed = {node.at("fraction_of_peak").positive(), low.positive(), high.positive()};
  if (low.positive() > result.speed.median || high.positive() < result.speed.median) {
    node.at("fraction_of_peak")
        .reject(fmt::format("{}", result.speed.median),
                fmt::format("{} to {}", low.positive(), high.positive()));
  }
  return result;
}

std::vector<RecordedCase> read_cases(const std::string& file) {
  const Node root = load(file);
  const Node schema = root.at("schema");
  if (schema.integer() != kSchema) {
    schema.reject(std::to_string(schema.integer()), std::to_string(kSchema));
  }
  require_this_machine(root.at("machine"));
  std::vector<RecordedCase> cases;
  for (const Node& node : root.at("cases").elements()) cases.push_back(read_case(node));
  return cases;
}

std::string case_text(const RecordedCase& recorded) {
  const Problem& p = recorded.problem;
  return fmt::format(
      "{} {} {} B{} H{}{} N{}{} d{}{} {} {}", implementation_name(recorded.options.implementation),
      pass_name(recorded.options.pass), dtype_name(p.dtype), p.max_batch, p.query_heads,
      p.kv_heads != p.query_heads ? fmt::format("/{}", p.kv_heads) : "", p.max_query_length,
      p.max_kv_length != p.max_query_length ? fmt::format("x{}", p.max_kv_length) : "", p.head_dim,
      p.value_dim != p.head_dim ? fmt::format("/{}", p.value_dim) : "", p.mask.text(),
      recorded.options.problem.plan.isa);
}

// The whole list after the whole list, so that a noisy minute does not hit one case only.
std::vector<Speed> measure(const std::vector<const RecordedCase*>& cases, int rounds,
                           Progress& progress) {
  std::vector<std::vector<double>> runs(cases.size());
  for (int run = 0; run < kRuns; ++run) {
    for (size_t i = 0; i < cases.size(); ++i) {
      BenchOptions options = cases[i]->options;
      options.rounds = rounds;
      runs[i].push_back(measure_problem(options, cases[i]->problem, progress).fraction_of_peak());
      progress.advance();
    }
  }
  std::vector<Speed> speeds;
  for (const auto& of_case : runs) speeds.push_back(measure::speed_of(of_case));
  return speeds;
}

std::vector<MeasuredCase> measure_and_judge(const std::vector<RecordedCase>& cases, int rounds) {
  std::vector<MeasuredCase> results(cases.size());
  const auto judge = [&](const std::vector<size_t>& indices) {
    std::vector<const RecordedCase*> of_them;
    for (const size_t i : indices) of_them.push_back(&cases[i]);
    Progress progress("bench", static_cast<int64_t>(kRuns * indices.size()));
    const std::vector<Speed> speeds = measure(of_them, rounds, progress);
    for (size_t i = 0; i < indices.size(); ++i) {
      results[indices[i]] = {speeds[i], measure::compare_speeds(of_them[i]->speed, speeds[i])};
    }
  };
  std::vector<size_t> chosen;
  for (size_t i = 0; i < cases.size(); ++i) chosen.push_back(i);
  // Who comes out slower may have met a noisy minute, and is looked at again.
  for (int look = 0; look < kLooks && !chosen.empty(); ++look) {
    judge(chosen);
    std::erase_if(chosen, [&](size_t i) { return results[i].verdict != Verdict::kSlower; });
  }
  return results;
}

Json speed_json(const Speed& speed) {
  return {{"fraction_of_peak", speed.median},
          {"fraction_of_peak_low", speed.low},
          {"fraction_of_peak_high", speed.high}};
}

void print_verdicts_json(const std::string& file, const std::vector<RecordedCase>& cases,
                         const std::vector<MeasuredCase>& results, int slower) {
  Json rows = Json::array();
  for (size_t i = 0; i < cases.size(); ++i) {
    rows.push_back({{"case", case_text(cases[i])},
                    {"recorded", speed_json(cases[i].speed)},
                    {"measured", speed_json(results[i].speed)},
                    {"noise", measure::noise_of(cases[i].speed, results[i].speed)},
                    {"verdict", measure::verdict_name(results[i].verdict)}});
  }
  print_json("bench", {{"compare", file}, {"cases", rows}, {"slower", slower}});
}

void print_verdicts(const std::string& file, const std::vector<RecordedCase>& cases,
                    const std::vector<MeasuredCase>& results, int slower) {
  fmt::print("{:<9}{:>8}{:>9}{:>7}   fractions of peak\n", "", "recorded", "measured", "noise");
  for (size_t i = 0; i < cases.size(); ++i) {
    fmt::print("{:<9}{:>8.3f}{:>9.3f}{:>7.3f}   {}\n", measure::verdict_name(results[i].verdict),
               cases[i].speed.median, results[i].speed.median,
               measure::noise_of(cases[i].speed, results[i].speed), case_text(cases[i]));
  }
  const auto unclear = std::count_if(results.begin(), results.end(), [](const MeasuredCase& r) {
    return r.verdict == Verdict::kUnclear;
  });
  fmt::print("\n{} of {} cases slower than in {}{}\n", slower, cases.size(), one_line(file),
             unclear == 0 ? "" : fmt::format("; {} too noisy to tell", unclear));
}

}  // namespace

int compare_with_file(const std::string& file, int rounds, bool json) {
  const std::vector<RecordedCase> cases = read_cases(file);
  const std::vector<MeasuredCase> results = measure_and_judge(cases, rounds);
  const auto slower =
      static_cast<int>(std::count_if(results.begin(), results.end(), [](const MeasuredCase& r) {
        return r.verdict == Verdict::kSlower;
      }));
  (json ? print_verdicts_json : print_verdicts)(file, cases, results, slower);
  return slower;
}

}  // namespace tilewise::cli
