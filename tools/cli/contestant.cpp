// SPDX-License-Identifier: Apache-2.0
#include "cli/contestant.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/dtype.h"
#include "base/message.h"
#include "cli/problem_options.h"
#include "engine/parts.h"
#include "kernels/reference/reference.h"
#include "kernels/standard/standard.h"
#include "problem/ragged.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

constexpr std::pair<const char*, Implementation> kNames[] = {
    {"tilewise", Implementation::kTilewise},
    {"standard", Implementation::kStandard},
    {"megatron", Implementation::kMegatron},
    {"reference", Implementation::kReference},
};

int64_t list_bytes(const TileRowList& list) {
  return static_cast<int64_t>(list.runs.size() * sizeof(list.runs[0]) +
                              list.begin.size() * sizeof(list.begin[0]));
}

class TilewiseContestant final : public Contestant {
 public:
  TilewiseContestant(const Problem& problem, const Step& step, const PlanOptions& options)
      : plan_(make_plan(problem, options)), schedule_(plan_.schedule(step)), workspace_(plan_) {}

  void forward(const ForwardTensors& tensors) override {
    plan_.forward(schedule_, tensors, workspace_);
  }
  void backward(const BackwardTensors& tensors) override {
    plan_.backward(schedule_, tensors, workspace_);
  }
  int64_t own_bytes() const noexcept override {
    auto bytes = static_cast<int64_t>(workspace_.bytes());
    const Schedule::Data* last = nullptr;
    for (const SchedulePart& part : schedule_.data().parts) {
      const Schedule::Data& s = PartView(schedule_.data(), part).uniform();
      if (&s == last) continue;  // sequences of equal lengths share one
      last = &s;
      for (const std::vector<HeadTiles>* classes : {&s.forward_tiles, &s.backward_tiles}) {
        for (const HeadTiles& tiles : *classes) {
          bytes += list_bytes(tiles.by_query) + list_bytes(tiles.by_key) +
                   static_cast<int64_t>(tiles.order.size() * sizeof(tiles.order[0]));
        }
      }
    }
    return bytes;
  }
  bool needs_logsumexp() const noexcept override { return true; }
  std::string isa() const override { return plan_.isa(); }
  int threads() const noexcept override { return plan_.threads(); }

 private:
  Plan plan_;
  Schedule schedule_;
  Workspace workspace_;
};

class StandardContestant final : public Contestant {
 public:
  StandardContestant(const Problem& problem, const Step& step, StandardForm form,
                     bool with_backward, const PlanOptions& options)
      : plan_(make_standard(problem, step,
                            {.form = form,
                             .with_backward = with_backward,
                             .isa = options.isa,
                             .threads = options.threads,
                             .executor = options.executor})),
        workspace_(::operator new(static_cast<size_t>(plan_.workspace_bytes()), kAlignment)) {}
  ~StandardContestant() override { ::operator delete(workspace_, kAlignment); }
  StandardContestant(const StandardContestant&) = delete;
  StandardContestant& operator=(const StandardContestant&) = delete;

