// SPDX-License-Identifier: Apache-2.0
#include "cli/bench.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/accuracy.h"
#include "cli/bench_compare.h"
#include "cli/bench_data.h"
#include "cli/contestant.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/problem_options.h"
#include "cli/progress.h"
#include "cli/race.h"
#include "engine/tiling.h"
#include "kernels/cpu/registry.h"
#include "measure/bandwidth.h"
#include "measure/peak.h"
#include "problem/ragged.h"
#include "problem/validate.h"
#include "schedule/machine.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr const char* kHelp =
    R"(Inputs are N(0, 1), sinks are 0. After a warm-up at least --rounds rounds and half a second are timed; the
speed comes from the median. FLOPs: 2 pairs (head dim + value dim) forward, 2.5 times that backward,
pairs = visible pairs of all heads. The peak is that of the arithmetic used, measured
before and after. With up to 16 queries against many keys the speed of reading keys and values is
shown beside what the threads can read. Extra bytes: workspace, logsumexp and matrices, all that is neither input nor
output. Errors are against float64, beside those of naive attention in the same dtype; long
problems are compared in 64 rows, and then the gradient of the output is zero in the other rows.
Ragged batches (--lengths) are timed only; tilewise verify compares them.

--compare runs every case of the file three times. A case is slower if the median of its fraction of
peak lies below the recorded one by more than either side varied by, and at least 2%, and if it does
so again when measured anew, twice. The file must come from this kind of machine: CPU, threads,
instruction set.

Examples:
  tilewise bench --batch 1 --heads 8 --seq 4096 --head-dim 64 --mask causal --pass both
  tilewise bench --compare bench/results/this-machine.json)";

constexpr std::pair<const char*, Pass> kPasses[] = {
    {"forward", Pass::kForward}, {"backward", Pass::kBackward}, {"both", Pass::kBoth}};

double measure_peak(const BenchOptions& options, const Problem& problem,
                    const Contestant& contestant) {
  const bool is_reference = options.implementation == Implementation::kReference;
  return measure::peak_gflops(choose_kernels(contestant.isa()).isa,
                              is_reference ? DType::kFloat64 : problem.dtype, contestant.threads());
}

}  // namespace

const char* pass_name(Pass pass) { return kPasses[static_cast<int>(pass)].first; }

Pass pass_from_name(const std::string& text) {
  for (const auto& [name, pass] : kPasses) {
    if (text == name) return pass;
  }
  throw InvalidArgument(message("--pass", "value", text, "forward, backward or both"));
}

namespace {

double key_value_bytes(const Problem& p) {
  return double(p.max_batch) * double(p.kv_heads) * double(p.max_kv_length) *
         double(p.head_dim + p.value_dim) * double(dtype_bytes(p.dtype));
}

// Few queries, and keys and values that are not in the caches of the cores.
bool waits_for_memory(const Problem& p) {
  return p.max_query_length <= kDecodeQueries && key_value_bytes(p) >= 32e6;
}

// A problem with the shapes of the tensors: those of a ragged batch hold all sequences.
Problem tensors_of(const Problem& problem, const ProblemOptions& options) {
  Problem tensors = problem;
  if (options.starts.empty()) return tensors;
  tensors.max_batch = 1;
  tensors.max_query_length = tensors.max_kv_length = options.starts.back();
  return tensors;
}

}  // namespace

BenchResult measure_problem(const BenchOptions& options, const Problem& problem,
                            Progress& progress) {
  BenchResult result;
  progress.stage("inputs");
  const Step step = step_of(problem, options.problem);
  const BenchData data(tensors_of(problem, options.problem), options.seed,
                       has_backward(options.pass), options.problem.tables.real_tables());
  const auto contestant = make_contestant(options.implementation, problem, step,
                                          has_backward(options.pass), options.problem.plan);
  result.isa = contestant->isa();
  result.threads = contestant->threads();

  progress.stage("peak");
  result.peak_before = measure_peak(options, problem, *contestant);
  progress.stage("timing");
  result.times =
      race({contestant.get()}, data, options.pass, {.min_rounds = options.rounds}).front();
  progress.stage("peak");
  result.peak_after = measure_peak(options, problem, *contestant);
  const double flops = (has_forward(options.pass) ? forward_flops(problem, step) : 0) +
                       (has_backward(options.pass) ? backward_flops(problem, step) : 0);
  result.gflops = flops / result.times.total.median() * 1e-9;
  if (options.pass == Pass::kForward && !is_ragged(step) && waits_for_memory(problem)) {
    progress.stage("bandwidth");
    result.kv_gbytes_per_second = key_value_bytes(problem) * 1e-9 / result.times.total.median();
    result.read_gbytes_per_second =
        measure::measure_bandwidth(result.threads,
                                   measure::bandwidth_bytes(this_machine().caches.l3), 0.3)
            .read_gbytes_per_second;
  }
  result.tensor_bytes = data.tensor_bytes();
  result.extra_bytes =
      contestant->own_bytes() + (contestant->needs_logsumexp() ? data.logsumexp_bytes() : 0);

  if (!options.compares_errors || is_ragged(step)) return result;
  progress.stage("errors against float64");
  const AccuracyCheck check(problem, step, options.seed);
  result.rows_compared = check.rows();
  contestant->forward(data.forward_tensors());
  if (has_forward(options.pass)) result.errors = check.forward(data.forward_tensors());
  if (has_backward(options.pass)) {
    check.keep_sampled_rows(data.backward_tensors().grad_output);
    contestant->backward(data.backward_tensors());
    for (const Accuracy& error : check.backward(data.backward_tensors())) {
      result.errors.push_back(error);
    }
  }
  return result;
}

