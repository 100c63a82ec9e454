// SPDX-License-Identifier: Apache-2.0
#include "problem/bind.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "base/checked.h"
#include "problem/reject.h"

namespace tilewise {
namespace {

constexpr int64_t kMaxTableElements = int64_t{1} << 40;

template <class Named>
const Named* find(const std::vector<Named>& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&name](const Named& entry) { return entry.name == name; });
  return found == list.end() ? nullptr : &*found;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t extent : shape) text += (text.size() == 1 ? "" : ", ") + text_of(extent);
  return text + "]";
}

std::string table_text(const std::string& name) { return "table \"" + name + "\""; }

int64_t element(const IntegerTable& table, int64_t index) {
  switch (table.type) {
    case IntegerType::kInt32:
      return static_cast<const int32_t*>(table.data)[index];
    case IntegerType::kInt64:
      return static_cast<const int64_t*>(table.data)[index];
    case IntegerType::kBool:
      break;
  }
  return static_cast<const uint8_t*>(table.data)[index] != 0 ? 1 : 0;
}

// The number of elements.
int64_t validate_table(const IntegerTable& table, const expr::Symbol& symbol,
                       const char* operation) {
  const auto code = static_cast<int32_t>(table.type);
  if (code < 0 || code > 2) {
    reject(operation, table_text(table.name) + ".type", text_of(int64_t{code}),
           "0 (int32), 1 (int64) or 2 (bool)");
  }
  if (static_cast<int>(table.shape.size()) != symbol.rank) {
    reject(operation, table_text(table.name) + ".shape", shape_text(table.shape),
           text_of(int64_t{symbol.rank}) + (symbol.rank == 1 ? " axis" : " axes"),
           "the expression looks it up by as many indices");
  }
  int64_t elements = 1;
  for (const int64_t extent : table.shape) {
    if (extent < 1 || !checked_multiply(elements, extent, elements) ||
        elements > kMaxTableElements) {
      reject(operation, table_text(table.name) + ".shape", shape_text(table.shape),
             "1 to 2^40 elements");
    }
  }
  if (table.data == nullptr) {
    reject(operation, table_text(table.name) + ".data", "null", "the address of its first value");
  }
  return elements;
}

std::shared_ptr<const expr::IntTable> copy_of(const IntegerTable& table, const expr::Symbol& symbol,
                                              const char* operation) {
  const int64_t elements = validate_table(table, symbol, operation);
  auto copy = std::make_shared<expr::IntTable>();
  copy->shape = table.shape;
  copy->data.resize(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) {
    const int64_t value = element(table, i);
    if (value < std::numeric_limits<int32_t>::min() ||
        value > std::numeric_limits<int32_t>::max()) {
      reject(operation, table_text(table.name) + "[" + text_of(i) + "]", text_of(value),
             "a value that fits in 32 bits");
    }
    copy->data[static_cast<size_t>(i)] = static_cast<int32_t>(value);
  }
  return copy;
}

[[noreturn]] void missing(const char* operation, const expr::Symbol& symbol, const Step& step) {
  const bool is_table = symbol.rank > 0;
  std::string given;
  if (is_table) {
    for (const IntegerTable& table : step.tables) given += (given.empty() ? "" : ", ") + table.name;
  } else {
    for (const NamedScalar& scalar : step.scalars)
      given += (given.empty() ? "" : ", ") + scalar.name;
  }
  reject(operation, is_table ? table_text(symbol.name) : "scalar \"" + symbol.name + "\"",
         "missing",
         is_table ? "an integer table with " + text_of(int64_t{symbol.rank}) +
                        (symbol.rank == 1 ? " axis" : " axes")
                  : std::string("a number"),
         given.empty() ? "the expression uses it; none is given"
                       : "the expression uses it; given: " + given);
}

bool is_bound(const expr::Symbol& symbol) {
  return symbol.rank == 0 || symbol.type == expr::Type::kInt;
}

bool is_used(const expr::Expression* expression, const std::string& name, bool is_table) {
  if (expression == nullptr) return false;
  for (const expr::Symbol& symbol : expression->graph->symbols()) {
    if (symbol.name == name && (symbol.rank > 0) == is_table && is_bound(symbol)) return true;
  }
  return false;
}

bool has_values(const expr::IntTable& copy, const IntegerTable& table) {
  if (copy.shape != table.shape || table.data == nullptr) return false;
  if (table.type == IntegerType::kInt32)  // the usual one, at the speed of memory
    return std::memcmp(copy.data.data(), table.data, copy.data.size() * sizeof(int32_t)) == 0;
  for (size_t i = 0; i < copy.data.size(); ++i) {
    if (copy.data[i] != element(table, static_cast<int64_t>(i))) return false;
  }
  return true;
}

}  // namespace

expr::Values bind(const expr::Expression& expression, const Step& step, const char* operation) {
  expr::Values values;
  values.query_length = step.query_length;
  values.kv_length = step.kv_length;
  values.query_offset = step.query_offset;
  values.key_offset = step.key_offset;
  for (const expr::Symbol& symbol : expression.graph->symbols()) {
    expr::Values::Entry entry;
    if (symbol.rank == 0) {
      const NamedScalar* scalar = find(step.scalars, symbol.name);
      if (scalar == nullptr) missing(operation, symbol, step);
      if (scalar->is_real && symbol.type == expr::Type::kInt) {
        reject(operation, "scalar \"" + symbol.name + "\"", text_of(scalar->real), "an integer",
               "the expression uses it as one");
      }
      entry.integer = scalar->integer;
      entry.real = scalar->real;
    } else if (symbol.type == expr::Type::kInt) {
      const IntegerTable* table = find(step.tables, symbol.name);
      if (table == nullptr) missing(operation, symbol, step);
      entry.table = copy_of(*table, symbol, operation);
    }
    values.symbols.push_back(entry);
  }
  return values;
}

void require_used(const expr::Expression* mask, const expr::Expression* score, const Step& step,
                  const char* operation) {
  const auto check = [&](const std::string& kind, const auto& list, bool is_table) {
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string& name = list[i].name;
      if (find(list, name) != &list[i]) {
        reject(operation, kind + " \"" + name + "\"", "given twice", "one of that name");
      }
      if (is_used(mask, name, is_table) || is_used(score, name, is_table)) continue;
      reject(operation, kind + " \"" + name + "\"", "given",
             "names that the mask or the score uses",
             is_table ? "real tables are given at run time, beside the tensors" : "");
    }
  };
  check("table", step.tables, true);
  check("scalar", step.scalars, false);
}

bool has_values(const expr::Expression& expression, const expr::Values& values, const Step& step) {
  const std::vector<expr::Symbol>& symbols = expression.graph->symbols();
  for (size_t i = 0; i < symbols.size(); ++i) {
    const expr::Values::Entry& entry = values.symbols[i];
    if (symbols[i].rank == 0) {
      const NamedScalar* scalar = find(step.scalars, symbols[i].name);
      const bool is_same =
          scalar != nullptr && (symbols[i].type == expr::Type::kReal
                                    ? scalar->real == entry.real
                                    : !scalar->is_real && scalar->integer == entry.integer);
      if (!is_same) return false;
    } else if (symbols[i].type == expr::Type::kInt) {
      const IntegerTable* table = find(step.tables, symbols[i].name);
      if (table == nullptr || !has_values(*entry.table, *table)) return false;
    }
  }
  return true;
}

}  // namespace tilewise
