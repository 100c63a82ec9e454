// SPDX-License-Identifier: Apache-2.0
#include "tilewise/error.h"

#include <gtest/gtest.h>

namespace tilewise {
namespace {

template <class Kind>
void expect_code_and_text(ErrorCode code) {
  try {
    throw Kind("what happened");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_STREQ(error.what(), "what happened");
  }
}

TEST(Error, EveryKindIsAnErrorWithItsCode) {
  expect_code_and_text<InvalidArgument>(ErrorCode::kInvalidArgument);
  expect_code_and_text<DeviceError>(ErrorCode::kDevice);
  expect_code_and_text<InternalError>(ErrorCode::kInternal);
}

TEST(Error, IsAStandardRuntimeError) {
  EXPECT_THROW(throw InvalidArgument("x"), std::runtime_error);
}

TEST(Error, CodesAreTheNumbersOfTheCInterface) {
  EXPECT_EQ(static_cast<int>(ErrorCode::kInvalidArgument), 1);
  EXPECT_EQ(static_cast<int>(ErrorCode::kDevice), 2);
  EXPECT_EQ(static_cast<int>(ErrorCode::kInternal), 3);
}

}  // namespace
}  // namespace tilewise
