"""Choose the programs of a study: from its space and constants, never from a clock or from the
trials drawn.

A program costs seconds to compile; padding costs run time. `choose` takes the cheapest of all
combinations by that estimate.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxopt_lab.planning.costs import Costs, Load
from jaxopt_lab.problems.mlp.estimates import Estimate, estimate, with_cohorts
from jaxopt_lab.problems.mlp.hyperparameters import MERGEABLE, REGISTRY, features_of
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.spaces.distributions import Choice, IntUniform
from jaxopt_lab.spaces.space import SearchSpace

#: Ranges with more values than this are thinned for the estimate, and never compiled exactly.
MAX_VALUES = 16
#: Sizes to which those of a range are rounded up: at most so many, and multiples of this.
MAX_CLASSES, LANES = 6, 16
#: Smaller blocks of rows than this are not worth their fixed cost.
MIN_BLOCK = 8


def choose(space: SearchSpace, load: Load, costs: Costs, on_cpu: bool = True) -> Programs:
    """Choose the programs of a study.

    Args:
      space: the study's space; its distributions are averaged over, not sampled.
      load: how much will be trained.
      costs: constants of the machine.
      on_cpu: for the cohort width.

    Returns:
      The combination of merges with the least estimated seconds; exact shapes where that ties.
    """
    values = values_of(space)
    unit = math.gcd(*values["batch_size"])
    together = tuple(name for name in values["optimizer"] if name in MERGEABLE)
    options = itertools.product(
        _classes(values["hidden_size"]),
        _classes(values["num_layers"]),
        [0] if len(values["batch_size"]) == 1 or unit < MIN_BLOCK else [0, unit],
        [()] if len(values["activation"]) == 1 else [(), tuple(values["activation"])],
        [()] if len(together) < 2 else [(), together],
    )
    found = [
        Programs(
            widths=widths,
            depths=depths,
            block=block,
            activations=activations,
            optimizers=optimizers,
            noise_rows=unit,
            draw_width=max(values["hidden_size"]),
            features=features_of(space.extremes()),
            masked_width=widths != tuple(sorted(set(values["hidden_size"]))),
            masked_depth=depths != tuple(sorted(set(values["num_layers"]))),
        )
        for widths, depths, block, activations, optimizers in options
    ]
    found = [with_cohorts(programs, values, load, costs, on_cpu) for programs in found]
    return min(found, key=lambda programs: estimate(programs, values, load, costs, on_cpu).total)


def exact_estimate(
    space: SearchSpace, chosen: Programs, load: Load, costs: Costs, on_cpu: bool
) -> Estimate | None:
    """What `load` would cost with a program for every shape; None if they are too many."""
    values = values_of(space)
    if len(values["hidden_size"]) == MAX_VALUES or len(values["num_layers"]) == MAX_VALUES:
        return None
    exact = replace(
        chosen,
        widths=tuple(sorted(values["hidden_size"])),
        depths=tuple(sorted(values["num_layers"])),
        block=0,
        activations=(),
        optimizers=(),
    )
    exact = with_cohorts(exact, values, load, costs, on_cpu)
    return estimate(exact, values, load, costs, on_cpu)


def values_of(space: SearchSpace) -> dict[str, list[Any]]:
    """The values that each hyperparameter can take."""
    return {name: _values(space, name) for name in REGISTRY}


def _values(space: SearchSpace, name: str) -> list[Any]:
    """The values that a hyperparameter can take; a long range of integers is thinned."""
    if name in space.fixed:
        return [space.fixed[name]]
    dist = space.parameters.get(name)
    default = [REGISTRY[name].default]
    if dist is None:
        return default
    if isinstance(dist, Choice):
        return [
            *dist.ranked,
            *(default if dist.condition and default[0] not in dist.values else []),
        ]
    if isinstance(dist, IntUniform):
        low, high = int(dist.low), int(dist.high)
        if high - low < MAX_VALUES:
            return list(range(low, high + 1))
        return [dist.from_unit(i / (MAX_VALUES - 1)) for i in range(MAX_VALUES)]
    return list(dist.extremes)


def _classes(values: Sequence[int]) -> list[tuple[int, ...]]:
    """Ways to round sizes up: exactly, to powers of two, to a few sizes, to one."""
    ordered, exact, top = sorted(values), tuple(sorted(set(values))), max(values)
    thinned = len(values) >= MAX_VALUES
    doubling = {min(2 ** math.ceil(math.log2(v)), top) for v in values} | {top}
    found = [() if thinned else exact, tuple(sorted(doubling))]
    for number in range(2, min(len(exact), MAX_CLASSES) + 1):
        # As many sizes in each class; of a range, sizes that fill the vectors of a processor.
        sizes = [ordered[math.ceil(len(ordered) * i / number) - 1] for i in range(1, number + 1)]
        if thinned:
            sizes = [min(-(-size // LANES) * LANES, top) for size in sizes]
        found.append(tuple(sorted(set(sizes))))
    return [sizes for sizes in dict.fromkeys([*found, (top,)]) if sizes]
