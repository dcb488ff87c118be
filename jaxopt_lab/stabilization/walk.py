"""The usual walk of a person who calms a validation loss, step by step, in the usual order.

Lower rates, reduce on plateau, a slower second moment, clipping, larger batches, dropout and L2,
the rate with the plateau, all of them together. Each step is one variant of the base on the base's
seeds and minibatches, so that the whole argument can be seen; steps that are no cures of `members`
are trained beside them and are never recommended.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxopt_lab.core.types import Config
from jaxopt_lab.stabilization import members
from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.members import ADAPTIVE, Member

#: Family of the steps that no cure of `members` is.
FAMILY = "walk"
B2, CLIP, DROPOUT = 0.9995, 1.0, 0.3
#: Keras' `L2(0.01)` adds 0.01 * sum w^2: a gradient of 0.02 w. Ours is l2 / 2 * sum w^2, and
#: `weight_decay` of torch's SGD and Adam adds weight_decay * w: both are 0.02 for it.
KERAS_L2 = 0.02
#: A batch is at most this share of the rows.
_LARGEST_BATCH = 0.25


class Start(NamedTuple):
    """What a walk starts from.

    Attributes:
      values: role -> value of the base, of what can be changed.
      names: role -> hyperparameter.
      num_rows: training rows; None where nobody knows.
      plateau: learning rate -> what reduce on plateau changes; None where it cannot be had.
      l2: of the step of that role, and what it is called.
    """

    values: Mapping[str, float]
    names: Mapping[str, str]
    num_rows: int | None
    plateau: Callable[[float], Config] | None
    l2: tuple[float, str]


class Step(NamedTuple):
    """One step.

    Attributes:
      title: what a person calls it.
      settings: hyperparameters that differ from the base; none of a step that is left out.
      why: of a step that is left out, why.
    """

    title: str
    settings: Config
    why: str = ""


class Walked(NamedTuple):
    """A step, and the variant that took it."""

    step: Step
    member: Member | None


def of_table(base: Config, num_rows: int) -> Start:
    """The start of a table's configuration."""
    roles = ["learning_rate", "clip_norm", "clip_value", "batch_size", "dropout", "l2"]
    if base["optimizer"] in ADAPTIVE:
        roles.append("b2")
    l2 = KERAS_L2, f"L2 0.01 in Keras' sense (weight decay {KERAS_L2:g} of torch's Adam)"
    values = {role: float(base[role]) for role in roles}
    return Start(values, {r: r for r in roles}, num_rows, members.plateau, l2)


def steps(start: Start) -> list[Step]:
    """All steps, in order, those that are left out among them."""
    plateau = _plateau(start)
    found = [
        _rate(start, 10),
        _rate(start, 100),
        plateau,
        _raised(start, "b2", B2, f"b2 {B2:g}"),
        _clipped(start, "clip_value", "clip values at 1"),
        _clipped(start, "clip_norm", "clip norm at 1"),
        _batch(start, 2),
        _batch(start, 4),
        _raised(start, "dropout", DROPOUT, f"dropout {DROPOUT:g}"),
        _raised(start, "l2", *start.l2),
    ]
    # Of the rates the first, of the batches the last that can be had.
    batches = [step.settings for step in found[6:8] if step.settings]
    rate = found[0].settings
    slow = _plateau(start, 0.1).settings if rate and plateau.settings else {}
    both = Step("rate ÷10 with reduce on plateau", {**rate, **slow} if slow else {})
    if not slow:
        both = both._replace(why=found[0].why or plateau.why)
    parts = [rate, slow, *(s.settings for s in found[3:6]), *batches[-1:]]
    parts += [s.settings for s in found[8:]]
    whole: Config = {}
    for part in parts:
        whole.update(part)
    few = sum(bool(part) for part in parts) < 2
    together = Step("all of them together", {} if few else whole, "nothing to combine" * few)
    return [*found, both, together]


