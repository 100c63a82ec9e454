/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface: the same library as tilewise.h, for every language that can call C.
 *
 * - Functions that may fail return a tilewise_status; the text of the last failure of this thread
 * is tilewise_last_error(). No exception and no C++ type crosses this border; nothing aborts.
 * - Every struct begins with struct_size = sizeof(the struct). Zero the rest first (`= {sizeof
 * x}`): zero and NULL always mean the default, so a program compiled against an older header keeps
 * working.
 * - Handles are opaque. Plans and schedules are immutable, but for tilewise_schedule_update(), and
 *   may be shared between threads; a workspace serves one run at a time. Destroying NULL does
 *   nothing.
 */
#ifndef TILEWISE_C_H
#define TILEWISE_C_H

#include <stddef.h>
#include <stdint.h>

#include "tilewise/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tilewise_status {
  TILEWISE_OK = 0,
  TILEWISE_INVALID_ARGUMENT =
      1,                     /* the caller's mistake; the text says which argument, got, expected */
  TILEWISE_DEVICE_ERROR = 2, /* memory, threads */
  TILEWISE_INTERNAL_ERROR = 3 /* ours; please report */
} tilewise_status;

typedef enum tilewise_dtype {
  TILEWISE_FLOAT32 = 0,
  TILEWISE_BFLOAT16 = 1,
  TILEWISE_FLOAT16 = 2,
  TILEWISE_FLOAT64 = 3
} tilewise_dtype;

typedef struct tilewise_plan tilewise_plan;
typedef struct tilewise_schedule tilewise_schedule;
typedef struct tilewise_workspace tilewise_workspace;

/* A view: axes [batch, heads, length, dim], strides in elements (negative and zero allowed on
 * inputs). */
typedef struct tilewise_tensor {
  size_t struct_size;
  void* data;
  int32_t dtype; /* tilewise_dtype */
  int32_t reserved;
  int64_t shape[4];
  int64_t strides[4];
} tilewise_tensor;

/* What a name in a mask or a score stands for (step.h). */
typedef enum tilewise_integer_type {
  TILEWISE_INT32 = 0,
  TILEWISE_INT64 = 1,
  TILEWISE_BOOL = 2 /* one byte */
} tilewise_integer_type;

/* Row-major without gaps. */
typedef struct tilewise_integer_table {
  size_t struct_size;
  const char* name;
  const void* data;
  int32_t type; /* tilewise_integer_type */
  int32_t rank; /* 1 to 4 */
  int64_t shape[4];
} tilewise_integer_table;

typedef struct tilewise_scalar {
  size_t struct_size;
  const char* name;
  int32_t is_real;
  int32_t reserved; /* 0 */
  int64_t integer;  /* read unless is_real */
  double real;      /* read if is_real */
} tilewise_scalar;

/* A table of n axes is the last n axes of the tensor; those before have extent 1. */
typedef struct tilewise_named_tensor {
  size_t struct_size;
  const char* name;
  const tilewise_tensor* tensor;
} tilewise_named_tensor;

/* See problem.h. */
typedef struct tilewise_problem {
  size_t struct_size;
  int64_t query_heads; /* 0: 1 */
  int64_t kv_heads;    /* 0: query_heads */
  int64_t max_batch;   /* 0: 1 */
  int64_t max_query_length;
  int64_t max_kv_length;
  int64_t head_dim;
  int64_t value_dim; /* 0: head_dim */
  int32_t dtype;     /* tilewise_dtype */
  int32_t has_bias;
  const char* mask; /* a rule ("causal", "window:128,0", docs/rules.md) or an expression
                       ("k <= q and doc[q] == doc[k]", docs/language.md); NULL: none */
  double scale;     /* 0: 1 / sqrt(head_dim) */
  int32_t same_bits_as_prefill;
  int32_t reserved;           /* 0 */
  const char* score;          /* likewise ("softcap:cap=30", "s - slope[h] * (q - k)"); NULL: s */
  int64_t max_table_elements; /* 0: 16384 */
  double dropout;
  int32_t has_sink;
  int32_t reserved2;         /* 0 */
  int64_t max_total_queries; /* 0: max_batch * max_query_length */
} tilewise_problem;

