"""What a constant prediction's loss is, of a supervised problem whose loss is of outputs and
targets: learning counts from there.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.supervised.batches import Rows
from jaxopt_lab.problems.supervised.losses import is_whole
from jaxopt_lab.problems.supervised.modules import parameters_of
from jaxopt_lab.stabilization.general.mended_rows import rows_of


def constant_loss(
    problem: GeneralProblem, base: Config, splits: Sequence[int] | None = None
) -> float | None:
    """Validation loss of the best constant that is tried, mean over splits: the training targets'
    mean and median, their shares as logarithms of odds, the logarithms of class shares.

    Args:
      problem: of any kind.
      base: configuration.
      splits: numbers of splits; all by default.

    Returns:
      None where there is no such thing: no outputs of one array, targets of another form, a loss of
      the module itself.
    """
    loss, data = problem.extras.get("loss"), problem.data
    if loss is None or is_whole(loss) or not _is_array(data.targets):
        return None
    if not data.valid_rows.shape[1]:
        return None
    shape = _output_shape(problem, base)
    if shape is None:
        return None
    given = {"hparams": Hparams(base)} if "hparams" in parameters_of(loss) else {}
    found = []
    for split in range(len(data.num_train)) if splits is None else splits:
        train, valid = rows_of(data, split)
        tried = [
            float(np.average(losses, weights=_weights(data, valid)))
            for constant in _constants(data.targets[train], shape, _weights(data, train))
            for losses in [_losses(loss, constant, data.targets[valid], given)]
            if losses.shape == (len(valid),)
        ]
        known = [value for value in tried if np.isfinite(value)]
        if not known:
            return None
        found.append(min(known))
    return float(np.mean(found))


def _losses(loss: Any, constant: np.ndarray, targets: np.ndarray, given: Any) -> np.ndarray:
    same = np.broadcast_to(constant, (len(targets), *constant.shape)).astype(np.float32)
    return np.asarray(loss(jnp.asarray(same), jnp.asarray(targets), **given), np.float64)


def _constants(
    targets: np.ndarray, shape: tuple[int, ...], weights: np.ndarray
) -> Iterator[np.ndarray]:
    """Outputs of one row."""
    if targets.shape[1:] == shape:
        mean = np.average(targets, axis=0, weights=weights)
        yield mean
        yield np.median(targets, axis=0)
        if targets.min() >= 0 and targets.max() <= 1:
            # Probabilities that a loss takes as logarithms of odds, or of shares.
            share = np.clip(mean, 0.5 / len(targets), 1.0 - 0.5 / len(targets))
            yield np.log(share / (1.0 - share))
            yield np.log(share)
    elif (
        targets.ndim == 1 and targets.dtype.kind in "iu" and len(shape) == 1 and targets.min() >= 0
    ):
        counts = np.bincount(targets, weights, minlength=shape[0])
        if len(counts) == shape[0]:
            # A class without training rows counts as half a row: its logarithm is finite.
            yield np.log(np.maximum(counts, 0.5) / weights.sum())


def _output_shape(problem: GeneralProblem, base: Config) -> tuple[int, ...] | None:
    """Of one row; None where outputs are no single array of numbers."""
    setting = problem.extras["setting"](**{k: base[k] for k in problem.keywords if k in base})
    hparams, network = Hparams(base), setting.network

    def outputs(key: Any) -> Any:
        example = jax.tree.map(jnp.asarray, setting.example)
        variables = network.init(key, example, hparams)
        return network.apply(variables, example, hparams, key, False)[0]

    found = jax.eval_shape(outputs, jax.random.key(0, impl="threefry2x32"))
    if not hasattr(found, "shape") or not jnp.issubdtype(found.dtype, jnp.floating):
        return None
    return tuple(found.shape[1:])


def _weights(data: Rows, rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows)) if isinstance(data.weights, tuple) else np.asarray(data.weights)[rows]


def _is_array(targets: Any) -> bool:
    return isinstance(targets, np.ndarray) and targets.dtype.kind in "fiub" and targets.size > 0
