// SPDX-License-Identifier: Apache-2.0
#include "expr/bytecode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "tilewise/error.h"

namespace tilewise::expr {
namespace {

constexpr int kQueryBit = 1, kKeyBit = 2;  // ProgramStage as what a value depends on
static_assert(Graph::kMaxNodes <= std::numeric_limits<int16_t>::max(), "registers are int16_t");
static_assert(static_cast<int>(ProgramStage::kQuery) == kQueryBit &&
              static_cast<int>(ProgramStage::kKey) == kKeyBit &&
              static_cast<int>(ProgramStage::kPair) == (kQueryBit | kKeyBit));

ProgramType type_of(const Node& node) {
  switch (node.type) {
    case Type::kBool:
      return ProgramType::kBool;
    case Type::kInt:
      return ProgramType::kInt;
    case Type::kReal:
      break;
  }
  return ProgramType::kReal;
}

// The instruction of an operator. compared: the type of the operands of a comparison.
ProgramOp op_of(const Node& node, Type compared) {
  const auto by_type = [&](Type type, ProgramOp of_int, ProgramOp of_real) {
    return type == Type::kReal ? of_real : of_int;
  };
  switch (node.op) {
    case Op::kAdd:
      return by_type(node.type, ProgramOp::kAddInt, ProgramOp::kAddReal);
    case Op::kSub:
      return by_type(node.type, ProgramOp::kSubInt, ProgramOp::kSubReal);
    case Op::kMul:
      return by_type(node.type, ProgramOp::kMulInt, ProgramOp::kMulReal);
    case Op::kMin:
      return by_type(node.type, ProgramOp::kMinInt, ProgramOp::kMinReal);
    case Op::kMax:
      return by_type(node.type, ProgramOp::kMaxInt, ProgramOp::kMaxReal);
    case Op::kAbs:
      return by_type(node.type, ProgramOp::kAbsInt, ProgramOp::kAbsReal);
    case Op::kNeg:
      return by_type(node.type, ProgramOp::kNegInt, ProgramOp::kNegReal);
    case Op::kFloorDiv:
      return ProgramOp::kFloorDiv;
    case Op::kMod:
      return ProgramOp::kMod;
    case Op::kDiv:
      return ProgramOp::kDiv;
    case Op::kExp:
      return ProgramOp::kExp;
    case Op::kLog:
      return ProgramOp::kLog;
    case Op::kTanh:
      return ProgramOp::kTanh;
    case Op::kSqrt:
      return ProgramOp::kSqrt;
    case Op::kToReal:
      return ProgramOp::kToReal;
    case Op::kLess:
      return by_type(compared, ProgramOp::kLessInt, ProgramOp::kLessReal);
    case Op::kLessEqual:
      return by_type(compared, ProgramOp::kLessEqualInt, ProgramOp::kLessEqualReal);
    case Op::kEqual:
      return by_type(compared, ProgramOp::kEqualInt, ProgramOp::kEqualReal);
    case Op::kNotEqual:
      return by_type(compared, ProgramOp::kNotEqualInt, ProgramOp::kNotEqualReal);
    case Op::kAnd:
      return ProgramOp::kAnd;
    case Op::kOr:
      return ProgramOp::kOr;
    case Op::kNot:
      return ProgramOp::kNot;
    case Op::kWhere:
      return node.type == Type::kBool
                 ? ProgramOp::kWhereBool
                 : by_type(node.type, ProgramOp::kWhereInt, ProgramOp::kWhereReal);
    case Op::kLookup:
      return by_type(node.type, ProgramOp::kLookupInt, ProgramOp::kLookupReal);
    case Op::kConst:
    case Op::kVariable:
    case Op::kScalar:
      break;
  }
  throw InternalError("bytecode: a leaf is not an operator; please report this");
}

// One pass over the nodes, stage by stage. A register is free again after its last reader, unless a
// later stage or the caller reads it.
class Compiler {
 public:
  Compiler(const Graph& graph, const std::vector<int32_t>& roots, const Values& values,
           const BytecodeOptions& options)
      : graph_(graph), roots_(roots), values_(values), options_(options) {
    program_.is_narrow = options.is_narrow;
  }