/* Calls task(task_context, w) once for every w in [0, workers) and returns when all calls returned.
 */
typedef void (*tilewise_run_workers)(void* context, int32_t workers,
                                     void (*task)(void* task_context, int worker),
                                     void* task_context);

typedef struct tilewise_plan_options {
  size_t struct_size;
  const char* isa; /* NULL: the best of this CPU, or the environment variable TILEWISE_ISA */
  int32_t threads; /* 0: as many as the process may use, or TILEWISE_NUM_THREADS */
  int32_t executor_workers;         /* the most workers run_workers runs at once */
  tilewise_run_workers run_workers; /* NULL: the library's own pool */
  void* executor_context;
} tilewise_plan_options;

/* The lengths of one step; offsets are global positions of the first query, key, batch entry, head.
 */
typedef struct tilewise_step {
  size_t struct_size;
  int64_t batch; /* taken as it is: 0 means an empty batch */
  int64_t query_length;
  int64_t kv_length;
  int64_t query_offset;
  int64_t key_offset;
  int64_t batch_offset;
  int64_t head_offset;
  /* Of mask and score, copied; arrays of pointers. */
  const tilewise_integer_table* const* tables;
  size_t table_count;
  const tilewise_scalar* const* scalars;
  size_t scalar_count;
  /* Of a ragged batch: batch + 1 numbers each; NULL: none. */
  const void* query_starts;
  const void* key_starts;
  int32_t starts_type; /* TILEWISE_INT32 or TILEWISE_INT64, of both */
  int32_t reserved;    /* 0 */
} tilewise_step;

/* Shapes and dtypes: plan.h. NULL where a tensor is optional and absent (bias, logsumexp). */
typedef struct tilewise_forward_tensors {
  size_t struct_size;
  const tilewise_tensor *query, *key, *value, *bias;
  const tilewise_tensor *output, *logsumexp;
  const tilewise_named_tensor* const* tables; /* real tables of the score */
  size_t table_count;
  const tilewise_tensor* sink;  /* NULL unless the problem has one */
  const uint64_t* dropout_seed; /* NULL unless the problem has dropout */
} tilewise_forward_tensors;

/* Optional: bias, grad_logsumexp, grad_bias. */
typedef struct tilewise_backward_tensors {
  size_t struct_size;
  const tilewise_tensor *query, *key, *value, *bias;
  const tilewise_tensor *output, *logsumexp, *grad_output, *grad_logsumexp;
  const tilewise_tensor *grad_query, *grad_key, *grad_value, *grad_bias;
  const tilewise_named_tensor* const* tables;
  size_t table_count;
  const tilewise_named_tensor* const* grad_tables; /* optional, by the names of tables */
  size_t grad_table_count;
  const tilewise_tensor *sink, *grad_sink; /* grad_sink is optional */
  const uint64_t* dropout_seed;
} tilewise_backward_tensors;

/* See merge.h. */
typedef struct tilewise_partial_result {
  size_t struct_size;
  const tilewise_tensor *output, *logsumexp;
} tilewise_partial_result;

typedef struct tilewise_merge_tensors {
  size_t struct_size;
  const tilewise_partial_result* const* parts;
  size_t part_count;
  const tilewise_tensor *output, *logsumexp; /* logsumexp is optional */
  const tilewise_tensor* sink;               /* NULL: none */
} tilewise_merge_tensors;

