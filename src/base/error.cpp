// SPDX-License-Identifier: Apache-2.0
#include "tilewise/error.h"

namespace tilewise {

// Out of line, so that the type information lives in one place and catch works across libraries.
Error::~Error() = default;
InvalidArgument::~InvalidArgument() = default;
DeviceError::~DeviceError() = default;
InternalError::~InternalError() = default;

}  // namespace tilewise
