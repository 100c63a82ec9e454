// SPDX-License-Identifier: Apache-2.0
// The only place where the version is written; CMake reads it from here.
#pragma once

#define TILEWISE_VERSION_MAJOR 0
#define TILEWISE_VERSION_MINOR 1
#define TILEWISE_VERSION_PATCH 0
#define TILEWISE_VERSION "0.1.0"
