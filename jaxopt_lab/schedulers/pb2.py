"""Population-based bandits: weights from better members, values by a model of what gains."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.schedulers.exploit import read_exploit
from jaxopt_lab.schedulers.explore import drawn, moved, perturb
from jaxopt_lab.schedulers.populations import (
    MODELS,
    Axis,
    Named,
    Past,
    PopulationScheduler,
    Seen,
    make_scheduler,
)
from jaxopt_lab.search.base import generator
from jaxopt_lab.search.gaussian_process import (
    Data,
    condition,
    fit,
    initial_hyperparameters,
    predict,
)
from jaxopt_lab.search.models import float64_on_cpu

#: The latest observations that the model is conditioned on.
MAX_OBSERVATIONS = 512
#: Places that are compared for each copy, half of them near its parent's.
NUM_CANDIDATES = 256
#: Spread of those near it.
_NEAR = 0.1
_MIN_PADDED = 64


@checked_call()
def pb2(every: Any = None, exploit: Any = "truncation") -> PopulationScheduler:
    """Population-based training whose copies get values by a Gaussian-process bandit.

    The process takes (generation, values) to the gain of a member's score in that generation, and
    forgets: covariance falls with each generation between two observations, as fast as fits. A copy
    takes the values with the highest upper confidence bound for the next generation; of several
    copies each takes those before it to have come out as predicted. Unordered choices are not in
    the model: they are explored as in `population_based_training`, as all is until gains are known.

    Args:
      every: units of a generation; a tenth of the budget by default.
      exploit: as for `population_based_training`.

    Raises:
      UserError: for a setting that cannot be, naming it.

    Source: Parker-Holder, Nguyen & Roberts 2020, arXiv:2002.02518; batches as in Desautels et al.
    2014, Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit optimization.
    """
    return make_scheduler("population-based bandits", every, read_exploit(exploit), bandit())


def bandit() -> Named:
    """Exploration by upper confidence bounds."""
    by_chance = perturb().call

    def explore(key: PRNGKey, seen: Seen, parents: Any) -> Float[np.ndarray, "p d"]:
        points = by_chance(key, seen, parents)
        modelled = [j for j, axis in enumerate(seen.axes) if axis.free and axis.ordered]
        copies = np.flatnonzero(parents != np.arange(len(parents)))
        if not modelled or not len(copies) or np.isfinite(seen.past.gains).sum() < 2:
            return points
        rng = generator(key, MODELS)
        axes = [seen.axes[j] for j in modelled]
        near = seen.points[parents][copies][:, modelled]
        candidates = np.stack([_candidates(axes, place, rng) for place in near])
        points[np.ix_(copies, np.array(modelled))] = _choose(seen, modelled, candidates)
        return points

    return Named("by a bandit", explore)


def _candidates(
    axes: list[Axis], place: Float[np.ndarray, " k"], rng: np.random.Generator
) -> Float[np.ndarray, "m k"]:
    """Places over the whole of the axes, and around one of them."""
    half = NUM_CANDIDATES // 2
    columns = []
    for axis, at in zip(axes, place, strict=True):
        steps = _NEAR * rng.normal(size=half)
        around = moved(axis, np.full(half, at), steps)
        around = np.where(rng.random(half) < 0.5, at, around)
        columns.append(np.concatenate([drawn(axis, half, rng), around]))
    return np.stack(columns, axis=1)


def _choose(
    seen: Seen, modelled: list[int], candidates: Float[np.ndarray, "c m k"]
) -> Float[np.ndarray, "c k"]:
    """For each copy, the candidate with the highest upper confidence bound."""
    past = _latest(seen.past)
    y = _standardised(past.gains)
    num, num_copies = len(y), len(candidates)
    size = max(_MIN_PADDED, 1 << (num + num_copies - 1).bit_length())
    next_one = seen.generation + 1
    with float64_on_cpu():
        data = _data(past, y, modelled, seen.num_generations, size)
        starts = initial_hyperparameters(len(modelled) + 1, 3)
        hyper, _ = fit(starts, data, 40)
        # The exploration weight grows with what is known, slowly.
        kappa = np.sqrt(0.2 + max(0.0, float(np.log(0.4 * num))))
        chosen = []
        for i, places in enumerate(candidates):
            when = np.full(len(places), next_one)
            columns = _columns(when, places, seen.num_generations)
            mean, variance = map(np.asarray, predict(condition(hyper, data), jnp.asarray(columns)))
            winner = int(np.argmax(mean + kappa * np.sqrt(variance)))
            chosen.append(places[winner])
            data = data._replace(
                x=data.x.at[num + i].set(columns[winner]),
                y=data.y.at[num + i].set(mean[winner]),
                mask=data.mask.at[num + i].set(True),
            )
    return np.stack(chosen)


def _latest(past: Past) -> Past:
    kept = slice(max(0, len(past.gains) - MAX_OBSERVATIONS), None)
    return Past(*(column[kept] for column in past))


def _standardised(gains: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Mean 0 and spread 1; what diverged counts as the least of the finite gains."""
    known = np.where(np.isfinite(gains), gains, np.min(gains[np.isfinite(gains)]))
    return (known - known.mean()) / max(float(known.std()), 1e-12)


def _columns(
    generations: Any, places: Float[np.ndarray, "n k"], num_generations: int
) -> Float[np.ndarray, "n e"]:
    """What the kernel sees: values, and generations as thermometers.

    The categorical factor of the kernel is exp(-[columns that differ] / (2 length)): of two
    thermometers it is the time-varying kernel (1 - e)^(|t - t'| / 2) with 1 - e = exp(-1 / length).
    """
    steps = np.arange(1, num_generations + 1)
    thermometers = (steps <= np.asarray(generations)[:, None]).astype(np.float64)
    return np.concatenate([places, thermometers], axis=1)


def _data(
    past: Past, y: Float[np.ndarray, " n"], modelled: list[int], num_generations: int, size: int
) -> Data:
    columns = _columns(past.generations, past.points[:, modelled], num_generations)
    num, num_values = len(y), len(modelled)
    x = np.zeros((size, columns.shape[1]))
    x[:num] = columns
    owner = np.concatenate([np.arange(num_values), np.full(num_generations, num_values)])
    is_time = np.arange(columns.shape[1]) >= num_values
    arrays: tuple[Any, ...] = (
        x,
        np.pad(y, (0, size - num)),
        np.zeros(size),
        np.arange(size) < num,
        owner,
        is_time,
    )
    return jax.tree.map(jnp.asarray, Data(*arrays))
