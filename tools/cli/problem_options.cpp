// SPDX-License-Identifier: Apache-2.0
#include "cli/problem_options.h"

#include <algorithm>
#include <cstdint>

#include "cli/options.h"
#include "problem/validate.h"

namespace tilewise::cli {

void add_problem(CLI::App& app, ProblemOptions& options) {
  Problem& problem = options.problem;
  const auto number = [&app](const char* name, int64_t& value, const char* text) {
    return app.add_option(name, value, text)->type_name("N");
  };
  number("--batch", problem.max_batch, "batch entries (default: 1)");
  number("--heads", problem.query_heads, "query heads (default: 1)");
  number("--kv-heads", problem.kv_heads, "key and value heads (default: as --heads)");
  // Callbacks run in the order of these lines, so --kv-seq has the last word.
  app.add_option_function<int64_t>(
         "--seq",
         [&problem](int64_t length) { problem.max_query_length = problem.max_kv_length = length; },
         "queries")
      ->type_name("N")
      ->required();
  number("--kv-seq", problem.max_kv_length, "keys (default: as --seq)");
  number("--head-dim", problem.head_dim, "width of a query and a key")->required();
  number("--value-dim", problem.value_dim, "width of a value (default: as --head-dim)");
  add_dtype(app, problem.dtype);
  add_rules(app, problem.mask, problem.score, options.tables);
  add_scale(app, problem.scale);
  add_dropout(app, problem.dropout);
  app.add_flag("--sink", problem.has_sink, "one more score for each row, whose value is 0");
  app.add_flag("--same-bits-as-prefill", problem.same_bits_as_prefill,
               "up to 16 queries: no chunks of keys, at most batch * kv heads threads");
  add_isa(app, options.plan.isa);
  add_threads(app, options.plan.threads);
}

void add_lengths(CLI::App& app, ProblemOptions& options) {
  CLI::Option* const lengths =
      app.add_option_function<std::vector<int64_t>>(
             "--lengths",
             [&app, &options](const std::vector<int64_t>& given) {
               Problem& problem = options.problem;
               options.starts = {0};
               problem.max_query_length = 0;
               for (const int64_t length : given) {
                 options.starts.push_back(options.starts.back() + length);
                 problem.max_query_length = std::max(problem.max_query_length, length);
               }
               problem.max_batch = static_cast<int64_t>(given.size());
               problem.max_kv_length = problem.max_query_length;
               problem.max_total_queries = options.starts.back();
               app.get_option("--seq")->required(false);
             },
             "a ragged batch of sequences of these lengths, in place of --batch and --seq")
          ->type_name("N,N,...")
          ->delimiter(',')
          ->check(CLI::Range(int64_t{0}, kMaxExtent).description(""));
  for (const char* other : {"--batch", "--seq", "--kv-seq"}) lengths->excludes(other);
}

Step step_of(const Problem& problem, const ProblemOptions& options) {
  Step step = step_of(problem, options.tables);
  if (options.starts.empty()) return step;
  step.query_length = step.kv_length = options.starts.back();
  step.query_starts = step.key_starts = {options.starts.data(), IntegerType::kInt64,
                                         static_cast<int64_t>(options.starts.size())};
  return step;
}

Step step_of(const Problem& problem, const Tables& tables) {
  Step step;
  step.batch = problem.max_batch;
  step.query_length = problem.max_query_length;
  step.kv_length = problem.max_kv_length;
  tables.give(step);
  return step;
}

}  // namespace tilewise::cli
