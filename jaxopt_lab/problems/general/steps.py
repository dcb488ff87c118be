"""Front door 2: pure functions that go on, one unit of budget at a time."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.tracing.arguments import keywords_of
from jaxopt_lab.core.tracing.executors import checked_executor
from jaxopt_lab.core.tracing.naming import tidy, written
from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.general.problem import (
    REQUIRED,
    GeneralProblem,
    check_count,
    check_seeds,
    checksum,
    roles_of,
)


@checked_call()
def from_steps(
    build: Callable[..., Trainable] | Trainable,
    *,
    objective: str = "loss",
    direction: str = "minimize",
    objective_at: str = "last",
    num_seeds: Any = 1,
    data: PyTree = (),
    budget: Any = None,
    roles: Mapping[str, str] | None = None,
    executor: Any = None,
    unit: str = "step",
) -> GeneralProblem:
    """Make a problem of pure functions: reinforcement learning, GANs, anything that goes on.

    Args:
      build: keywords -> `Trainable`; the keywords are static hyperparameters, one compiled program
        for each combination of their values. Or a `Trainable` itself.
      objective: a scalar metric of `step` or `evaluate`.
      direction: "minimize" or "maximize".
      objective_at: whether the "last" or the "best" unit counts.
      num_seeds: trainings of each trial, with keys of their own.
      data: arrays that every device holds once and the functions see as `shared.data`.
      budget: units of a trial unless `optimize` says otherwise.
      roles: role -> hyperparameter, where it is not called like the role.
      executor: "vmap" or "map"; None leaves the choice to the planner.
      unit: what a unit is called in tables and messages.

    Raises:
      UserError: for what is no such builder.
    """
    num_seeds = check_seeds(num_seeds)
    for leaf in jax.tree.leaves(data):
        kind = getattr(getattr(leaf, "dtype", None), "kind", None)
        if isinstance(leaf, str | bytes) or hasattr(leaf, "columns") or kind in ("O", "S", "U"):
            raise UserError(
                f"data must be arrays of numbers, or a tree of them; got a {type(leaf).__name__}: "
                "np.asarray(frame, 'float32') makes one of a frame"
            )
    if isinstance(build, Trainable):
        fixed = build
        known_as, keywords = "Trainable", {}

        def make() -> Trainable:
            return fixed

        builder: Callable[..., Trainable] = make
    elif callable(build):
        known_as = written(build)
        builder, keywords = build, keywords_of(build, REQUIRED)
    else:
        raise UserError(f"from_steps takes a function that returns a lab.Trainable, got {build!r}")
    return GeneralProblem(
        kind="steps",
        build=builder,
        keywords=keywords,
        objective=Objective(objective, direction, objective_at),
        num_members=num_seeds,
        data=data,
        budget=None if budget is None else check_count("budget", budget),
        unit=unit,
        roles=roles_of(roles),
        source=tidy(known_as),
        identity={
            "source": known_as,
            "builder": known_as,
            "num_seeds": num_seeds,
            "data": checksum(data),
        },
        executor=checked_executor(executor),
    )
