"""Arrays to bytes and back, bit for bit; nothing is pickled."""

import json
from collections.abc import Mapping

import numpy as np
from safetensors.numpy import load, save


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


def pack_state(state: list[np.ndarray]) -> bytes:
    """Arrays to bytes; `unpack_state` takes them back bit for bit."""
    return save({str(i): np.asarray(leaf, order="C") for i, leaf in enumerate(state)})


def unpack_state(content: bytes) -> list[np.ndarray]:
    """Read what `pack_state` wrote."""
    found = load(content)
    return [found[str(i)] for i in range(len(found))]
