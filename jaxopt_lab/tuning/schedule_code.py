"""A schedule of learning rates as Optax code."""

from collections.abc import Sequence
from typing import Any

from jaxopt_lab.problems import TabularTask
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.study.lineages import Stage
from jaxopt_lab.study.study import Study


def rate_of(study: Study) -> str | None:
    """The hyperparameter that is the problem's learning rate and is searched; None without one."""
    roles = getattr(study.problem, "roles", {})
    name = str(roles.get("learning_rate", "learning_rate"))
    return name if name in study.space.parameters else None


def updates_per_unit(study: Study, config: dict[str, Any]) -> int | None:
    """Updates of the optimizer in a unit of budget on the first split; None if nobody knows.

    Args:
      study: of a table, or of a problem from `supervised`.
      config: a trial's values.
    """
    if isinstance(study.problem, TabularTask):
        rows: Any = study.training.client.data
        size = study.training.complete(config)["batch_size"]
    elif "setting" in getattr(study.problem, "extras", {}):
        rows = study.problem.data
        size = study.problem.extras["setting"](**study.training.static_values(config)).batch_size
    else:
        return None
    return steps_per_epoch(int(rows.num_train[0]), size)


def optax_code(stages: Sequence[Stage], name: str, per_unit: int | None, unit: str) -> str:
    """Python that makes the learning rate of a schedule.

    Args:
      stages: the schedule.
      name: of the hyperparameter.
      per_unit: updates in a unit; None: the boundaries are units.
      unit: what a unit is called.

    Examples:
      >>> first = Stage(0, 0, 0, 2, None, {"lr": 0.1})
      >>> second = Stage(1, 1, 2, 2, None, {"lr": 0.05})
      >>> print(optax_code([first, second], "lr", 10, "epoch"))
      # boundaries in updates of the optimizer, 10 in each epoch
      learning_rate = optax.join_schedules(
          [optax.constant_schedule(rate) for rate in (0.1, 0.05)],
          boundaries=[20],
      )
    """
    rates: list[float] = []
    bounds: list[int] = []
    for stage in stages:
        rate = float(stage.config[name])
        if not rates or rate != rates[-1]:
            rates.append(rate)
            bounds.append(stage.unit * (per_unit or 1))
    if len(rates) == 1:
        return f"learning_rate = {rates[0]!r}"
    where = (
        f"updates of the optimizer, {per_unit} in each {unit}"
        if per_unit
        else f"{unit}s; multiply them by the updates of the optimizer in one"
    )
    return (
        f"# boundaries in {where}\n"
        "learning_rate = optax.join_schedules(\n"
        f"    [optax.constant_schedule(rate) for rate in ({', '.join(map(repr, rates))})],\n"
        f"    boundaries={bounds[1:]},\n"
        ")"
    )
