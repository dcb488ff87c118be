"""Random search: every proposal is drawn on its own."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.base import MAX_PROPOSALS, History, Sampler, check_request, generator
from jaxopt_lab.search.encoding import fill_up, first_new, known_keys, row_keys, snap
from jaxopt_lab.spaces.space import SearchSpace

#: Draws per proposal until one is new; only small spaces need more than one.
NUM_ATTEMPTS = 32
#: Fewer proposals are drawn by the program for this many: compiling another takes a second.
MIN_DRAWN = 32


@partial(jax.jit, static_argnames="num_dims")
def _draws(key: PRNGKey, indices: Int[Array, " m"], num_dims: int) -> Float[Array, "m a d"]:
    def one(index: Int[Array, ""]) -> Float[Array, "a d"]:
        shape = (NUM_ATTEMPTS, num_dims)
        return jax.random.uniform(jax.random.fold_in(key, index), shape, jnp.float32)

    return jax.vmap(one)(indices)


def uniform_draws(key: PRNGKey, start: int, n: int, num_dims: int) -> Float[np.ndarray, "n a d"]:
    """Uniform points for the proposals start, ..., start + n - 1, a attempts each.

    The draws of one proposal depend on the key and its index alone. Many are drawn by one program
    for `MAX_PROPOSALS`, called several times before anything is waited for.
    """
    padded = min(max(1 << max(n - 1, 0).bit_length(), MIN_DRAWN), MAX_PROPOSALS)
    firsts = range(start, start + max(n, 1), padded)
    draws = [_draws(key, np.arange(i, i + padded, dtype=np.int32), num_dims) for i in firsts]
    return np.concatenate(jax.device_get(draws)).astype(np.float64)[:n]


@checked_call()
def random() -> Sampler:
    """Uniform random search in the unit cube; proposal i depends on the key and i alone.

    Configurations that the history holds already are drawn again, so that a finite space is
    exhausted before anything repeats.

    Source: Bergstra & Bengio 2012, Random search for hyper-parameter optimization, JMLR 13.
    """

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        return propose_many(key, space, history, n)

    def propose_many(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n, largest=math.inf)
        known = known_keys(space, history.points)
        configs: list[Config] = []
        drawn = uniform_draws(key, len(history), n, space.num_dims)
        for start in range(0, n, MAX_PROPOSALS):
            part = drawn[start : start + MAX_PROPOSALS]
            more = space.from_unit(_new_points(key, space, known, part, len(history) + start))
            configs += more
            if len(configs) < n:
                known |= known_keys(space, space.to_unit(more))
        return configs

    return Sampler("random", propose, sees_scores=False, propose_many=propose_many)


def _new_points(
    key: PRNGKey,
    space: SearchSpace,
    known: set[bytes],
    drawn: Float[np.ndarray, "n a d"],
    first_index: int,
) -> Float[np.ndarray, "n d"]:
    """For each proposal the first of its attempts that is not known, nor an earlier proposal."""
    first = snap(space, drawn[:, 0])
    keys = row_keys(first)
    if len(set(keys)) == len(keys) and known.isdisjoint(keys):  # as nearly always
        return first
    known, rows = set(known), []
    for i, draws in enumerate(drawn):
        found = first_new(space, draws, known, 1)
        if not len(found):
            rng = generator(key, first_index + i)
            found = fill_up(space, found, draws, known, 1, rng)
        rows.append(found[0])
    return np.array(rows)
