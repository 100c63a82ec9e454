// SPDX-License-Identifier: Apache-2.0
#pragma once

// Everything else is compiled with hidden visibility.
#define TILEWISE_API __attribute__((visibility("default")))