  // P is kept, so nobody asks for the logsumexp.
  void forward(const ForwardTensors& tensors) override {
    ForwardTensors without = tensors;
    without.logsumexp = {};
    plan_.forward(without, workspace_);
  }
  void backward(const BackwardTensors& tensors) override { plan_.backward(tensors, workspace_); }
  int64_t own_bytes() const noexcept override { return plan_.workspace_bytes(); }
  bool needs_logsumexp() const noexcept override { return false; }
  std::string isa() const override { return plan_.isa(); }
  int threads() const noexcept override { return plan_.threads(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  StandardPlan plan_;
  void* workspace_;
};

void store_dense(const std::vector<double>& values, const Tensor& tensor) {
  for (size_t i = 0; i < values.size(); ++i) {
    store_element(tensor.data, tensor.dtype, static_cast<int64_t>(i), values[i]);
  }
}

class ReferenceContestant final : public Contestant {
 public:
  ReferenceContestant(const Problem& problem, const Step& step) : problem_(problem), step_(step) {}

  void forward(const ForwardTensors& tensors) override {
    const reference::Outputs out = reference::forward(inputs(tensors));
    store_dense(out.output, tensors.output);
    if (tensors.logsumexp.data != nullptr) store_dense(out.logsumexp, tensors.logsumexp);
    count(out.output.size() + out.logsumexp.size());
  }
  void backward(const BackwardTensors& tensors) override {
    reference::Inputs in = inputs(tensors);
    in.grad_output = tensors.grad_output;
    const reference::Gradients grad = reference::backward(in);
    store_dense(grad.query, tensors.grad_query);
    store_dense(grad.key, tensors.grad_key);
    store_dense(grad.value, tensors.grad_value);
    if (tensors.grad_sink.data != nullptr) store_dense(grad.sink, tensors.grad_sink);
    count(grad.query.size() + grad.key.size() + grad.value.size());
  }
  int64_t own_bytes() const noexcept override { return own_bytes_; }
  bool needs_logsumexp() const noexcept override { return false; }
  std::string isa() const override { return "scalar"; }
  int threads() const noexcept override { return 1; }

 private:
  template <class Tensors>
  reference::Inputs inputs(const Tensors& tensors) const {
    reference::Inputs in;
    in.query = tensors.query;
    in.key = tensors.key;
    in.value = tensors.value;
    in.sink = tensors.sink;
    in.mask = problem_.mask;
    in.score = problem_.score;
    in.step = step_;
    in.tables = tensors.tables;
    in.scale = *problem_.scale;
    in.dropout = problem_.dropout;
    in.dropout_seed = tensors.dropout_seed.value_or(0);
    return in;
  }
  // Results before rounding; and, not counted, one head and one row.
  void count(size_t results) {
    own_bytes_ = std::max(own_bytes_, static_cast<int64_t>(results * sizeof(double)));
  }

  Problem problem_;
  Step step_;
  int64_t own_bytes_ = 0;
};

}  // namespace

const char* implementation_name(Implementation implementation) noexcept {
  for (const auto& [name, value] : kNames) {
    if (value == implementation) return name;
  }
  return "";
}

Implementation implementation_from_name(const std::string& name) {
  for (const auto& [known, value] : kNames) {
    if (name == known) return value;
  }
  throw InvalidArgument(
      message("--impl", "value", name, "tilewise, standard, megatron or reference"));
}

int64_t matrix_bytes(const Problem& problem) {
  return make_standard(problem, step_of(problem)).workspace_bytes();
}

std::unique_ptr<Contestant> make_contestant(Implementation implementation, const Problem& problem,
                                            const Step& step, bool with_backward,
                                            const PlanOptions& options) {
  if (is_ragged(step) && implementation != Implementation::kTilewise) {
    throw InvalidArgument(
        message("--impl", "value", implementation_name(implementation), "tilewise with --lengths"));
  }
  const auto standard = [&](StandardForm form) {
    if (problem.score.expression() != nullptr) {
      throw InvalidArgument(message("--impl", "value", implementation_name(implementation),
                                    "tilewise or reference with --score"));
    }
    return std::make_unique<StandardContestant>(problem, step, form, with_backward, options);
  };
  switch (implementation) {
    case Implementation::kTilewise:
      return std::make_unique<TilewiseContestant>(problem, step, options);
    case Implementation::kReference:
      return std::make_unique<ReferenceContestant>(problem, step);
    case Implementation::kStandard:
      return standard(StandardForm::kStandard);
    case Implementation::kMegatron:
      return standard(StandardForm::kMegatron);
  }
  throw InternalError("no such implementation");
}

std::unique_ptr<Contestant> make_contestant(Implementation implementation, const Problem& problem,
                                            bool with_backward, const PlanOptions& options) {
  return make_contestant(implementation, problem, step_of(problem), with_backward, options);
}

}  // namespace tilewise::cli
