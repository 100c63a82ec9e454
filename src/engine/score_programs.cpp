// SPDX-License-Identifier: Apache-2.0
#include "engine/score_programs.h"

#include <algorithm>
#include <memory>

#include "base/checked.h"
#include "engine/head_tiles.h"
#include "expr/grad.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

using expr::Expression;

// The outputs of the backward's programs, in one graph.
struct BackwardRoots {
  std::shared_ptr<const expr::Graph> graph;
  std::vector<int32_t> scores;              // the score and d score / d s
  std::vector<int32_t> scores_and_lookups;  // and, for each lookup, as TableLookup has it
  std::vector<int32_t> lookups;             // nodes
};
BackwardRoots backward_roots(const Expression& score) {
  const expr::Derivatives derivatives = expr::derivatives(score);
  BackwardRoots roots;
  roots.graph = derivatives.by_score.graph;
  roots.scores = {score.root, derivatives.by_score.root};
  roots.scores_and_lookups = roots.scores;
  for (const expr::LookupDerivative& one : derivatives.by_lookup) {
    const expr::Node& node = roots.graph->node(one.lookup);
    roots.lookups.push_back(one.lookup);
    roots.scores_and_lookups.push_back(one.derivative.root);
    roots.scores_and_lookups.insert(roots.scores_and_lookups.end(), node.operand,
                                    node.operand + node.count);
  }
  return roots;
}

std::vector<ScoreTable> tables_of(const Expression& score) {
  std::vector<ScoreTable> tables;
  const std::vector<expr::Symbol>& symbols = score.graph->symbols();
  for (size_t s = 0; s < symbols.size(); ++s) {
    if (symbols[s].rank > 0 && symbols[s].type == expr::Type::kReal)
      tables.push_back({symbols[s].name, static_cast<int32_t>(s), symbols[s].rank});
  }
  return tables;
}

// Every index of every lookup in a real table: within the least extents that hold it.
void set_extents(std::vector<ScoreTable>& tables, const Expression& score,
                 const expr::Values& values, const expr::Domain& domain) {
  const expr::Bounds bounds(score, values, domain);
  const std::vector<bool> reached = expr::reachable(*score.graph, score.root);
  for (ScoreTable& table : tables) {
    for (size_t i = 0; i < reached.size(); ++i) {
      const expr::Node& node = score.graph->nodes()[i];
      if (!reached[i] || node.op != expr::Op::kLookup || node.immediate != table.symbol) continue;
      for (int axis = 0; axis < node.count; ++axis) {
        const expr::Interval index = bounds.integer(node.operand[axis]);
        int64_t& extent = table.extent[4 - table.rank + axis];
        extent = std::max(extent, index.hi < expr::kMaxInt ? index.hi + 1 : index.hi);
      }
    }
  }
}

// Numbers the elements of the tables; how many there are.
int64_t number_elements(std::vector<ScoreTable>& tables) {
  int64_t total = 0;
  for (ScoreTable& table : tables) {
    table.first = total;
    int64_t elements = 1;
    for (const int64_t extent : table.extent) {
      if (!checked_multiply(elements, extent, elements)) return expr::kMaxInt;
    }
    if (elements > expr::kMaxInt - total) return expr::kMaxInt;
    total += elements;
  }
  return total;
}

std::vector<TableLookup> lookups_of(const BackwardRoots& roots,
                                    const std::vector<ScoreTable>& tables) {
  std::vector<TableLookup> lookups;
  auto output = static_cast<int32_t>(roots.scores.size());
  for (const int32_t index : roots.lookups) {
    const expr::Node& node = roots.graph->node(index);
    const auto table = std::find_if(
        tables.begin(), tables.end(),
        [&node](const ScoreTable& candidate) { return candidate.symbol == node.immediate; });
    TableLookup lookup{output, table->rank, table->first, {}};
    std::copy(table->extent + 4 - table->rank, table->extent + 4, lookup.extent);
    lookups.push_back(lookup);
    output += 1 + lookup.rank;
  }
  return lookups;
}

// Scores that do not depend on positions are as high in one tile as in another.
bool has_bounds(const Expression& score) {
  return expr::depends_on(score, expr::Variable::kQuery) ||
         expr::depends_on(score, expr::Variable::kKey);
}

}  // namespace

