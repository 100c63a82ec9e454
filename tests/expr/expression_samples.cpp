// SPDX-License-Identifier: Apache-2.0
// Random masks and scores as text, their data, and their values at some points: one JSON object a
// line, for python_meaning.py.
#include <cinttypes>
#include <cstdio>
#include <string>

#include "expr/eval_scalar.h"
#include "expr/print.h"
#include "tilewise/error.h"
#include "verify/random_expression.h"

namespace tilewise::verify {
namespace {

std::string text_of(int64_t value) { return std::to_string(value); }
std::string text_of(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "\"%.17g\"", value);  // a string: JSON has no inf and nan
  return text;
}
template <class List>
std::string json(const List& list) {
  std::string text = "[";
  for (const auto& item : list) text.append(text.size() > 1 ? "," : "").append(text_of(item));
  return text.append("]");
}

std::string json_table(const std::string& shape, const std::string& data) {
  std::string text = "{\"shape\":";
  return text.append(shape).append(",\"data\":").append(data).append("}");
}

std::string json(const expr::Symbol& symbol, const expr::Values::Entry& entry) {
  if (symbol.rank == 0)
    return symbol.type == expr::Type::kInt ? text_of(entry.integer) : text_of(entry.real);
  if (entry.table != nullptr) {
    const std::vector<int64_t> data(entry.table->data.begin(), entry.table->data.end());
    return json_table(json(entry.table->shape), json(data));
  }
  const Tensor& table = entry.real_table;
  const auto* data = static_cast<const double*>(table.data);
  const std::vector<int64_t> shape(table.shape + 4 - symbol.rank, table.shape + 4);
  const std::vector<double> values(data, data + table.shape[2] * table.shape[3]);
  return json_table(json(shape), json(values));
}

void add_name(std::string& line, const std::string& name, const std::string& value) {
  line.append("\"").append(name).append("\":").append(value).append(",");
}

void print_sample(const RandomExpression& sample, bool is_score, Random random) {
  const expr::Expression& e = sample.expression;
  const expr::Values& v = sample.values;
  std::string line = "{\"text\":\"";
  line.append(expr::print(e)).append("\",\"names\":{");
  const int64_t lengths[] = {v.query_length, v.kv_length, v.query_offset, v.key_offset};
  for (int i = 0; i < 4; ++i) {
    const int variable = static_cast<int>(expr::Variable::kQueryLength) + i;
    add_name(line, name_of(static_cast<expr::Variable>(variable)), text_of(lengths[i]));
  }
  for (size_t i = 0; i < v.symbols.size(); ++i) {
    const expr::Symbol& symbol = e.graph->symbols()[i];
    add_name(line, symbol.name, json(symbol, v.symbols[i]));
  }
  line.back() = '}';
  line.append(",\"points\":[");
  expr::ScalarEvaluator evaluator(e, v);
  for (int n = 0; n < 5; ++n) {
    const expr::Point p = random_point(v, random);
    const double value = is_score ? evaluator.real(p) : evaluator.boolean(p);
    line.append(n > 0 ? ",[" : "[");
    line.append(json(std::vector<int64_t>{p.batch, p.head, p.query, p.key})).append(",");
    line.append(text_of(p.score)).append(",").append(text_of(value)).append("]");
  }
  std::printf("%s]}\n", line.c_str());
}

}  // namespace
}  // namespace tilewise::verify

int main() {
  using namespace tilewise;
  for (uint64_t i = 0; i < 3000; ++i) {
    const bool is_score = i % 2 == 1;
    const verify::RandomExpression sample = verify::random_expression(
        77, i,
        {.is_score = is_score, .is_bindable = true, .operators = 4 + static_cast<int>(i % 21)});
    try {
      verify::print_sample(sample, is_score, Random(78, i));
    } catch (const InvalidArgument&) {  // its text would be too long
    }
  }
}
