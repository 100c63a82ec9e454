# SPDX-License-Identifier: Apache-2.0
"""Who races in bench/peers.py: each a function (case, data, setup) -> (run, result).

run() is what is timed, on inputs that lie ready; result() gives the tensors of the last run as numpy in float32, and
in a case with dropout, as "keep", what it multiplied the probabilities of the first head by.
Raises Unsupported with the reason where it cannot do the case, ImportError where its package is missing.

One query of a decode step with grouped heads is the same function as `group` queries of one key head, without a
mask. The peers get it in this form: it is faster for them than their own grouping, and some have none.
"""

import dataclasses
import math

import numpy as np

import tilewise_library as lib


class Unsupported(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Case:
    group: str
    which: str  # forward, backward, forward+backward
    dtype: str
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    dim: int
    causal: bool = False
    dropout: float = 0

    @property
    def name(self):
        heads = f"H{self.heads}" if self.heads == self.kv_heads else f"H{self.heads}/{self.kv_heads}"
        length = f"N{self.keys}" if self.queries == self.keys else f"{self.queries}x{self.keys}"
        mask = "causal" if self.causal else "full"
        dropout = f" dropout {self.dropout}" if self.dropout else ""
        return f"{self.which} {self.dtype} B{self.batch} {heads} {length} d{self.dim} {mask}{dropout}"

    @property
    def flops(self):
        """As tilewise bench counts: visible pairs only."""
        pairs = self.queries * (self.queries + 1) // 2 if self.causal else self.queries * self.keys
        return 4 * self.batch * self.heads * pairs * self.dim * PASSES[self.which]

    @property
    def query_shape(self):
        return self.batch, self.heads, self.queries, self.dim

    @property
    def key_shape(self):
        return self.batch, self.kv_heads, self.keys, self.dim

    @property
    def folded_shape(self):
        """Of queries and output, with the query heads of a key head as queries of it."""
        return self.batch, self.kv_heads, self.queries * self.heads // self.kv_heads, self.dim

    @property
    def key_value_bytes(self):
        return 2 * math.prod(self.key_shape) * ITEM_BYTES[self.dtype]


PASSES = {"forward": 1, "backward": 2.5, "forward+backward": 3.5}  # in forwards
ITEM_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
# Distance of 1 to the next number.
EPSILON = {"fp32": 2.0**-23, "bf16": 2.0**-7, "fp16": 2.0**-10}


def from_fp32(array, dtype):
    """bf16 has no numpy type: its bits are uint16, rounded to nearest even."""
    if dtype == "fp32":
        return array
    if dtype == "fp16":
        return array.astype(np.float16)
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_fp32(array, dtype):
    if dtype == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def make_data(case):
    """q, k, v and do: N(0, 1), the same for every contestant."""
    random = np.random.default_rng(1)
    shapes = {"q": case.query_shape, "k": case.key_shape, "v": case.key_shape}
    if case.which != "forward":
        shapes["do"] = case.query_shape
    return {name: from_fp32(random.standard_normal(shape, np.float32), case.dtype) for name, shape in shapes.items()}


@dataclasses.dataclass(frozen=True)
class Setup:
    library: object
    threads: int


SEED = 7  # of dropout


def kept_pairs(case):
    """What Tilewise multiplies the probabilities of the first head by: docs/notation.md, written again."""
    q, k = np.arange(case.queries)[:, None], np.arange(case.keys)[None, :]
    words = [((q >> 4) << 3 | (q & 7)) + 0 * k, ((k >> 4) << 2 | (k & 7) >> 1) + 0 * q, 0 * (q + k), 0 * (q + k)]
    words = [word.astype(np.uint64) for word in words]
    low, shift, key = np.uint64(0xFFFFFFFF), np.uint64(32), [SEED & 0xFFFFFFFF, SEED >> 32]
    for _ in range(10):
        a, b = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [(b >> shift) ^ words[1] ^ np.uint64(key[0]), b & low,
                 (a >> shift) ^ words[3] ^ np.uint64(key[1]), a & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    word = np.choose((q >> 3 & 1) + 2 * (k >> 3 & 1), words)
    bits, threshold = word >> ((k & 1) * 16).astype(np.uint64) & np.uint64(0xFFFF), round(case.dropout * 65536)
    return (bits >= threshold) * (65536 / (65536 - threshold))


def first_head(case, data, keep):
    """Output and gradients of the first head in float64, its probabilities times `keep`."""
    q, k, v, do = (to_fp32(data[name][0, 0], case.dtype).astype(np.float64) for name in ("q", "k", "v", "do"))
    scale = 1 / math.sqrt(case.dim)
    s = q @ k.T * scale
    if case.causal:
        s[np.triu_indices(case.queries, 1)] = -np.inf
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    o = (p * keep) @ v
    ds = p * ((do @ v.T) * keep - (do * o).sum(-1, keepdims=True))
    return {"o": o, "dq": ds @ k * scale, "dk": ds.T @ q * scale, "dv": (p * keep).T @ do}


def tilewise(case, data, setup):
    attention = lib.Attention(
        setup.library, batch=case.batch, heads=case.heads, kv_heads=case.kv_heads, queries=case.queries,
        keys=case.keys, dim=case.dim, dtype=case.dtype, mask="causal" if case.causal else "none", threads=setup.threads,
        dropout=case.dropout)
    inputs = {"query": data["q"], "key": data["k"], "value": data["v"], "output": np.empty_like(data["q"])}
    views = {name: lib.view(array, case.dtype) for name, array in inputs.items()}
    seed = SEED if case.dropout else None
    output = {"o": inputs["output"]}
    if case.which == "forward":
        tensors = lib.tensors(lib.ForwardTensors, views, seed)
        return (lambda: attention.forward(tensors)), (lambda: in_fp32(output, case))
    views["logsumexp"] = lib.view(np.empty((case.batch, case.heads, case.queries, 1), np.float32), "fp32")
    forward = lib.tensors(lib.ForwardTensors, dict(views), seed)
    attention.forward(forward)
    gradients = {"dq": np.empty_like(data["q"]), "dk": np.empty_like(data["k"]), "dv": np.empty_like(data["v"])}
    for name, array in zip(("grad_output", "grad_query", "grad_key", "grad_value"), (data["do"], *gradients.values())):
        views[name] = lib.view(array, case.dtype)
    backward = lib.tensors(lib.BackwardTensors, views, seed)
    if case.which == "backward":
        return (lambda: attention.backward(backward)), (lambda: in_fp32(gradients, case))

    def run():
        attention.forward(forward)
        attention.backward(backward)
    return run, lambda: in_fp32(output | gradients, case) | ({"keep": kept_pairs(case)} if case.dropout else {})


def in_fp32(arrays, case):
    return {name: to_fp32(array, case.dtype) for name, array in arrays.items()}


def torch_race(case, data, setup, attend):
    """attend(q, k, v) with PyTorch's tensors; the backward is that of its autograd."""
    import torch

    torch.set_num_threads(setup.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[case.dtype]

    def tensor(name, shape):
        array = data[name]
        return torch.from_numpy(array.view(np.int16) if case.dtype == "bf16" else array).view(dtype).view(shape)

    q = tensor("q", case.folded_shape)
    k, v = tensor("k", case.key_shape), tensor("v", case.key_shape)
    kept = {}
    names = "dq", "dk", "dv"
    if case.which == "forward":
        def run():
            with torch.no_grad():
                kept["o"] = attend(q, k, v)
    else:
        leaves = [x.requires_grad_() for x in (q, k, v)]
        grad_output = tensor("do", case.folded_shape)
        if case.which == "backward":
            output = attend(*leaves)

            def run():
                kept.update(zip(names, torch.autograd.grad(output, leaves, grad_output, retain_graph=True)))
        else:
            def run():
                kept["o"] = attend(*leaves)
                kept.update(zip(names, torch.autograd.grad(kept["o"], leaves, grad_output)))

    def result():
        if not case.dropout:
            return {name: value.detach().float().numpy() for name, value in kept.items()}
        # Its dropout draws the same for P and for ones of P's shape.
        torch.manual_seed(SEED)
        run()
        torch.manual_seed(SEED)
        ones = torch.ones(case.batch, case.heads, case.queries, case.keys, dtype=dtype)
        keep = (torch.dropout(ones, case.dropout, True)[0, 0] > 0).numpy() / (1 - case.dropout)
        return {name: value.detach().float().numpy() for name, value in kept.items()} | {"keep": keep}
    return run, result


def torch_sdpa(case, data, setup):
    from torch.nn.functional import scaled_dot_product_attention

    return torch_race(case, data, setup, lambda q, k, v: scaled_dot_product_attention(
        q, k, v, is_causal=case.causal, dropout_p=case.dropout))


def available_bytes():
    for line in open("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def torch_unfused(case, data, setup):
    """softmax(q k^T) v as it is written."""
    import torch

    # S and P; the backward holds a gradient of each besides, and autograd copies; dropout two.
    matrices = 2 if case.which == "forward" else 7 if case.dropout else 5
    needed = matrices * case.batch * case.heads * case.queries * case.keys * ITEM_BYTES[case.dtype]
    if needed > 0.7 * available_bytes():
        raise Unsupported(f"S and P need {needed / 1e9:.1f} GB, more than this machine has free")
    scale = 1 / math.sqrt(case.dim)
    hidden = torch.ones(case.queries, case.keys, dtype=torch.bool).triu(1) if case.causal else None

    def attend(q, k, v):
        s = q @ k.mT * scale
        if hidden is not None:
            s = s.masked_fill(hidden, -math.inf)
        p = torch.softmax(s, -1)
        return (torch.dropout(p, case.dropout, True) if case.dropout else p) @ v

    return torch_race(case, data, setup, attend)


def onnxruntime(case, data, setup):
    if case.which != "forward":
        raise Unsupported("inference only")
    if case.dtype == "bf16":
        raise Unsupported("MultiHeadAttention on CPU has no bf16")
    import onnxruntime as ort
    from onnx import TensorProto, helper

    element = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}[case.dtype]
    batch, heads, queries, dim = case.folded_shape
    shapes = {"q": [batch, queries, heads * dim], "k": list(case.key_shape), "v": list(case.key_shape)}
    infos = {name: helper.make_tensor_value_info(name, element, shape) for name, shape in shapes.items()}
    result = helper.make_tensor_value_info("o", element, shapes["q"])
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["o"], domain="com.microsoft", num_heads=heads,
                            unidirectional=int(case.causal))
    model = helper.make_model(helper.make_graph([node], "attention", list(infos.values()), [result]),
                              opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads = setup.threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # Its queries and output are [batch, length, heads * dim].
    q = np.ascontiguousarray(data["q"].reshape(case.folded_shape).transpose(0, 2, 1, 3)).reshape(shapes["q"])
    feed = {"q": q, "k": data["k"], "v": data["v"]}
    kept = {}

    def run():
        kept["o"] = session.run(None, feed)[0]

    def output():
        return {"o": to_fp32(kept["o"].reshape(batch, queries, heads, dim).transpose(0, 2, 1, 3), case.dtype)}
    return run, output


def openvino(case, data, setup):
    if case.which != "forward":
        raise Unsupported("inference only")
    import openvino as ov
    from openvino import opset13

    element = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16}[case.dtype]
    shapes = {"q": case.folded_shape, "k": case.key_shape, "v": case.key_shape}
    inputs = [opset13.parameter(list(shape), element) for shape in shapes.values()]
    model = ov.Model([opset13.scaled_dot_product_attention(*inputs, causal=case.causal)], inputs)
    compiled = ov.Core().compile_model(model, "CPU", {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[case.dtype],
        "INFERENCE_NUM_THREADS": setup.threads})
    request = compiled.create_infer_request()
    for index, (name, shape) in enumerate(shapes.items()):
        request.set_input_tensor(index, ov.Tensor(data[name], list(shape), element))

    def output():
        array = request.get_output_tensor(0).data
        return {"o": to_fp32(array.view(np.uint16) if case.dtype == "bf16" else array, case.dtype)}
    return request.infer, output


# In the order of tables and figures; the first is what the others are compared with.
CONTESTANTS = {"tilewise": tilewise, "torch": torch_sdpa, "torch unfused": torch_unfused, "onnxruntime": onnxruntime,
               "openvino": openvino}
