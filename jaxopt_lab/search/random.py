"""Random search: every proposal is drawn on its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.base import History, Sampler, check_request, generator
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

    The draws of one proposal depend on the key and its index alone.
    """
    padded = max(1 << max(n - 1, 0).bit_length(), MIN_DRAWN)
    draws = _draws(key, np.arange(start, start + padded, dtype=np.int32), num_dims)
    return np.asarray(draws, np.float64)[:n]


@checked_call()
def random() -> Sampler:
    """Uniform random search in the unit cube; proposal i depends on the key and i alone.

    Configurations that the history holds already are drawn again, so that a finite space is
    exhausted before anything repeats.

    Source: Bergstra & Bengio 2012, Random search for hyper-parameter optimization, JMLR 13.
    """

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        known = known_keys(space, history.points)
        drawn = uniform_draws(key, len(history), n, space.num_dims)
        first = snap(space, drawn[:, 0])
        if len({*known, *row_keys(first)}) == len(known) + n:  # as nearly always
            return space.from_unit(first)
        rows = []
        for i, draws in enumerate(drawn):
            found = first_new(space, draws, known, 1)
            if not len(found):
                rng = generator(key, len(history) + i)
                found = fill_up(space, found, draws, known, 1, rng)
            rows.append(found[0])
        return space.from_unit(np.array(rows))

    return Sampler("random", propose, sees_scores=False)
