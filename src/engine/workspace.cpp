// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "tilewise/error.h"
#include "tilewise/plan.h"

namespace tilewise {
namespace {

constexpr std::align_val_t kAlignment{64};

}  // namespace

Workspace::Workspace(const Plan& plan)
    : data_(::operator new(plan.workspace_bytes(), kAlignment, std::nothrow)),
      bytes_(plan.workspace_bytes()),
      owned_(true) {
  if (data_ == nullptr) {
    throw DeviceError("Workspace: " + std::to_string(bytes_) +
                      " bytes could not be allocated; lower the plan's maxima or its threads");
  }
}

Workspace::Workspace(void* memory, size_t bytes) noexcept : data_(memory), bytes_(bytes) {}

Workspace::~Workspace() {
  if (owned_) ::operator delete(data_, kAlignment);
}

Workspace::Workspace(Workspace&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      owned_(std::exchange(other.owned_, false)) {}

Workspace& Workspace::operator=(Workspace&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(owned_, other.owned_);
  return *this;
}

}  // namespace tilewise
