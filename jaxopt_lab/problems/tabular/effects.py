"""How much worse predictions of held-out rows become where a column is shuffled.

What a column's permutation importance says holds for the model, not for the world: of two columns
that say the same either may have it all, and shuffled rows may be such as there are none.

Source: Breiman 2001, "Random forests", doi:10.1023/A:1010933404324, section 10; Fisher, Rudin &
Dominici 2019, arXiv:1801.01489 (of any model, by its loss on held-out rows).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxopt_lab.datasets import Encoder
from jaxopt_lab.problems.tabular.kernels import Kernel
from jaxopt_lab.problems.tabular.predictor import Predictor
from jaxopt_lab.problems.tabular.trees import Trees
from jaxopt_lab.storage.packing import flatten

if TYPE_CHECKING:
    import pandas as pd

#: What all shuffled predictions may cost, in products of a weight and a row.
MAX_WORK = 4e10
#: A node of a tree costs as many: each row by itself, and each node once for all rows.
_WORK_ROW, _WORK_NODE = 2e2, 1e5
#: A number of a kernel's rows costs as many.
_WORK_CENTRE = 4
REPEATS = 5
_FEWEST_REPEATS, _FEWEST_ROWS, _MOST_ROWS = 2, 100, 2000
#: Predictions [n] or [n, c], and the truth [n] -> a number, lower is better.
Error = Callable[[np.ndarray, np.ndarray], float]


class Effects(NamedTuple):
    """Permutation importances.

    Attributes:
      single: whether of the single network, because the ensemble takes too long.
      rows: held-out rows.
      repeats: shuffles of each column.
      error: of the rows as they are.
      columns: column -> error [repeats] with it shuffled, less `error`; the largest mean first.
    """

    single: bool
    rows: int
    repeats: int
    error: float
    columns: dict[str, np.ndarray]


def permutation_importance(
    models: Predictor, frame: "pd.DataFrame", truth: np.ndarray, error: Error, seed: int
) -> Effects | None:
    """Shuffle one column after the other among held-out rows.

    scikit-learn's function of the name would encode the table again for each shuffle; here each is
    read once and its encoded columns are shuffled, which are functions of that column alone.

    Args:
      models: the published model.
      frame: its features of held-out rows.
      truth: their target [n].
      error: what is compared.
      seed: of the shuffles.

    Returns:
      None if even few rows and the single network take too long.
    """
    for single in (False, True):
        size = _size(models, len(frame), single)
        if size is not None:
            break
    else:
        return None
    rows, repeats = size
    rng = np.random.default_rng(seed)
    if rows < len(frame):
        chosen = np.sort(rng.choice(len(frame), rows, replace=False))
        frame, truth = frame.iloc[chosen], truth[chosen]
    encoded = models.encode(frame, single)
    base = error(models.predict_encoded(encoded, single), truth)
    found = {}
    near = models.encoders[0].near
    for column in models.encoders[0].columns:
        places = {i: _places(models, i, column) for i in encoded}
        rises = []
        for _ in range(repeats):
            order, shuffled = rng.permutation(rows), dict(encoded)
            if near is not None and column in near.columns:  # who is near changes with it
                moved = frame.assign(**{column: frame[column].to_numpy()[order]})
                shuffled, places = models.encode(moved, single), {}
            for i, mine in places.items():
                if len(mine):
                    shuffled[i] = encoded[i].copy()
                    shuffled[i][:, mine] = encoded[i][order][:, mine]
            rises.append(error(models.predict_encoded(shuffled, single), truth) - base)
        found[column] = np.array(rises)
    ordered = sorted(found, key=lambda name: -found[name].mean())
    return Effects(single, rows, repeats, base, {name: found[name] for name in ordered})


def _size(models: Predictor, num_rows: int, single: bool) -> tuple[int, int] | None:
    """Rows and repeats that cost no more than `MAX_WORK`; None if there are none."""
    weights = (1.0,) if single else models.ensemble
    a_row = sum(
        network.architecture.get("ensemble_size", 1)
        * sum(array.size for array in flatten(network.params).values())
        for network, weight in zip(models.networks, weights, strict=False)
        if weight
    )
    fixed = 0.0
    for other in () if single else models.others:
        if isinstance(other.model, Trees):
            a_row += int(_WORK_ROW * len(other.model.roots))
            fixed += _WORK_NODE * len(other.model.feature)
        elif isinstance(other.model, Kernel):
            a_row += _WORK_CENTRE * other.model.centres.size
        else:
            a_row += other.model.kernel.size
    rows = min(num_rows, _MOST_ROWS)
    least = min(rows, _FEWEST_ROWS)
    for repeats in range(REPEATS, _FEWEST_REPEATS - 1, -1):
        calls = repeats * len(models.encoders[0].columns)
        possible = int((MAX_WORK / calls - fixed) / max(a_row, 1))
        if possible >= min(rows, 4 * least) or (repeats == _FEWEST_REPEATS and possible >= least):
            return min(rows, possible), repeats
    return None


def _places(models: Predictor, index: int, column: str) -> np.ndarray:
    """The encoded columns that come from a column of the table."""
    own = index - len(models.encoders)
    reader = models.encoders[index] if own < 0 else models.others[own].reader
    assert isinstance(reader, Encoder)
    codes: list[Any] = list(reader.codes)
    is_raw = own >= 0 and isinstance(models.others[own].model, Trees)
    widths = [1 if is_raw else len(code.names) for code in codes]
    return np.flatnonzero(np.repeat([code.column == column for code in codes], widths))
