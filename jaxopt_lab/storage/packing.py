"""Arrays to bytes and back, bit for bit; nothing is pickled."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

_FLOAT32 = np.dtype("<f4")


def pack_curves(curves: Mapping[str, np.ndarray]) -> bytes:
    """Arrays by name: a JSON head, a newline, then their values, little-endian.

    Curves of one length in float32, which most are, have a shorter head.
    """
    arrays = [_plain(array) for array in curves.values()]
    head = _head(*curves, kinds=tuple((array.dtype.str, array.shape) for array in arrays))
    return b"".join([head, *(array.tobytes() for array in arrays)])


def pack_curves_of(curves: Mapping[str, np.ndarray], num: int) -> list[bytes]:
    """`pack_curves` of each of n trainings, whose arrays are [n, ...]."""
    arrays = [_plain(array) for array in curves.values()]
    head = _head(*curves, kinds=tuple((array.dtype.str, array.shape[1:]) for array in arrays))
    parts = [row_bytes(array) for array in arrays]
    return [b"".join([head, *row]) for row in zip(*parts, strict=True)] if parts else [head] * num


def row_bytes(array: np.ndarray) -> list[bytes]:
    """`tobytes` of each row of an array [n, ...]."""
    whole, size = array.tobytes(), array.nbytes // max(len(array), 1)
    return [whole[i * size : (i + 1) * size] for i in range(len(array))]


@lru_cache(256)
def _head(*names: str, kinds: tuple[tuple[str, tuple[int, ...]], ...]) -> bytes:
    """The line before the values."""
    head: Any = {"arrays": [[name, *kind] for name, kind in zip(names, kinds, strict=True)]}
    if len(set(kinds)) == 1:
        ((kind, shape),) = set(kinds)
        if kind == "<f4" and len(shape) == 1:
            head = {"names": names, "length": shape[0]}
    return json.dumps(head).encode() + b"\n"


def unpack_curves(blob: bytes) -> dict[str, np.ndarray]:
    """Read what `pack_curves` wrote."""
    line, body = blob.split(b"\n", 1)
    head = json.loads(line)
    if "arrays" not in head:
        names = head["names"]
        rows = np.frombuffer(body, "<f4").reshape(len(names), -1)
        return dict(zip(names, rows, strict=True))
    found, start = {}, 0
    for name, kind, shape in head["arrays"]:
        found[name] = np.frombuffer(body, kind, math.prod(shape), start).reshape(shape)
        start += found[name].nbytes
    return found


def _plain(array: np.ndarray) -> np.ndarray:
    """In a dtype of NumPy's own, little-endian: narrow floats as float32."""
    array = np.asarray(array)
    if array.dtype == _FLOAT32:
        return array
    if array.dtype.kind not in "biufc":
        array = array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def pack_state(state: Sequence[np.ndarray]) -> bytes:
    """Arrays to bytes: JSON head (dtypes and shapes), a newline, then one after the other."""
    arrays = [np.asarray(leaf) for leaf in state]
    head = json.dumps([[array.dtype.name, array.shape] for array in arrays])
    return b"".join([head.encode(), b"\n", *(array.tobytes() for array in arrays)])


def unpack_state(content: bytes) -> list[np.ndarray]:
    """Read what `pack_state` wrote."""
    end = content.index(b"\n")
    found, start = [], end + 1
    for name, shape in json.loads(content[:end]):
        kind = _dtype(name)
        found.append(np.frombuffer(content, kind, math.prod(shape), start).reshape(shape))
        start += found[-1].nbytes
    return found


def _dtype(name: str) -> np.dtype:
    """By name; the narrow floats of accelerators are `ml_dtypes`' (which JAX brings)."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def flatten(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Nested parameters -> flat names joined by '/'."""
    from flax.traverse_util import flatten_dict  # brings JAX

    found: dict[str, np.ndarray] = flatten_dict(params, sep="/")
    return found


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flat names -> nested parameters."""
    from flax.traverse_util import unflatten_dict

    tree: dict[str, Any] = unflatten_dict(dict(flat), sep="/")
    return tree
