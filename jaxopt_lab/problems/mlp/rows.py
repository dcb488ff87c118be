"""Rows of our own networks, as they are: what the suite of broken configurations is made of.

Internal: a user's images and sequences are `lab.supervised` problems. Here all evidence of
`stabilization` is to be had, because schedules, penalties and clipping are the trainer's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp.data import Criterion, FoldArrays
from jaxopt_lab.problems.mlp.signature import Signature


@dataclass(frozen=True, eq=False)
class RowsTask:
    """Rows as they are: no encoding, one split into training and validation rows.

    Attributes:
      inputs: [N, ...] float32.
      targets: [N] or [N, ...], float32 or int32.
      criterion: loss and metrics; `tasks.base.regression()` or `classification(c)`.
      valid_rows: indices of the validation rows; all others are trained on.
      make_model: signature, number of outputs -> Flax module called as `models.mlp.PaddedMLP` is;
        None for that MLP, which takes vectors.
    """

    inputs: np.ndarray
    targets: np.ndarray
    criterion: Criterion
    valid_rows: np.ndarray
    make_model: Callable[[Signature, int], Any] | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise UserError(
                f"inputs and targets must have as many rows, got {len(self.inputs)} and "
                f"{len(self.targets)}"
            )
        rows = np.asarray(self.valid_rows)
        if not 0 < len(rows) < len(self.inputs):
            raise UserError(
                f"validation rows must be some, not all of {len(self.inputs)}, got {len(rows)}"
            )
        if rows.min() < 0 or rows.max() >= len(self.inputs) or len(np.unique(rows)) < len(rows):
            raise UserError(f"validation rows must be distinct indices below {len(self.inputs)}")

    def fold_arrays(self, seed: int) -> FoldArrays:
        """The rows as the engine takes them; `seed` is not used, the split is given."""
        valid = np.asarray(self.valid_rows, np.int32)
        train = np.setdiff1d(np.arange(len(self.inputs), dtype=np.int32), valid)
        targets = np.asarray(self.targets)
        kind = np.int32 if np.issubdtype(targets.dtype, np.integer) else np.float32
        return FoldArrays(
            inputs=np.asarray(self.inputs, np.float32)[None],
            targets=targets.astype(kind)[None],
            train_rows=train[None],
            num_train=np.asarray([len(train)], np.int32),
            valid_rows=valid[None],
            num_valid=np.asarray([len(valid)], np.int32),
        )

    def describe(self) -> dict[str, Any]:
        """What it is, for a report."""
        shape = "x".join(str(n) for n in self.inputs.shape[1:])
        return {"kind": "arrays", "source": f"{len(self.inputs)} rows of {shape}"}
