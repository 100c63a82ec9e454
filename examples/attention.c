/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface: plan, schedule, workspace, forward, backward, and an error as a C program sees
 * it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tilewise/tilewise_c.h>

enum { kHeads = 2, kLength = 100, kDim = 16, kElements = kHeads * kLength * kDim };

static float q[kElements], k[kElements], v[kElements], o[kElements], d_o[kElements];
static float d_q[kElements], d_k[kElements], d_v[kElements], lse[kHeads * kLength];

static tilewise_tensor view(float* data, int64_t dim) {
  tilewise_tensor t;
  memset(&t, 0, sizeof t);
  t.struct_size = sizeof t;
  t.data = data;
  t.dtype = TILEWISE_FLOAT32;
  t.shape[0] = 1;
  t.shape[1] = kHeads;
  t.shape[2] = kLength;
  t.shape[3] = dim;
  t.strides[0] = kHeads * kLength * dim;
  t.strides[1] = kLength * dim;
  t.strides[2] = dim;
  t.strides[3] = 1;
  return t;
}

static void check(tilewise_status status) {
  if (status == TILEWISE_OK) return;
  fprintf(stderr, "%s\n", tilewise_last_error());
  exit(1);
}

int main(void) {
  tilewise_problem problem = {sizeof problem};
  tilewise_step step = {sizeof step};
  tilewise_forward_tensors forward = {sizeof forward};
  tilewise_backward_tensors backward = {sizeof backward};
  tilewise_tensor tq = view(q, kDim), tk = view(k, kDim), tv = view(v, kDim), to = view(o, kDim),
                  tl = view(lse, 1);
  tilewise_tensor tdo = view(d_o, kDim), tdq = view(d_q, kDim), tdk = view(d_k, kDim),
                  tdv = view(d_v, kDim);
  tilewise_plan *plan, *failed;
  tilewise_schedule* schedule;
  tilewise_workspace* workspace;
  double sum = 0, expected = 0;
  int i;

  for (i = 0; i < kElements; ++i) {
    q[i] = (float)sin(0.37 * i);
    k[i] = (float)cos(0.11 * i);
    v[i] = (float)sin(0.05 * i);
    d_o[i] = 1;
  }
  problem.query_heads = kHeads;
  problem.max_query_length = problem.max_kv_length = kLength;
  problem.head_dim = kDim;
  problem.mask = "causal";
  check(tilewise_plan_create(&problem, NULL, &plan));
  step.batch = 1;
  step.query_length = step.kv_length = kLength;
  check(tilewise_schedule_create(plan, &step, &schedule));
  check(tilewise_workspace_create(plan, NULL, 0, &workspace));

  forward.query = &tq;
  forward.key = &tk;
  forward.value = &tv;
  forward.output = &to;
  forward.logsumexp = &tl;
  check(tilewise_forward(plan, schedule, &forward, workspace));

  backward.query = &tq;
  backward.key = &tk;
  backward.value = &tv;
  backward.output = &to;
  backward.logsumexp = &tl;
  backward.grad_output = &tdo;
  backward.grad_query = &tdq;
  backward.grad_key = &tdk;
  backward.grad_value = &tdv;
  check(tilewise_backward(plan, schedule, &backward, workspace));

  /* Each row of P sums to 1, so with dO = 1 the elements of dV = P^T dO sum to rows * dim. */
  for (i = 0; i < kElements; ++i) sum += d_v[i];
  expected = kElements;
  printf("tilewise %s on %s: sum of dV %.4f, expected %.1f\n", tilewise_version(),
         tilewise_plan_isa(plan), sum, expected);

  problem.mask = "casual";
  if (tilewise_plan_create(&problem, NULL, &failed) != TILEWISE_INVALID_ARGUMENT) return 1;
  printf("an error reads: %s\n", tilewise_last_error());

  tilewise_workspace_destroy(workspace);
  tilewise_schedule_destroy(schedule);
  tilewise_plan_destroy(plan);
  return fabs(sum - expected) < 1e-2 ? 0 : 1;
}
