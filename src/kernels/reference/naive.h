// SPDX-License-Identifier: Apache-2.0
// Naive attention in the precision of the inputs: the three passes of the paper's Algorithm 0 and
// the standard backward (appendix B), as anybody would write them. Its error against reference.h is
// the measure of every tolerance (verify/tolerance.h).
//
// Dot products and sums are float32 (float64 for float64 inputs) in index order; S and P, and in
// the backward dP and dS, are stored in the dtype, P and dP once more behind dropout, as outputs
// are; logsumexp is that of the stored exp(S - m). The backward is given it as plan.h passes it, in
// float32: P = exp(S - lse). A value beyond the range of fp16 stays as it is, so that the measure
// is finite wherever the exact result is.
#pragma once

#include <vector>

#include "kernels/reference/reference.h"

namespace tilewise::reference {

// Results are rounded to the dtype (logsumexp and grad_bias to float32, or float64).
// `start` in (0, 1) gives other samples of the naive error, from variants that are as naive: the
// first index of every dot product and row sum is moved by that part of its length, cyclically; S
// is stored in units of 1 / (1 + start), so that it is rounded elsewhere; exponentials are powers
// of two, m is larger by start, and Q is scaled before the product. The backward has rowsum(dO *
// O), with O stored in such units too, in place of rowsum(P * dP), as in the paper's Algorithm 4,
// with fused multiply-adds and a unit in the last place more, so that dP - delta does not cancel
// exactly only because both were rounded alike; for the same reason a dS below the range of the
// dtype stays as it is.
//
// The variants that tolerances are computed from. Not dyadic: products with such numbers would not
// be rounded at all.
constexpr double kNaiveStarts[] = {0, 0.29, 0.57, 0.83};

[[nodiscard]] Outputs naive_forward_rows(const Inputs& inputs, const std::vector<Row>& rows,
                                         double start = 0);
[[nodiscard]] Gradients naive_backward_rows(const Inputs& inputs, const std::vector<Row>& rows,
                                            double start = 0);

}  // namespace tilewise::reference