def _rate(start: Start, divisor: int) -> Step:
    title, rate = f"learning rate ÷{divisor}", start.values.get("learning_rate")
    if not rate or rate < 0:
        return Step(title, {}, "not declared" if rate is None else "the rate is 0")
    lower = members.times(rate, 0.1 if divisor == 10 else 0.01)
    return Step(f"{title} ({rate:.3g} → {lower:.3g})", {start.names["learning_rate"]: lower})


def _plateau(start: Start, factor: float = 1.0) -> Step:
    title, rate = "reduce on plateau (0.2, patience 5, to 1e-5)", start.values.get("learning_rate")
    if start.plateau is None or not rate or rate < 0:
        return Step(title, {}, "not declared")
    return Step(title, start.plateau(members.times(rate, factor)))


def _raised(start: Start, role: str, value: float, title: str) -> Step:
    now = start.values.get(role)
    if now is None:
        return Step(title, {}, "the optimizer has none" if role == "b2" else "not declared")
    if now >= value:
        return Step(title, {}, f"it is {now:g} already")
    return Step(title, {start.names[role]: value})


def _clipped(start: Start, role: str, title: str) -> Step:
    now = start.values.get(role)
    if now is None:
        return Step(title, {}, "not declared")
    if now <= CLIP:
        return Step(title, {}, f"it is {now:g} already")
    return Step(title, {start.names[role]: CLIP})


def _batch(start: Start, factor: int) -> Step:
    size = start.values.get("batch_size")
    if size is None or size < 1:
        return Step(f"batch ×{factor}", {}, "not declared")
    larger = int(size) * factor
    title = f"batch ×{factor} ({int(size)} → {larger})"
    if start.num_rows is not None and larger > _LARGEST_BATCH * start.num_rows:
        return Step(title, {}, f"more than a quarter of the {start.num_rows:,} rows")
    return Step(title, {start.names["batch_size"]: larger})


def walked(found: Sequence[Step], known: Iterable[Member]) -> list[Walked]:
    """The variant of each step: one that is known, or one of its own, which is no cure."""
    mine = list(known)
    rows = []
    for step in found:
        same = (m for m in mine if m.name != members.BASE and dict(m.settings) == step.settings)
        own = Member(step.title, step.settings, FAMILY, is_cure=False)
        rows.append(Walked(step, next(same, own) if step.settings else None))
    return rows


def missing(rows: Iterable[Walked]) -> list[Member]:
    """The variants that only the walk trains."""
    return [row.member for row in rows if row.member and row.member.family == FAMILY]


def table(rows: Iterable[Walked], remedies: Mapping[str, Remedy], absent: str) -> pd.DataFrame:
    """What each step did to calm and to loss.

    Args:
      rows: the walk.
      remedies: variants compared with the base, by name.
      absent: why a variant was not trained.

    Returns:
      Columns step, change, fluctuation_ratio, fluctuation_low, fluctuation_high, loss_ratio,
      loss_low, loss_high, outcome: ratios to the base with 95 % intervals over seeds, NaN of steps
      that were not taken, whose outcome says why.
    """
    return pd.DataFrame([_row(row, remedies, absent) for row in rows], columns=[*COLUMNS])


COLUMNS = (
    *("step", "change", "fluctuation_ratio", "fluctuation_low", "fluctuation_high"),
    *("loss_ratio", "loss_low", "loss_high", "outcome"),
)


def _row(row: Walked, remedies: Mapping[str, Remedy], absent: str) -> dict[str, Any]:
    step = row.step
    nothing = dict.fromkeys(COLUMNS[2:-1], float("nan"))
    change = ", ".join(f"{name} = {_short(value)}" for name, value in step.settings.items())
    found = remedies.get(row.member.name) if row.member else None
    if found is None:
        why = step.why if row.member is None else absent
        return {"step": step.title, "change": change, **nothing, "outcome": f"not tried: {why}"}
    ratios = [*found.fluctuation, *found.loss]
    numbers = dict(zip(COLUMNS[2:-1], ratios, strict=True))
    return {"step": step.title, "change": change, **numbers, "outcome": found.why}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
