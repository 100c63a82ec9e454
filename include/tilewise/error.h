// SPDX-License-Identifier: Apache-2.0
// The three kinds of error. The library never prints, exits or aborts: it throws one of these, and
// the C ABI turns it into a code and a thread-local text.
#pragma once

#include <stdexcept>
#include <string>

#include "tilewise/export.h"

namespace tilewise {

enum class ErrorCode { kInvalidArgument = 1, kDevice = 2, kInternal = 3 };

class TILEWISE_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ~Error() override;
  [[nodiscard]] ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

// The caller's mistake. The message has the form
//   "<operation>: <argument> <got>, expected <expected>; <hint>"
// e.g. "make_plan: kv_heads is 5, expected a divisor of query_heads (8); repeat keys or change
// kv_heads".
class TILEWISE_API InvalidArgument : public Error {
 public:
  explicit InvalidArgument(const std::string& message)
      : Error(ErrorCode::kInvalidArgument, message) {}
  ~InvalidArgument() override;
};

// The machine refused: memory, threads, later CUDA and the network.
class TILEWISE_API DeviceError : public Error {
 public:
  explicit DeviceError(const std::string& message) : Error(ErrorCode::kDevice, message) {}
  ~DeviceError() override;
};

// Our mistake; the text asks for a report.
class TILEWISE_API InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(ErrorCode::kInternal, message) {}
  ~InternalError() override;
};

}  // namespace tilewise
