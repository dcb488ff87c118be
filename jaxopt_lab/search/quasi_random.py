"""Quasi-random search: points of low discrepancy, scrambled by the key."""

import math

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.base import MAX_PROPOSALS, History, Sampler, check_request, generator
from jaxopt_lab.search.encoding import fill_up, first_new, known_keys
from jaxopt_lab.spaces.space import SearchSpace

KINDS = ("sobol", "halton")


def sequence(key: PRNGKey, num_points: int, num_dims: int, kind: str) -> Float[np.ndarray, "n d"]:
    """The first points of the scrambled sequence that the key stands for, in [0, 1).

    Source: Sobol 1967 with the scrambling of Matousek 1998; Halton 1960 with the random digit
    permutations of Owen 2017, arXiv:1706.02808; both as in `scipy.stats.qmc`.
    """
    if num_dims == 0:
        return np.zeros((num_points, 0))
    from scipy.stats import qmc

    rng = generator(key, 1)
    if kind == "halton":
        return qmc.Halton(num_dims, scramble=True, rng=rng).random(num_points)
    exponent = max(num_points - 1, 0).bit_length()
    return qmc.Sobol(num_dims, scramble=True, rng=rng).random_base2(exponent)[:num_points]


@checked_call()
def quasi_random(kind: str = "sobol") -> Sampler:
    """Scrambled Sobol or Halton points; a call goes on where the history ends.

    Configurations that the history holds already are skipped, so that a finite space is exhausted
    before anything repeats.

    Args:
      kind: "sobol" (best with 2^k points in all) or "halton".

    Raises:
      UserError: for another kind.

    Source: Bousquet et al. 2017, Critical hyper-parameters: no random, no cry, arXiv:1706.03200.
    """
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS)
        raise UserError(f"quasi_random: unknown kind {kind!r}.{hint} Known: {', '.join(KINDS)}")

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        return propose_many(key, space, history, n)

    def propose_many(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n, largest=math.inf)
        known, configs = known_keys(space, history.points), list[Config]()
        # A longer sequence begins with the shorter one.
        whole = sequence(key, 4 * (len(history) + n), space.num_dims, kind)
        for start in range(0, n, MAX_PROPOSALS):
            num, num_before = min(n - start, MAX_PROPOSALS), len(history) + start
            points, told = whole[: 4 * (num_before + num)], set(known)
            new = first_new(space, points[num_before:], told, num)
            rows = fill_up(space, new, points, told, num, generator(key, 2, num_before))
            more = space.from_unit(rows)
            configs += more
            if len(configs) < n:
                known |= known_keys(space, space.to_unit(more))
        return configs

    return Sampler("quasi_random", propose, sees_scores=False, propose_many=propose_many)
