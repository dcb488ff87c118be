"""From a history to processes: what the Bayesian sampler believes of values and feasibility."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxopt_lab.core.devices import float64, on_host
from jaxopt_lab.search.base import History
from jaxopt_lab.search.encoding import features
from jaxopt_lab.search.feasibility import labels
from jaxopt_lab.search.gaussian_process import (
    Data,
    Hyperparameters,
    Posterior,
    choose_warp,
    condition,
    fit,
    incumbent,
    initial_hyperparameters,
    predict,
)
from jaxopt_lab.search.outputs import Outputs, warps
from jaxopt_lab.spaces.space import SearchSpace

#: Observations the process is conditioned on: the best half and the latest half beyond that.
MAX_OBSERVATIONS = 2048
#: Observations the hyperparameters are fitted to: the best half and a random half beyond that.
MAX_FITTED = 256
#: Observations that choose the warp.
MAX_COMPARED = 128
MIN_PADDED = 64
NUM_STARTS = 3
#: Up to so many observations all restarts climb; beyond, the one that chose the warp goes on.
FULL_EFFORT = 64
FULL_STEPS, FEWER_STEPS = 60, 25


class Models(NamedTuple):
    """The process of the values, that of feasibility if anything was infeasible, the incumbent."""

    values: Posterior
    feasibility: Posterior | None
    best: float


_BLAS = threading.RLock()


@contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Run what follows in float64 on a CPU device, whatever JAX's defaults are.

    Matrix factorisations run on one thread: their threads wait by spinning, which on a machine
    with other work has been seen to cost an order of magnitude. One caller at a time: two that both
    set that number were seen to wait for ever.
    """
    from threadpoolctl import threadpool_limits

    with _BLAS, ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        stack.enter_context(float64())
        stack.enter_context(on_host())
        yield


def padded_data(
    space: SearchSpace, points: Float[np.ndarray, "n d"], outputs: Outputs
) -> tuple[Data, Outputs]:
    """Pad observations to a power of two, so that few shapes are ever compiled.

    Returns:
      Data with the first of the outputs, and all of them, padded.
    """
    num = len(points)
    size = max(MIN_PADDED, 1 << max(num - 1, 0).bit_length())
    seen = features(space, points)
    x, mask = np.zeros((size, seen.columns.shape[1])), np.arange(size) < num
    x[:num] = seen.columns
    y, variances = (np.pad(a, ((0, 0), (0, size - num))) for a in (outputs.y, outputs.variances))
    arrays = (x, y[0], variances[0], mask, seen.owner, seen.categorical)
    return Data(*map(jnp.asarray, arrays)), Outputs(y, variances)


def chosen_rows(
    values: Float[np.ndarray, " n"], limit: int, rng: np.random.Generator | None
) -> Int[np.ndarray, " m"]:
    """The rows a large history is cut to: the best half, and the latest (or a random) half."""
    num = len(values)
    if num <= limit:
        return np.arange(num)
    order = np.argsort(values, kind="stable")
    best, rest = order[: limit // 2], np.sort(order[limit // 2 :])
    others = (
        rest[-(limit - len(best)) :] if rng is None else rng.choice(rest, limit - len(best), False)
    )
    return np.sort(np.concatenate([best, others]))


def fit_process(
    space: SearchSpace,
    points: Float[np.ndarray, "n d"],
    outputs: Outputs,
    rng: np.random.Generator,
) -> tuple[Hyperparameters, Outputs]:
    """Choose the warp, then fit hyperparameters to (a part of) the observations."""
    starts, winner = initial_hyperparameters(space.num_dims, NUM_STARTS), 0
    if len(outputs.y) > 1:
        rows = chosen_rows(outputs.y[0], MAX_COMPARED, rng)
        part = Outputs(*(array[:, rows] for array in outputs))
        data, padded = padded_data(space, points[rows], part)
        shared = jnp.asarray(padded.y), jnp.asarray(padded.variances)
        best, found = choose_warp(starts, data, *shared, FEWER_STEPS)
        winner = int(best)
        if len(points) > FULL_EFFORT:
            starts = jax.tree.map(lambda leaf: leaf[None], found)
    outputs = Outputs(*(array[winner : winner + 1] for array in outputs))
    rows = chosen_rows(outputs.y[0], MAX_FITTED, rng)
    part = Outputs(*(array[:, rows] for array in outputs))
    effort = (FULL_STEPS, None) if len(points) <= FULL_EFFORT else (FEWER_STEPS, 1)
    hyper, _ = fit(starts, padded_data(space, points[rows], part)[0], *effort)
    return hyper, outputs


def process_of(
    space: SearchSpace,
    points: Float[np.ndarray, "n d"],
    outputs: Outputs,
    pending: Float[np.ndarray, "p d"],
    rng: np.random.Generator,
) -> tuple[Posterior, float]:
    """Fit and condition; pending points are fantasised at their predictions.

    Returns:
      The process, and the lowest posterior mean at an observed point.
    """
    hyper, outputs = fit_process(space, points, outputs, rng)
    posterior = condition(hyper, padded_data(space, points, outputs)[0])
    best = float(incumbent(posterior))
    if len(pending):
        columns = features(space, pending).columns
        size = max(MIN_PADDED, 1 << (len(pending) - 1).bit_length())
        padded = np.pad(columns, ((0, size - len(pending)), (0, 0)))
        guess, _ = predict(posterior, jnp.asarray(padded))
        y = np.concatenate([outputs.y[0], np.asarray(guess)[: len(pending)]])[None]
        more = Outputs(y, np.pad(outputs.variances, ((0, 0), (0, len(pending)))))
        everything = np.concatenate([points, pending])
        posterior = condition(hyper, padded_data(space, everything, more)[0])
    return posterior, best


def fit_models(
    space: SearchSpace, points: Float[np.ndarray, "n d"], history: History, rng: np.random.Generator
) -> Models:
    """Fit everything that the acquisition function needs, of a history at snapped points."""
    observed = np.flatnonzero(history.observed)
    observed = observed[chosen_rows(history.values[observed], MAX_OBSERVATIONS, None)]
    outputs = warps(history.values[observed], history.noise[observed])
    pending = points[history.pending][-(MAX_OBSERVATIONS // 4) :]
    values, best = process_of(space, points[observed], outputs, pending, rng)
    feasibility = None
    if history.infeasible.any():
        known = np.flatnonzero(~history.pending)[-MAX_OBSERVATIONS:]
        signs = labels(history.infeasible[known])[None]
        plain = Outputs(signs, np.zeros_like(signs))
        feasibility, _ = process_of(space, points[known], plain, points[:0], rng)
    return Models(values, feasibility, best)