typedef struct tilewise_attention_options {
  size_t struct_size;
  const char* mask; /* as in tilewise_problem */
  double scale;     /* 0: 1 / sqrt(head_dim) */
  int64_t query_offset;
  int64_t key_offset;
  const char* isa;
  int32_t threads;
  int32_t same_bits_as_prefill;
  const char* score;                           /* as in tilewise_problem */
  const tilewise_integer_table* const* tables; /* as in tilewise_step */
  size_t table_count;
  const tilewise_scalar* const* scalars;
  size_t scalar_count;
  double dropout;
  const void *query_starts, *key_starts; /* as in tilewise_step */
  int64_t sequences;                     /* with starts: their number */
  int32_t starts_type;
  int32_t reserved; /* 0 */
} tilewise_attention_options;

TILEWISE_API const char* tilewise_version(void);
/* Text of the last failure in this thread, valid until the next call in this thread. Never NULL. */
TILEWISE_API const char* tilewise_last_error(void);
/* How many instruction sets this CPU runs; writes up to capacity names, best first. */
TILEWISE_API size_t tilewise_available_isas(const char** names, size_t capacity);

TILEWISE_API tilewise_status tilewise_plan_create(
    const tilewise_problem* problem, const tilewise_plan_options* options, /* NULL: defaults */
    tilewise_plan** plan);
TILEWISE_API void tilewise_plan_destroy(tilewise_plan* plan);
TILEWISE_API size_t tilewise_plan_workspace_bytes(const tilewise_plan* plan); /* 0 for NULL */
TILEWISE_API const char* tilewise_plan_isa(const tilewise_plan* plan);        /* NULL for NULL */
TILEWISE_API int32_t tilewise_plan_threads(const tilewise_plan* plan);        /* 0 for NULL */

TILEWISE_API tilewise_status tilewise_schedule_create(const tilewise_plan* plan,
                                                      const tilewise_step* step,
                                                      tilewise_schedule** schedule);
/* Makes the schedule one of another step; for steps that do not come again, as in decoding. It must
 * be of this plan, and no run may be using it. After an error it is as before. */
TILEWISE_API tilewise_status tilewise_schedule_update(const tilewise_plan* plan,
                                                      tilewise_schedule* schedule,
                                                      const tilewise_step* step);
TILEWISE_API void tilewise_schedule_destroy(tilewise_schedule* schedule);

/* memory NULL: allocated and owned by the workspace. Else the caller's: 64-byte aligned, at least
 * tilewise_plan_workspace_bytes(plan), alive as long as the workspace. */
TILEWISE_API tilewise_status tilewise_workspace_create(const tilewise_plan* plan, void* memory,
                                                       size_t bytes,
                                                       tilewise_workspace** workspace);
TILEWISE_API void tilewise_workspace_destroy(tilewise_workspace* workspace);

TILEWISE_API tilewise_status tilewise_forward(const tilewise_plan* plan,
                                              const tilewise_schedule* schedule,
                                              const tilewise_forward_tensors* tensors,
                                              tilewise_workspace* workspace);
TILEWISE_API tilewise_status tilewise_backward(const tilewise_plan* plan,
                                               const tilewise_schedule* schedule,
                                               const tilewise_backward_tensors* tensors,
                                               tilewise_workspace* workspace);
/* Writes at most capacity bytes, always terminated if capacity > 0; *length (may be NULL) is the
 * length of the whole text. */
TILEWISE_API tilewise_status tilewise_explain(const tilewise_plan* plan,
                                              const tilewise_schedule* schedule, char* text,
                                              size_t capacity, size_t* length);

/* In one call, with cached plans. options may be NULL. */
TILEWISE_API tilewise_status tilewise_attention(const tilewise_forward_tensors* tensors,
                                                const tilewise_attention_options* options);
TILEWISE_API tilewise_status tilewise_attention_backward(const tilewise_backward_tensors* tensors,
                                                         const tilewise_attention_options* options);
/* threads 0: as many as the process may use. */
TILEWISE_API tilewise_status tilewise_merge(const tilewise_merge_tensors* tensors, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif
