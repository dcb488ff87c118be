"""Whether a trial fits a kernel: arithmetic, sizes, threads. All constants stand here.

Measured on one H100 (`docs/performance.md`). The estimate of shared memory is no less than what its
compiler reported: with three TF32 passes 294,912 bytes for two layers of 128 and 238,592 for four
of 64, with three bfloat16 passes 282,624 for three of 128.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lab.core.executors import pallas
from jaxopt_lab.core.executors.padding import LEAST, padded_shape

#: What a user may ask for -> arithmetic of products. Three passes of bfloat16 are the fastest of
#: nearly float32's accuracy; `tests/test_kernel_arithmetic.py` holds their error.
PRECISIONS = {
    "float32": "bf16x3",
    "bf16x3": "bf16x3",
    "bf16x6": "bf16x6",
    "tf32x3": "tf32x3",
    "scalar": "scalar",
    "tf32": "tf32",
    "bfloat16": "bfloat16",
}
#: Bytes of shared memory for each byte of float32 weights in products: their parts, each as it is
#: and transposed.
_COPIES = {"bf16x3": 2, "bf16x6": 3, "tf32x3": 4.5, "scalar": 2, "tf32": 2, "bfloat16": 1}
#: Largest state of a trial, bytes: it lives in registers, 262,144 on a multiprocessor.
MAX_STATE_BYTES = 230_000
#: State up to which registers have room for the parts of factors, bytes.
PARTS_BYTES = 200_000
#: Rows of a chunk; of larger ones registers spill. Fewer for a large state and three TF32 passes.
ROWS, FEW_ROWS, LARGE_STATE_BYTES = 32, 16, 150_000
#: Bytes of state up to which 1, 2 and 4 warps run a trial; 8 beyond.
_WARPS = ((8_000, 1), (24_000, 2), (72_000, 4))
MOST_WARPS = 8
#: Steps that make up for a launch; rows of more are shuffled when it is known that they count.
LEAST_STEPS = 512
#: Bytes of state up to which minibatches of so many rows were measured to pay; `MOST_ROWS` beyond:
#: one multiprocessor takes a program's chunks in turn, under vmap all of them share the rows.
_BATCHES, MOST_ROWS = ((72_000, 256), (120_000, 128)), 64
#: Bytes of rows that one launch may read: those of several units, one after the other.
MAX_ROW_BYTES = 2**28


class Sizes(NamedTuple):
    """What a kernel holds on the chip, in bytes and rows.

    Attributes:
      state_bytes: weights, moments and all else that a trial carries, padded.
      weight_bytes: of matrices in products on tensor cores, padded, as float32.
      shared_bytes: shared memory wanted, an estimate.
      rows: of a chunk.
      warps: that run a trial.
    """

    state_bytes: int
    weight_bytes: int
    shared_bytes: int
    rows: int
    warps: int


def sizes_of(state: Sequence[Any], gradient: Sequence[Any], batch: int, precision: str) -> Sizes:
    """Sizes of a trial's kernel.

    Args:
      state: its leaves, or their shapes and dtypes.
      gradient: likewise, of its gradient.
      batch: rows of a minibatch.
      precision: a key of `PRECISIONS`.
    """
    arithmetic = PRECISIONS[precision]
    state_bytes = sum(map(_bytes, state))
    matrices = [padded_shape(x.shape) for x in gradient if len(x.shape) == 2]
    weights = sum(4 * int(np.prod(shape)) for shape in matrices if min(shape) >= LEAST)
    widest = max((shape[1] for shape in matrices), default=0)
    few = batch <= FEW_ROWS or (arithmetic == "tf32x3" and state_bytes > LARGE_STATE_BYTES)
    rows = FEW_ROWS if few else ROWS
    shared = int(_COPIES[arithmetic] * weights) + (
        FEW_ROWS * widest * 2 if arithmetic == "bf16x3" else 0
    )
    warps = next((n for limit, n in _WARPS if state_bytes <= limit), MOST_WARPS)
    return Sizes(state_bytes, weights, shared, rows, warps)


def misfit(sizes: Sizes, batch: int, machine: pallas.Machine) -> str:
    """Why a trial does not fit, in words for a plan; "" if it does."""
    most = next((n for limit, n in _BATCHES if sizes.state_bytes <= limit), MOST_ROWS)
    if batch > most:
        return (
            f"minibatches of {batch:,} rows, and with {sizes.state_bytes:,} bytes of weights and "
            f"moments a kernel pays up to {most}"
        )
    if sizes.shared_bytes > machine.shared_bytes:
        return (
            f"{sizes.shared_bytes:,} bytes of shared memory wanted, {machine.shared_bytes:,} there"
        )
    if sizes.state_bytes > MAX_STATE_BYTES:
        return (
            f"{sizes.state_bytes:,} bytes of weights and moments, and a kernel pays up to "
            f"{MAX_STATE_BYTES:,}"
        )
    return ""


def _bytes(leaf: Any) -> int:
    shape = padded_shape(tuple(leaf.shape))
    return int(np.prod(shape)) * jax.numpy.dtype(leaf.dtype).itemsize
