"""What the user believes, tried first: proposals around a configuration, then another sampler's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.base import History, Sampler, check_request, generator
from jaxopt_lab.search.encoding import fill_up, first_new, is_categorical, known_keys
from jaxopt_lab.spaces.space import SearchSpace

#: Draws per proposal until one is new.
NUM_ATTEMPTS = 32
#: How likely a believed category is kept.
KEPT = 0.75


@checked_call()
def with_prior(
    sampler: Sampler, believed: Mapping[str, Any], num: int = 8, spread: float = 0.15
) -> Sampler:
    """The first proposals of a search are drawn around a configuration, the rest by a sampler.

    The very first is that configuration itself. Ordered parameters are drawn from a normal
    distribution in the unit cube, cut at the ends of their ranges; a category is kept three times
    out of four. The sampler then sees them like all others, so that a wrong belief costs `num`
    trials and no more.

    Args:
      sampler: what goes on afterwards.
      believed: parameter -> value; parameters that are not named are drawn uniformly.
      num: proposals around it.
      spread: standard deviation, in shares of a range (of its logarithm where the range has one).

    Raises:
      UserError: for a spread or number that cannot be; at the first proposal for a name or value
        that is not in the space.
    """
    if num < 1:
        raise UserError(f"the number of proposals from a prior must be at least 1, got {num}")
    if not 0 < spread <= 1:
        raise UserError(f"the spread of a prior must be above 0 and at most 1, got {spread}")

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        centre = centre_of(space, believed)
        known, rows = known_keys(space, history.points), []
        for i in range(len(history), min(num, len(history) + n)):
            rng = generator(key, 5, i)
            draws = _draws(space, centre, spread, rng)
            if i == 0:
                draws[0] = np.where(np.isnan(centre), draws[0], centre)
            found = first_new(space, draws, known, 1)
            rows.append(fill_up(space, found, draws, known, 1, rng)[0])
        mine = space.from_unit(np.reshape(rows, (len(rows), space.num_dims)))
        if len(mine) == n:
            return mine
        pending = np.ones(len(mine), bool)
        unknown = np.full(len(mine), np.nan)
        mine_pending = History(space.to_unit(mine), unknown, pending=pending)
        more = history.followed_by(mine_pending)
        return mine + sampler.propose(key, space, more, n - len(mine))

    return Sampler(f"{sampler.name} with prior", propose, sampler.sees_scores)


def centre_of(space: SearchSpace, believed: Mapping[str, Any]) -> Float[np.ndarray, " d"]:
    """The belief in the unit cube; NaN where there is none.

    Raises:
      UserError: for a name or value that is not in the space.
    """
    centre = np.full(space.num_dims, np.nan)
    for name, value in believed.items():
        if name not in space.parameters:
            hint = did_you_mean(name, space.parameters)
            raise UserError(f"prior: {name!r} is not a parameter of the space.{hint}")
        dist = space.parameters[name]
        if not dist.contains(value):
            raise UserError(f"prior: {name} = {value!r} is not in {dist!r}")
        centre[space.names.index(name)] = dist.to_unit(value)
    return centre


def _draws(
    space: SearchSpace, centre: Float[np.ndarray, " d"], spread: float, rng: np.random.Generator
) -> Float[np.ndarray, "a d"]:
    shape = (NUM_ATTEMPTS, space.num_dims)
    uniform, normal, keep = rng.random(shape), rng.standard_normal(shape), rng.random(shape)
    near = np.clip(centre + spread * normal, 0.0, 1.0)
    categorical = np.array([is_categorical(d) for d in space.parameters.values()], bool)
    near = np.where(categorical, np.where(keep < KEPT, centre, uniform), near)
    return np.where(np.isnan(centre), uniform, near)
