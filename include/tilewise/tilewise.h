// SPDX-License-Identifier: Apache-2.0
// Everything public, for C++. The C interface is tilewise_c.h.
#pragma once

#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "tilewise/executor.h"
#include "tilewise/expr.h"
#include "tilewise/merge.h"
#include "tilewise/plan.h"
#include "tilewise/problem.h"
#include "tilewise/rules.h"
#include "tilewise/tensor.h"
#include "tilewise/version.h"