ScorePrograms make_score_programs(const Score& score, const expr::Values& values, const Step& step,
                                  int64_t query_heads, const char* operation) {
  ScorePrograms result;
  if (score.expression() == nullptr) return result;
  const Expression& expression = *score.expression();
  result.values = values;
  result.tables = tables_of(expression);
  bool is_narrow = true;
  if (step.batch > 0 && step.query_length > 0 && step.kv_length > 0) {
    const expr::Domain domain{{step.batch_offset, step.batch_offset + step.batch - 1},
                              {step.head_offset, step.head_offset + query_heads - 1},
                              grid_of(step).box()};
    expr::check_bound(expression, result.values, domain, operation);
    set_extents(result.tables, expression, result.values, domain);
    is_narrow = expr::fits_32_bits(expression, result.values, domain);
  }
  const expr::BytecodeOptions options{.is_narrow = is_narrow};
  result.forward = expr::compile(expression, result.values, options);
  result.decode =
      expr::compile(expression, result.values, {.is_narrow = is_narrow, .heads_are_queries = true});
  const BackwardRoots roots = backward_roots(expression);
  result.backward = expr::compile(*roots.graph, roots.scores, result.values, options);
  if (has_bounds(expression)) {
    result.bounds = ScoreBounds(expression, result.values);
    result.derivative_bounds = ScoreBounds({roots.graph, roots.scores[1]}, result.values);
  }
  if (result.tables.empty()) return result;
  result.table_elements = number_elements(result.tables);
  result.lookups = lookups_of(roots, result.tables);
  result.backward_with_tables =
      expr::compile(*roots.graph, roots.scores_and_lookups, result.values, options);
  return result;
}

void widen_tables(ScorePrograms& whole, const Score& score, const ScorePrograms& sequence) {
  bool is_wider = false;
  for (size_t i = 0; i < whole.tables.size(); ++i) {
    for (int axis = 0; axis < 4; ++axis) {
      int64_t& extent = whole.tables[i].extent[axis];
      is_wider = is_wider || sequence.tables[i].extent[axis] > extent;
      extent = std::max(extent, sequence.tables[i].extent[axis]);
    }
  }
  if (!is_wider) return;
  whole.table_elements = number_elements(whole.tables);
  whole.lookups = lookups_of(backward_roots(*score.expression()), whole.tables);
}

int64_t bound_steps(const Score& score) {
  if (score.expression() == nullptr || !has_bounds(*score.expression())) return 0;
  const Expression& expression = *score.expression();
  const expr::Values values = values_without_shortcuts(expression);
  return std::max(ScoreBounds(expression, values).steps(),
                  ScoreBounds(expr::derivatives(expression).by_score, values).steps());
}

ProgramSizes largest_program(const Score& score) {
  if (score.expression() == nullptr) return {};
  const Expression& expression = *score.expression();
  const expr::Values values = values_without_shortcuts(expression);
  const BackwardRoots roots = backward_roots(expression);
  return expr::larger(
      expr::larger(expr::compile(expression, values, {}).sizes,
                   expr::compile(expression, values, {.heads_are_queries = true}).sizes),
      expr::larger(expr::compile(*roots.graph, roots.scores, values, {}).sizes,
                   expr::compile(*roots.graph, roots.scores_and_lookups, values, {}).sizes));
}

TableSizes largest_tables(const Problem& problem) {
  const Expression* score = problem.score.expression();
  if (score == nullptr || tables_of(*score).empty()) return {};
  return {problem.max_table_elements,
          static_cast<int64_t>(expr::derivatives(*score).by_lookup.size())};
}

TableSizes table_sizes(const Problem& problem, const ScorePrograms& score) {
  if (score.table_elements > problem.max_table_elements) return {};
  return {score.table_elements, static_cast<int64_t>(score.lookups.size())};
}

void validate_table_elements(const Problem& problem, const ScorePrograms& score,
                             const BackwardTensors& tensors, const char* operation) {
  if (tensors.grad_tables.empty() || score.table_elements <= problem.max_table_elements) return;
  reject(operation, "grad_tables",
         score.table_elements == expr::kMaxInt
             ? "of tables with more than 2^62 elements"
             : "of tables with " + text_of(score.table_elements) + " elements",
         "at most " + text_of(problem.max_table_elements),
         "raise Problem::max_table_elements, which counts up to the largest index of the step");
}

}  // namespace tilewise
