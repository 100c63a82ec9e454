# SPDX-License-Identifier: Apache-2.0
"""As much of tilewise_c.h as bench/peers.py and bench/compare_builds.py need. It is private to this folder."""

import ctypes
import pathlib

DTYPES = {"fp32": 0, "bf16": 1, "fp16": 2, "fp64": 3}


class Struct(ctypes.Structure):
    """Begins with struct_size; what is not given is zero, which means the default."""

    def __init__(self, **fields):
        super().__init__(struct_size=ctypes.sizeof(self), **fields)


def fields(kind, names):
    return [(name, kind) for name in names.split()]


class Tensor(Struct):
    _fields_ = [("struct_size", ctypes.c_size_t), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int32),
                ("reserved", ctypes.c_int32), ("shape", ctypes.c_int64 * 4), ("strides", ctypes.c_int64 * 4)]


class Problem(Struct):
    _fields_ = [("struct_size", ctypes.c_size_t),
                *fields(ctypes.c_int64, "query_heads kv_heads max_batch max_query_length max_kv_length head_dim "
                                        "value_dim"),
                *fields(ctypes.c_int32, "dtype has_bias"), ("mask", ctypes.c_char_p), ("scale", ctypes.c_double),
                *fields(ctypes.c_int32, "same_bits_as_prefill reserved"), ("score", ctypes.c_char_p),
                ("max_table_elements", ctypes.c_int64), ("dropout", ctypes.c_double)]


class PlanOptions(Struct):
    _fields_ = [("struct_size", ctypes.c_size_t), ("isa", ctypes.c_char_p),
                *fields(ctypes.c_int32, "threads executor_workers"),
                *fields(ctypes.c_void_p, "run_workers executor_context")]


class Step(Struct):
    _fields_ = [("struct_size", ctypes.c_size_t),
                *fields(ctypes.c_int64, "batch query_length kv_length query_offset key_offset batch_offset "
                                        "head_offset")]


class ForwardTensors(Struct):
    _fields_ = [("struct_size", ctypes.c_size_t),
                *fields(ctypes.POINTER(Tensor), "query key value bias output logsumexp"),
                ("tables", ctypes.c_void_p), ("table_count", ctypes.c_size_t), ("sink", ctypes.POINTER(Tensor)),
                ("dropout_seed", ctypes.POINTER(ctypes.c_uint64))]


class BackwardTensors(Struct):
    _fields_ = [("struct_size", ctypes.c_size_t),
                *fields(ctypes.POINTER(Tensor), "query key value bias output logsumexp grad_output grad_logsumexp "
                                                "grad_query grad_key grad_value grad_bias"),
                ("tables", ctypes.c_void_p), ("table_count", ctypes.c_size_t), ("grad_tables", ctypes.c_void_p),
                ("grad_table_count", ctypes.c_size_t), *fields(ctypes.POINTER(Tensor), "sink grad_sink"),
                ("dropout_seed", ctypes.POINTER(ctypes.c_uint64))]


def load(path):
    """The shared library; a missing one ends the program with the line that builds it."""
    if not pathlib.Path(path).is_file():
        raise SystemExit(f"there is no file {path}; build it with: "
                         "cmake --preset release && cmake --build --preset release --target tilewise_shared")
    library = ctypes.CDLL(str(path))
    library.tilewise_last_error.restype = ctypes.c_char_p
    library.tilewise_plan_isa.restype = ctypes.c_char_p
    library.tilewise_plan_isa.argtypes = [ctypes.c_void_p]
    return library


def view(array, dtype):
    """A numpy array [batch, heads, length, dim] whose elements are of that dtype."""
    strides = [stride // array.itemsize for stride in array.strides]
    tensor = Tensor(data=array.ctypes.data, dtype=DTYPES[dtype], shape=(ctypes.c_int64 * 4)(*array.shape),
                    strides=(ctypes.c_int64 * 4)(*strides))
    tensor.array = array  # data is a bare address: this keeps the memory
    return tensor


class Attention:
    """A plan, a schedule and a workspace for one problem; forward and backward then only run."""

    def __init__(self, library, *, batch, heads, kv_heads, queries, keys, dim, dtype, mask, threads, dropout=0):
        self.library = library
        self.plan, self.schedule, self.workspace = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        problem = Problem(query_heads=heads, kv_heads=kv_heads, max_batch=batch, max_query_length=queries,
                          max_kv_length=keys, head_dim=dim, dtype=DTYPES[dtype], mask=mask.encode(), dropout=dropout)
        step = Step(batch=batch, query_length=queries, kv_length=keys)
        self.call("plan_create", ctypes.byref(problem), ctypes.byref(PlanOptions(threads=threads)),
                  ctypes.byref(self.plan))
        self.call("schedule_create", self.plan, ctypes.byref(step), ctypes.byref(self.schedule))
        self.call("workspace_create", self.plan, None, ctypes.c_size_t(0), ctypes.byref(self.workspace))
        self.isa = library.tilewise_plan_isa(self.plan).decode()

    def __del__(self):
        self.library.tilewise_workspace_destroy(self.workspace)
        self.library.tilewise_schedule_destroy(self.schedule)
        self.library.tilewise_plan_destroy(self.plan)

    def call(self, name, *arguments):
        if getattr(self.library, f"tilewise_{name}")(*arguments) != 0:
            raise RuntimeError(self.library.tilewise_last_error().decode())

    def forward(self, tensors):
        self.call("forward", self.plan, self.schedule, ctypes.byref(tensors), self.workspace)

    def backward(self, tensors):
        self.call("backward", self.plan, self.schedule, ctypes.byref(tensors), self.workspace)


def tensors(kind, views, dropout_seed=None):
    result = kind(**{name: ctypes.pointer(tensor) for name, tensor in views.items()})
    if dropout_seed is not None:
        result.dropout_seed = ctypes.pointer(ctypes.c_uint64(dropout_seed))
    result.views = views
    return result