  ProgramStorage run() {
    analyse();
    for (int stage = 0; stage < kProgramStages; ++stage) {
      for (size_t i = 0; i < stage_.size(); ++i) {
        if (is_used_[i] && stage_[i] == stage) emit(static_cast<int32_t>(i));
      }
      program_.stage_end[stage] = static_cast<int32_t>(program_.code.size());
    }
    for (const int32_t root : roots_) program_.outputs.push_back(register_of(root));
    program_.sizes.total = static_cast<int32_t>(program_.registers.size());
    return std::move(program_);
  }

 private:
  const Node& node(int32_t index) const { return graph_.node(index); }
  int16_t register_of(int32_t index) const { return register_[static_cast<size_t>(index)]; }
  int stage_of(int32_t index) const { return stage_[static_cast<size_t>(index)]; }

  // How many nodes of the expressions read each node; an output is read by the caller too.
  void count_readers() {
    readers_.assign(graph_.nodes().size(), 0);
    for (const int32_t root : roots_) ++readers_[static_cast<size_t>(root)];
    for (size_t i = readers_.size(); i-- > 0;) {
      const Node& n = graph_.nodes()[i];
      for (int o = 0; readers_[i] > 0 && o < n.count; ++o)
        ++readers_[static_cast<size_t>(n.operand[o])];
    }
  }

  // Which nodes are needed, their forms and stages, their last readers, and what later stages read.
  void analyse() {
    const size_t count = graph_.nodes().size();
    count_readers();
    forms_.resize(count);
    is_used_.assign(count, false);
    for (const int32_t root : roots_) is_used_[static_cast<size_t>(root)] = true;
    for (size_t i = count; i-- > 0;) {
      if (!is_used_[i]) continue;
      const Form& form = forms_[i] = form_of(graph_.nodes()[i]);
      for (int o = 0; o < form.count; ++o) is_used_[static_cast<size_t>(form.operand[o])] = true;
    }
    stage_.assign(count, 0);
    last_reader_.assign(count, -1);
    is_spread_.assign(count, false);
    register_.assign(count, -1);
    for (size_t i = 0; i < count; ++i) {
      if (!is_used_[i]) continue;
      const Node& n = graph_.nodes()[i];
      if (n.op == Op::kVariable) stage_[i] = stage_of_variable(static_cast<Variable>(n.immediate));
      const Form& form = forms_[i];
      for (int o = 0; o < form.count; ++o) stage_[i] |= stage_of(form.operand[o]);
      for (int o = 0; o < form.count; ++o) {
        const auto operand = static_cast<size_t>(form.operand[o]);
        last_reader_[operand] = static_cast<int32_t>(i);
        if (stage_[operand] != stage_[i]) is_spread_[operand] = true;
      }
    }
    for (const int32_t root : roots_) is_spread_[static_cast<size_t>(root)] = true;
  }

  [[nodiscard]] int stage_of_variable(Variable variable) const {
    switch (variable) {
      case Variable::kQuery:
        return kQueryBit;
      case Variable::kKey:
        return kKeyBit;
      case Variable::kHead:
        return options_.heads_are_queries ? kQueryBit : 0;
      case Variable::kScore:
        return kQueryBit | kKeyBit;
      default:
        return 0;
    }
  }

