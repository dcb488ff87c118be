"""Arrays to bytes and back, bit for bit; nothing is pickled."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError


def pack_curves(curves: Mapping[str, np.ndarray]) -> bytes:
    """Curves of one length: JSON head (names and length), a newline, then float32 rows."""
    head = json.dumps({"names": list(curves), "length": len(next(iter(curves.values())))})
    body = np.stack([np.asarray(c, "<f4") for c in curves.values()]).tobytes()
    return head.encode() + b"\n" + body


def unpack_curves(blob: bytes) -> dict[str, np.ndarray]:
    """Read what `pack_curves` wrote."""
    head, body = blob.split(b"\n", 1)
    names = json.loads(head)["names"]
    rows = np.frombuffer(body, "<f4").reshape(len(names), -1)
    return dict(zip(names, rows, strict=True))


def pack_state(state: Sequence[np.ndarray]) -> bytes:
    """Arrays to bytes: JSON head (dtypes and shapes), a newline, then one after the other."""
    arrays = [np.asarray(leaf) for leaf in state]
    head = json.dumps([[array.dtype.str, array.shape] for array in arrays])
    return b"".join([head.encode(), b"\n", *(array.tobytes() for array in arrays)])


def unpack_state(content: bytes) -> list[np.ndarray]:
    """Read what `pack_state` wrote.

    Raises:
      UserError: for what an earlier version wrote.
    """
    if not content.startswith(b"["):
        raise UserError(
            "an earlier version of jaxopt-lab stopped in the middle of this study's successive "
            "halving, which this one cannot go on with; begin in another directory"
        )
    end = content.index(b"\n")
    found, start = [], end + 1
    for kind, shape in json.loads(content[:end]):
        found.append(np.frombuffer(content, kind, math.prod(shape), start).reshape(shape))
        start += found[-1].nbytes
    return found


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Nested parameters -> flat names joined by '/'."""
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        inner = f"{prefix}{name}"
        flat.update(flatten(value, f"{inner}/") if isinstance(value, Mapping) else {inner: value})
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flat names -> nested parameters."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