namespace {

void print_result_json(const BenchOptions& options, const Problem& p, const BenchResult& r) {
  Json errors = Json::array();
  for (const Accuracy& e : r.errors) {
    errors.push_back({{"tensor", e.tensor},
                      {"max_error", e.max_error},
                      {"naive_error", e.naive_error},
                      {"rms_error", e.rms_error},
                      {"naive_rms_error", e.naive_rms_error},
                      {"max_bound", e.max_bound},
                      {"rms_bound", e.rms_bound},
                      {"within_bound", e.within_bound()}});
  }
  Json object = {{"impl", implementation_name(options.implementation)},
                 {"pass", pass_name(options.pass)},
                 {"batch", p.max_batch},
                 {"heads", p.query_heads},
                 {"kv_heads", p.kv_heads},
                 {"seq", p.max_query_length},
                 {"kv_seq", p.max_kv_length},
                 {"head_dim", p.head_dim},
                 {"value_dim", p.value_dim},
                 {"dtype", dtype_name(p.dtype)},
                 {"mask", p.mask.text()},
                 {"score", p.score.text()},
                 {"scale", *p.scale},
                 {"dropout", p.dropout},
                 {"sink", p.has_sink},
                 {"same_bits_as_prefill", p.same_bits_as_prefill},
                 {"pairs", visible_pairs(p, step_of(p, options.problem))},
                 {"starts", options.problem.starts},
                 {"seed", options.seed},
                 {"isa", r.isa},
                 {"threads", r.threads},
                 {"rounds", r.times.total.seconds().size()},
                 {"median_ms", r.times.total.median() * 1e3},
                 {"min_ms", r.times.total.min() * 1e3}};
  if (options.pass == Pass::kBoth) {
    object["forward_median_ms"] = r.times.forward.median() * 1e3;
    object["backward_median_ms"] = r.times.backward.median() * 1e3;
  }
  if (r.read_gbytes_per_second > 0) {
    object["kv_gbytes_per_second"] = r.kv_gbytes_per_second;
    object["read_gbytes_per_second"] = r.read_gbytes_per_second;
    object["fraction_of_read"] = r.fraction_of_read();
  }
  object.update({{"gflops", r.gflops},
                 {"peak_gflops", r.peak()},
                 {"peak_gflops_before", r.peak_before},
                 {"peak_gflops_after", r.peak_after},
                 {"fraction_of_peak", r.fraction_of_peak()},
                 {"tensor_bytes", r.tensor_bytes},
                 {"extra_bytes", r.extra_bytes},
                 {"rows_compared", r.rows_compared},
                 {"errors", errors}});
  if (!r.errors.empty()) {
    object.update({{"max_error", r.worst().max_error},
                   {"naive_error", r.worst().naive_error},
                   {"rms_error", r.worst().rms_error},
                   {"naive_rms_error", r.worst().naive_rms_error},
                   {"worst_tensor", r.worst().tensor}});
  }
  print_json("bench", object);
}

void print_result(const BenchOptions& options, const Problem& p, const BenchResult& r) {
  const auto line = [](const char* name, const std::string& value) {
    fmt::print("{:<12}{}\n", name, value);
  };
  line("problem", fmt::format("{}, batch {}, mask {}, {}", dtype_name(p.dtype), p.max_batch,
                              p.mask.text(), pass_name(options.pass)));
  if (p.dropout > 0 || p.has_sink)
    line("with", fmt::format("{}{}{}", p.dropout > 0 ? fmt::format("dropout {}", p.dropout) : "",
                             p.dropout > 0 && p.has_sink ? ", " : "", p.has_sink ? "sink" : ""));
  if (!options.problem.starts.empty()) {
    line("ragged", fmt::format("{} sequences, {} queries and keys; lengths below are the longest",
                               p.max_batch, options.problem.starts.back()));
  }
  line("queries",
       fmt::format("{} heads, length {}, dim {}", p.query_heads, p.max_query_length, p.head_dim));
  line("keys",
       fmt::format("{} heads, length {}, value dim {}", p.kv_heads, p.max_kv_length, p.value_dim));
  line("ran", fmt::format("{} on {}, {} threads, {} rounds, seed {}",
                          implementation_name(options.implementation), r.isa, r.threads,
                          r.times.total.seconds().size(), options.seed));
  std::string parts;
  if (options.pass == Pass::kBoth) {
    parts = fmt::format(" (forward {}, backward {})", duration_text(r.times.forward.median()),
                        duration_text(r.times.backward.median()));
  }
  line("time", fmt::format("{} median, {} best{}", duration_text(r.times.total.median()),
                           duration_text(r.times.total.min()), parts));
  line("speed", fmt::format("{:.1f} GFLOP/s, {:.3f} of the peak of {:.1f} (before {:.1f}, after "
                            "{:.1f})",
                            r.gflops, r.fraction_of_peak(), r.peak(), r.peak_before, r.peak_after));
  if (r.read_gbytes_per_second > 0) {
    line("reading", fmt::format("K and V at {:.1f} GB/s, {:.3f} of the {:.1f} that {} threads read",
                                r.kv_gbytes_per_second, r.fraction_of_read(),
                                r.read_gbytes_per_second, r.threads));
  }
  line("memory", fmt::format("{} beside {} of tensors", bytes_text(double(r.extra_bytes)),
                             bytes_text(double(r.tensor_bytes))));
  if (r.errors.empty()) return;
  fmt::print("\n{:<12}{:>11}{:>11}{:>11}{:>11}   ({} rows)\n", "error", "max", "naive max", "RMS",
             "naive RMS", r.rows_compared);
  for (const Accuracy& e : r.errors) {
    fmt::print("{:<12}{:>11.2e}{:>11.2e}{:>11.2e}{:>11.2e}   {}\n", e.tensor, e.max_error,
               e.naive_error, e.rms_error, e.naive_rms_error,
               e.within_bound() ? "within the bound" : "BEYOND THE BOUND");
  }
}

void bench(const BenchOptions& options, bool json) {
  BenchResult result;
  const Problem problem = normalized(options.problem.problem, "bench");
  {
    Progress progress("bench");
    result = measure_problem(options, problem, progress);
  }
  json ? print_result_json(options, problem, result) : print_result(options, problem, result);
}

// The problem is that of the file: no other is needed, and none is taken.
void add_compare(CLI::App& command, std::string& file) {
  const auto options_of_a_problem = command.get_options();
  const auto set = [&command, &file, options_of_a_problem](const std::string& text) {
    file = text;
    for (CLI::Option* option : options_of_a_problem) {
      option->required(false);
      if (option->count() > 0) throw CLI::ExcludesError("--compare", option->get_name());
    }
  };
  command
      .add_option_function<std::string>("--compare", set,
                                        "measure the cases of this file of bench/run_cases.py "
                                        "again; exit code 1 if one is slower")
      ->type_name("FILE");
}

}  // namespace