  // An int that is known now.
  [[nodiscard]] std::optional<int64_t> integer(const Node& n) const {
    if (n.type != Type::kInt) return std::nullopt;
    if (n.op == Op::kConst) return n.immediate;
    if (n.op == Op::kScalar) return symbol(n).integer;
    if (n.is(Variable::kQueryLength)) return values_.query_length;
    if (n.is(Variable::kKvLength)) return values_.kv_length;
    if (n.is(Variable::kQueryOffset)) return values_.query_offset;
    if (n.is(Variable::kKeyOffset)) return values_.key_offset;
    return std::nullopt;
  }
  [[nodiscard]] std::optional<double> real(const Node& n) const {
    if (n.type != Type::kReal) return std::nullopt;
    if (n.op == Op::kConst) return n.real();
    if (n.op == Op::kScalar) return symbol(n).real;
    return std::nullopt;
  }
  [[nodiscard]] const Values::Entry& symbol(const Node& n) const {
    return values_.symbols[static_cast<size_t>(n.immediate)];
  }

  // A positive divisor that is known now.
  [[nodiscard]] std::optional<int64_t> divisor(const Node& n) const {
    if (n.op != Op::kFloorDiv && n.op != Op::kMod) return std::nullopt;
    const std::optional<int64_t> value = integer(node(n.operand[1]));
    return value && *value > 0 ? value : std::nullopt;
  }
  // A real constant that the other operand is multiplied with, and which operand that is. Division
  // by a constant becomes a product: one more rounding, many times as fast.
  [[nodiscard]] std::optional<double> factor(const Node& n, int& other) const {
    if (n.type != Type::kReal || (n.op != Op::kMul && n.op != Op::kDiv)) return std::nullopt;
    other = 0;
    std::optional<double> value = real(node(n.operand[1]));
    if (value && n.op == Op::kDiv) {
      value = 1 / *value;
      // Normal as float too, otherwise precision is lost.
      const double size = std::fabs(*value);
      if (!(size >= 0x1p-126 && size < 0x1p127)) return std::nullopt;
    }
    if (!value && n.op == Op::kMul) {
      other = 1;
      value = real(node(n.operand[0]));
    }
    return value;
  }

  // What the instruction of a node is, and which nodes it reads. A form takes nodes in only where
  // rounding stays the same or where it does so for that node in every program: forward, decode and
  // backward must agree on the bits of a score.
  struct Form {
    ProgramOp op{};
    int count = 0;
    int32_t operand[kMaxOperands] = {-1, -1, -1, -1};
    int64_t immediate = 0;
    int64_t factor = 0;
  };
  static int64_t bits(double x) { return std::bit_cast<int64_t>(x); }

