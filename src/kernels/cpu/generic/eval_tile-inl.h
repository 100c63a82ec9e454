// SPDX-License-Identifier: Apache-2.0
// A program on a tile: what depends on one axis alone is computed once for the tile, the rest unit
// by unit. One of the axes are rows (kUnit of them in a unit), the other lanes.
#pragma once

#include <cstdint>

#include "kernels/cpu/generic/instructions-inl.h"
#include "kernels/cpu/generic/pack-inl.h"
#include "kernels/cpu/generic/products-inl.h"

namespace {

using tilewise::ProgramRegister;
using tilewise::ProgramSizes;
using tilewise::ProgramStage;
using tilewise::ProgramType;
using tilewise::TileProgram;

// A worker's registers, enough for programs of the given sizes.
//
// In memory: a uniform is one vector; a register of lanes kVectors; one of rows holds its kMaxRows
// numbers side by side and then, for the unit at hand, kUnit vectors with all lanes alike; one of
// pairs is (kUnit, kVectors).
template <class X>
class TileEvaluator {
 public:
  using Real = typename X::Real;

  TileEvaluator() = default;
  TileEvaluator(const ProgramSizes& sizes, bool rows_are_keys, Scratch& scratch)
      : row_stage_(rows_are_keys ? ProgramStage::kKey : ProgramStage::kQuery) {
    for (int type = 0; type < tilewise::kProgramTypes; ++type)
      for (int stage = 0; stage < tilewise::kProgramStages; ++stage)
        memory_[type][stage] = scratch.take<char>(
            sizes.registers[type][stage] *
            register_bytes(static_cast<ProgramType>(type), static_cast<ProgramStage>(stage)));
    along_ = scratch.take<Operand>(sizes.total);
    pairs_ = scratch.take<Operand>(sizes.total);
    spread_ = scratch.take<int16_t>(sizes.total);
  }

  // Runs all stages but the last for `rows` rows and `vectors` lane vectors at the place. Program
  // and place must stay until the last unit.
  void begin(const TileProgram& program, const TilePlace& place, int rows, int vectors) {
    program_ = &program;
    place_ = &place;
    bind();
    const int row_vectors = (rows + kUnit - 1) / kUnit * kUnit;
    for (int stage = 0; stage < static_cast<int>(ProgramStage::kPair); ++stage) {
      const int count = stage == static_cast<int>(ProgramStage::kUniform) ? 1
                        : stage == static_cast<int>(row_stage_)
                            ? (row_vectors + X::kLanes - 1) / X::kLanes
                            : vectors;
      run<1>(stage, along_, count);
    }
  }

  // The last stage for kUnit rows from `row` on and lane vectors [j0, j1). s: their scores (kUnit,
  // kWidth), where the program reads them.
  void unit(int row, int j0, int j1, Real* s = nullptr) {
    for (int i = 0; i < spread_count_; ++i) spread(spread_[i], row);
    if (program_->score >= 0)
      pairs_[program_->score] = {reinterpret_cast<char*>(s),
                                 kWidth<X> * static_cast<int>(sizeof(Real)),
                                 X::kLanes * static_cast<int>(sizeof(Real))};
    const int stage = static_cast<int>(ProgramStage::kPair), vectors = j1 - j0;
    for (int r = 0; j0 > 0 && r < program_->register_count; ++r)
      pairs_[r].data += j0 * pairs_[r].vector;
    if (X::kVectors > 2 && vectors == 3) run<X::kVectors>(stage, pairs_, kUnit);
    if (X::kVectors > 1 && vectors == 2) run<X::kVectors == 1 ? 1 : 2>(stage, pairs_, kUnit);
    if (vectors == 1) run<1>(stage, pairs_, kUnit);
    for (int r = 0; j0 > 0 && r < program_->register_count; ++r)
      pairs_[r].data -= j0 * pairs_[r].vector;
  }

  bool is_narrow() const { return program_->is_narrow; }
  // Output i after unit(): vector (row of the unit, lane vector).
  const Operand& output(int i) const { return pairs_[program_->outputs[i]]; }

 private:
  static constexpr int kRowVectors = kMaxRows / X::kLanes;