void register_bench(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("bench", "time, memory and error of one problem");
  struct Options {
    BenchOptions bench;
    std::string compare;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  BenchOptions& bench_options = options->bench;
  add_problem(*command, bench_options.problem);
  add_lengths(*command, bench_options.problem);
  command
      ->add_option_function<std::string>(
          "--pass",
          [&bench_options](const std::string& text) { bench_options.pass = pass_from_name(text); },
          "forward, backward or both (default: forward)")
      ->type_name("PASS");
  command
      ->add_option_function<std::string>(
          "--impl",
          [&bench_options](const std::string& text) {
            bench_options.implementation = implementation_from_name(text);
          },
          "tilewise, standard (S and P in memory), megatron (the same with scale, mask and softmax "
          "in one pass) or reference (float64, plain loops) (default: tilewise)")
      ->type_name("NAME");
  command->add_option("--seed", bench_options.seed, "of the inputs (default: 1)")->type_name("S");
  add_compare(*command, options->compare);
  command->add_option("--rounds", bench_options.rounds, "timed at least (default: 5)")
      ->type_name("R")
      ->check(CLI::Range(1, 1'000'000).description(""));
  add_json(*command, options->json);
  command->footer(kHelp);
  command->callback([options, command, &exit_code] {
    if (command->count("--compare") == 0) return bench(options->bench, options->json);
    const int slower = compare_with_file(options->compare, options->bench.rounds, options->json);
    if (slower > 0) exit_code = 1;
  });
}

}  // namespace tilewise::cli