  [[nodiscard]] Form form_of(const Node& n) const {
    int other = 0;
    if (n.count == 0) return leaf(n);
    if (const auto value = divisor(n)) return division(n, *value);
    if (n.op == Op::kTanh) return tanh(n, 1);
    if (const auto constant = factor(n, other)) {
      const Node& of = node(n.operand[other]);
      if (of.op == Op::kTanh && is_read_once(n.operand[other])) return tanh(of, *constant);
      return {ProgramOp::kMulConstant, 1, {n.operand[other], -1, -1, -1}, bits(*constant), 0};
    }
    if (const auto sum = sum_with_product(n)) return *sum;
    Form form{op_of(n, node(n.operand[0]).type), n.count, {}, n.immediate, 0};
    std::copy(n.operand, n.operand + kMaxOperands, form.operand);
    return form;
  }
  [[nodiscard]] static Form division(const Node& n, int64_t divisor) {
    const bool divides = n.op == Op::kFloorDiv;
    Form form{divides ? ProgramOp::kFloorDivConstant : ProgramOp::kModConstant,
              1,
              {n.operand[0], -1, -1, -1},
              divisor,
              0};
    if (!std::has_single_bit(static_cast<uint64_t>(divisor))) return form;
    form.op = divides ? ProgramOp::kShiftRight : ProgramOp::kBitAnd;
    form.immediate = divides ? std::countr_zero(static_cast<uint64_t>(divisor)) : divisor - 1;
    return form;
  }
  [[nodiscard]] Form leaf(const Node& n) const {
    if (const std::optional<int64_t> known = integer(n))
      return {ProgramOp::kIntConstant, 0, {}, *known, 0};
    if (const std::optional<double> known = real(n))
      return {ProgramOp::kRealConstant, 0, {}, bits(*known), 0};
    if (n.op == Op::kConst) return {ProgramOp::kBoolConstant, 0, {}, n.immediate, 0};
    return {n.is(Variable::kBatch)   ? ProgramOp::kBatch
            : n.is(Variable::kHead)  ? ProgramOp::kHead
            : n.is(Variable::kQuery) ? ProgramOp::kQuery
                                     : ProgramOp::kKey,
            0,
            {},
            0,
            0};
  }
  // outer * tanh, with the factor of its argument.
  [[nodiscard]] Form tanh(const Node& n, double outer) const {
    int other = 0;
    const int32_t argument = n.operand[0];
    const auto inner = factor(node(argument), other);
    if (!inner || !is_read_once(argument))
      return {ProgramOp::kTanh, 1, {argument, -1, -1, -1}, bits(1), bits(outer)};
    return {ProgramOp::kTanh,
            1,
            {node(argument).operand[other], -1, -1, -1},
            bits(*inner),
            bits(outer)};
  }
  // A sum or difference that takes in the product on its right, or that of a sum on its left.
  [[nodiscard]] std::optional<Form> sum_with_product(const Node& n) const {
    if (n.type != Type::kReal || (n.op != Op::kAdd && n.op != Op::kSub)) return std::nullopt;
    int at = 1;
    if (node(n.operand[1]).op != Op::kMul && n.op == Op::kAdd) at = 0;
    const Node& product = node(n.operand[at]);
    if (product.op != Op::kMul) return std::nullopt;
    const bool adds = n.op == Op::kAdd;
    const int32_t rest = n.operand[1 - at];
    for (int side = 0; side < 2; ++side) {
      const Node& x = node(product.operand[side]);
      if (x.op != Op::kToReal || node(x.operand[0]).op != Op::kSub) continue;
      const Node& distance = node(x.operand[0]);
      return Form{adds ? ProgramOp::kAddDistance : ProgramOp::kSubDistance,
                  4,
                  {distance.operand[0], distance.operand[1], product.operand[1 - side], rest},
                  0,
                  0};
    }
    return Form{adds ? ProgramOp::kAddProduct : ProgramOp::kSubProduct,
                3,
                {product.operand[0], product.operand[1], rest, -1},
                0,
                0};
  }
  [[nodiscard]] bool is_read_once(int32_t index) const {
    return readers_[static_cast<size_t>(index)] == 1;
  }

  void emit(int32_t index) {
    const Node& n = node(index);
    if (n.is(Variable::kScore)) {
      program_.score = register_[static_cast<size_t>(index)] = new_register(index, false);
      return;
    }
    const Form& form = forms_[static_cast<size_t>(index)];
    ProgramInstruction instruction{
        form.op, static_cast<uint8_t>(form.count), 0, {}, form.immediate, form.factor};
    if (n.op == Op::kLookup) instruction.immediate = table_of(n);
    for (int o = 0; o < form.count; ++o) instruction.operand[o] = register_of(form.operand[o]);
    for (int o = 0; o < form.count; ++o) release(form.operand[o], index);
    instruction.out = register_[static_cast<size_t>(index)] = new_register(index, true);
    program_.code.push_back(instruction);
  }

  // The table of a lookup, added where it is new.
  int32_t table_of(const Node& n) {
    const auto symbol_index = static_cast<int32_t>(n.immediate);
    for (size_t i = 0; i < program_.tables.size(); ++i) {
      if (program_.tables[i].symbol == symbol_index) return static_cast<int32_t>(i);
    }
    ProgramTable table{};
    table.symbol = symbol_index;
    table.rank = n.count;
    if (n.type == Type::kInt) {
      const IntTable& data = *symbol(n).table;
      table.data = data.data.data();
      int64_t stride = 1;
      for (int axis = n.count - 1; axis >= 0; --axis) {
        table.shape[axis] = data.shape[static_cast<size_t>(axis)];
        table.strides[axis] = stride;
        stride *= table.shape[axis];
      }
      program_.int_tables.push_back(symbol(n).table);
    }
    program_.tables.push_back(table);
    return static_cast<int32_t>(program_.tables.size()) - 1;
  }