  // Of a vector; ints take those of the wider kind in memory.
  static int vector_bytes(ProgramType type, bool is_narrow) {
    switch (type) {
      case ProgramType::kBool:
        return sizeof(uint16_t);
      case ProgramType::kInt:
        return X::kLanes * (is_narrow ? 4 : 8);
      case ProgramType::kReal:
        break;
    }
    return X::kLanes * static_cast<int>(sizeof(Real));
  }
  int64_t register_bytes(ProgramType type, ProgramStage stage) const {
    const int64_t vectors = stage == ProgramStage::kUniform ? 1
                            : stage == ProgramStage::kPair  ? kUnit * X::kVectors
                            : stage == row_stage_           ? kRowVectors + kUnit
                                                            : X::kVectors;
    return vectors * vector_bytes(type, false);
  }

  // The operands of every register, along an axis and for pairs.
  void bind() {
    spread_count_ = 0;
    for (int r = 0; r < program_->register_count; ++r) {
      const ProgramRegister& x = program_->registers[r];
      const int bytes = vector_bytes(x.type, program_->is_narrow);
      if (x.index < 0) continue;  // s
      char* const data = memory_[static_cast<int>(x.type)][static_cast<int>(x.stage)] +
                         x.index * register_bytes(x.type, x.stage);
      if (x.stage == ProgramStage::kUniform) {
        along_[r] = pairs_[r] = {data, 0, 0};
      } else if (x.stage == ProgramStage::kPair) {
        pairs_[r] = {data, X::kVectors * bytes, bytes};
      } else if (x.stage == row_stage_) {
        along_[r] = {data, bytes, 0};
        pairs_[r] = {data + kRowVectors * bytes, bytes, 0};
        if (x.is_spread) spread_[spread_count_++] = static_cast<int16_t>(r);
      } else {
        along_[r] = {data, bytes, 0};
        pairs_[r] = {data, 0, bytes};
      }
    }
  }

  // A register of rows: the numbers of kUnit rows, each in all lanes of a vector.
  void spread(int r, int row) {
    const char* const from = along_[r].data;
    const Operand& to = pairs_[r];
    switch (program_->registers[r].type) {
      case ProgramType::kBool: {
        uint16_t bits;
        std::memcpy(&bits, from + row / X::kLanes * sizeof(bits), sizeof(bits));
        for (int i = 0; i < kUnit; ++i) {
          const uint16_t all = bits >> ((row + i) % X::kLanes) & 1 ? 0xffff : 0;
          std::memcpy(to.at(i, 0), &all, sizeof(all));
        }
        return;
      }
      case ProgramType::kInt:
        if (program_->is_narrow)
          spread_ints<NarrowInts<X>>(from, to, row);
        else
          spread_ints<WideInts<X>>(from, to, row);
        return;
      case ProgramType::kReal:
        for (int i = 0; i < kUnit; ++i)
          X::store(reinterpret_cast<Real*>(to.at(i, 0)),
                   X::broadcast(reinterpret_cast<const Real*>(from)[row + i]));
        return;
    }
  }
  template <class I>
  void spread_ints(const char* from, const Operand& to, int row) {
    for (int i = 0; i < kUnit; ++i) {
      typename I::Int value;
      std::memcpy(&value, from + (row + i) * sizeof(value), sizeof(value));
      const typename I::Ints all = typename I::Ints{} + value;
      std::memcpy(to.at(i, 0), &all, sizeof(all));
    }
  }

  template <int NV>
  void run(int stage, const Operand* registers, int rows) {
    const int32_t begin = stage == 0 ? 0 : program_->stage_end[stage - 1],
                  end = program_->stage_end[stage];
    if (begin == end) return;
    if (program_->is_narrow)
      run_instructions<X, NarrowInts<X>, NV>(*program_, begin, end, registers, *place_, rows);
    else
      run_instructions<X, WideInts<X>, NV>(*program_, begin, end, registers, *place_, rows);
  }

  ProgramStage row_stage_;
  char* memory_[tilewise::kProgramTypes][tilewise::kProgramStages];
  Operand* along_;  // as the instructions of the first stages see registers
  Operand* pairs_;  // as those of the last stage do
  int16_t* spread_;
  int spread_count_ = 0;
  const TileProgram* program_ = nullptr;
  const TilePlace* place_ = nullptr;
};

}  // namespace
