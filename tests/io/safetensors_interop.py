# SPDX-License-Identifier: Apache-2.0
"""Python writes, C++ reads and writes, Python reads: names, types, shapes, bytes and metadata agree."""
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file


def copy(program, source, target):
    subprocess.run([program, source, target], check=True)


def numpy_arrays():
    """Every type that NumPy has, a scalar, an empty tensor, NaN and infinities."""
    rng = np.random.default_rng(7)
    arrays = {}
    for dtype in ("float16", "float32", "float64"):
        arrays[dtype] = rng.standard_normal((2, 3, 5, 7)).astype(dtype)
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        arrays[dtype] = rng.integers(0, 100, (3, 5)).astype(dtype)
    arrays["bool"] = rng.integers(0, 2, 13).astype(bool)
    arrays["scalar"] = np.array(1.5, dtype=np.float32)
    arrays["empty"] = np.zeros((2, 0, 4), dtype=np.float32)
    arrays["special"] = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], dtype=np.float32)
    arrays["näme with \"quotes\" \\ and / \U0001f600"] = np.arange(3, dtype=np.float32)
    return arrays


def check_numpy(program, folder):
    arrays = numpy_arrays()
    metadata = {"format": "np", "quote": "a \"b\" \\ \n ü", "": ""}
    save_file(arrays, folder / "in.safetensors", metadata=metadata)
    copy(program, folder / "in.safetensors", folder / "out.safetensors")
    back = load_file(folder / "out.safetensors")
    assert back.keys() == arrays.keys(), (back.keys(), arrays.keys())
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape, name
        assert back[name].tobytes() == array.tobytes(), name
    with safetensors.safe_open(folder / "out.safetensors", framework="np") as file:
        assert file.metadata() == metadata, file.metadata()


def write_by_hand(path, tensors):
    """bfloat16 has no NumPy type, so the file is put together from the format's description."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def check_bfloat16(program, folder):
    rng = np.random.default_rng(8)
    tensors = {"x": ("BF16", [2, 3], rng.bytes(12)), "y": ("F32", [3], rng.bytes(12))}
    write_by_hand(folder / "raw.safetensors", tensors)
    copy(program, folder / "raw.safetensors", folder / "raw_out.safetensors")
    back = dict(safetensors.deserialize((folder / "raw_out.safetensors").read_bytes()))
    assert back.keys() == tensors.keys()
    for name, (dtype, shape, content) in tensors.items():
        assert str(back[name]["dtype"]) == dtype and list(back[name]["shape"]) == shape, name
        assert bytes(back[name]["data"]) == content, name


def check_empty_file(program, folder):
    save_file({}, folder / "none.safetensors")
    copy(program, folder / "none.safetensors", folder / "none_out.safetensors")
    assert load_file(folder / "none_out.safetensors") == {}


def main():
    with tempfile.TemporaryDirectory() as name:
        for check in (check_numpy, check_bfloat16, check_empty_file):
            check(sys.argv[1], Path(name))
    print(f"agrees with safetensors {safetensors.__version__}")


if __name__ == "__main__":
    main()