  // A register for the node; those of s take no memory.
  int16_t new_register(int32_t index, bool has_memory) {
    const auto at = static_cast<size_t>(index);
    const ProgramType type = type_of(node(index));
    const auto stage = static_cast<ProgramStage>(stage_[at]);
    auto& free = free_[static_cast<int>(type)][stage_[at]];
    if (has_memory && !is_spread_[at] && !free.empty()) {
      const int16_t reused = free.back();
      free.pop_back();
      return reused;
    }
    int32_t& count = program_.sizes.registers[static_cast<int>(type)][stage_[at]];
    program_.registers.push_back(
        {type, stage, is_spread_[at],
         has_memory ? static_cast<int16_t>(count) : static_cast<int16_t>(-1)});
    if (has_memory) ++count;
    return static_cast<int16_t>(program_.registers.size() - 1);
  }

  // Free if `reader` is the last to read it.
  void release(int32_t index, int32_t reader) {
    const auto at = static_cast<size_t>(index);
    if (!is_used_[at] || is_spread_[at] || last_reader_[at] != reader || register_[at] < 0) return;
    if (node(index).is(Variable::kScore)) return;
    last_reader_[at] = -1;  // an operand may be read twice
    free_[static_cast<int>(type_of(node(index)))][stage_[at]].push_back(register_[at]);
  }

  const Graph& graph_;
  const std::vector<int32_t>& roots_;
  const Values& values_;
  const BytecodeOptions& options_;
  ProgramStorage program_;
  std::vector<int32_t> readers_;
  std::vector<Form> forms_;
  std::vector<bool> is_used_;
  std::vector<int> stage_;            // bits
  std::vector<int32_t> last_reader_;  // in its own stage, unless is_spread_
  std::vector<bool> is_spread_;
  std::vector<int16_t> register_;
  std::vector<int16_t> free_[kProgramTypes][kProgramStages];
};

}  // namespace

ProgramStorage compile(const Graph& graph, const std::vector<int32_t>& roots, const Values& values,
                       const BytecodeOptions& options) {
  return Compiler(graph, roots, values, options).run();
}

TileProgram ProgramStorage::view(const Tensor* real_tables) const noexcept {
  TileProgram program;
  program.code = code.data();
  std::copy(stage_end, stage_end + kProgramStages, program.stage_end);
  program.registers = registers.data();
  program.register_count = static_cast<int32_t>(registers.size());
  program.outputs = outputs.data();
  program.output_count = static_cast<int32_t>(outputs.size());
  program.score = score;
  program.tables = tables.data();
  program.real_tables = real_tables;
  program.is_narrow = is_narrow;
  return program;
}

bool is_within(const ProgramSizes& sizes, const ProgramSizes& limit) noexcept {
  for (int type = 0; type < kProgramTypes; ++type) {
    for (int stage = 0; stage < kProgramStages; ++stage) {
      if (sizes.registers[type][stage] > limit.registers[type][stage]) return false;
    }
  }
  return sizes.total <= limit.total;
}

ProgramSizes larger(const ProgramSizes& a, const ProgramSizes& b) noexcept {
  ProgramSizes result;
  for (int type = 0; type < kProgramTypes; ++type) {
    for (int stage = 0; stage < kProgramStages; ++stage) {
      result.registers[type][stage] = std::max(a.registers[type][stage], b.registers[type][stage]);
    }
  }
  result.total = std::max(a.total, b.total);
  return result;
}

}  // namespace tilewise::expr
