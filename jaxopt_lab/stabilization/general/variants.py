"""Variants of a configuration by the roles that are declared: a ladder of rates, and cures."""

import math

from jaxopt_lab.core.types import Config
from jaxopt_lab.stabilization.general import decay
from jaxopt_lab.stabilization.general.knobs import Knobs
from jaxopt_lab.stabilization.members import BASE, Member, times
from jaxopt_lab.stabilization.walk import Start

#: Learning rates of the ladder, as multiples of the base's; 0 shows what training gains.
RATE_LADDER = (0.0, 0.01, 0.1, 0.3, 3.0, 10.0)
#: The member that does not learn.
UNTRAINED = "learning rate ×0"
#: Role -> values that a cure may raise it to, its family, and what a person calls it.
_RAISED = {
    "b1": ((0.95, 0.98), "b1", "b1"),
    "b2": ((0.99, 0.999, 0.9995, 0.9999), "b2", "b2"),
    "eps": ((1e-5, 1e-3), "epsilon", "epsilon"),
    "dropout": ((0.3, 0.5), "regularisation", "dropout"),
    "l2": ((0.001, 0.01, 0.1), "regularisation", "L2"),
    "weight_decay": ((0.01, 0.1, 1.0), "regularisation", "weight decay"),
    "warmup_fraction": ((0.1,), "warm-up", "warm-up over"),
}
#: Likewise lowered; in absolute numbers, since nobody knows the norms of a problem's gradients.
_LOWERED = {
    "clip_norm": ((1.0, 0.1), "clip", "clip norm at"),
    "clip_value": ((1.0, 0.1), "clip", "clip values at"),
}
#: A batch is at most this share of the rows.
_LARGEST_BATCH = 0.25


def ladder(knobs: Knobs) -> list[Member]:
    """The base, learning rates around its own, and a rate that decays, which takes the shaking of a
    constant one away.
    """
    found = [Member(BASE, {}, is_cure=False)]
    rate = knobs.value("learning_rate") or 0.0
    if rate <= 0 or not math.isfinite(rate):
        return found
    for factor in RATE_LADDER:
        lower = 0 < factor < 1
        name = f"learning rate ÷{round(1 / factor)}" if lower else f"learning rate ×{factor:g}"
        changes = knobs.settings("learning_rate", times(rate, factor))
        found.append(Member(name, changes, "learning rate", lower))
    if knobs.can_decay:
        found.append(Member("cosine decay to 0", {decay.NAME: decay.COSINE}, "schedule"))
    return found


def cures(knobs: Knobs) -> list[Member]:
    """What practice does beyond a lower rate, as far as the problem has a knob for it."""
    found = []
    for role, (values, family, name) in _RAISED.items():
        now = knobs.value(role)
        if now is not None:
            found += [
                Member(f"{name} {value:g}", knobs.settings(role, value), family)
                for value in values
                if value > now
            ]
    for role, (values, family, name) in _LOWERED.items():
        now = knobs.value(role)
        if now is None:
            continue
        lower = {*values, *((now / 3, now / 10) if 0 < now < 1e6 else ())}
        found += [
            Member(f"{name} {value:g}", knobs.settings(role, value), family)
            for value in sorted(lower, reverse=True)
            if value < now
        ]
    if knobs.can_decay:
        found.append(Member("reduce on plateau", {decay.NAME: decay.PLATEAU}, "schedule"))
    return [*found, *batches(knobs), *_pairs(knobs)]


def start(knobs: Knobs) -> Start:
    """What the usual walk starts from; what L2 means is the problem's own affair."""
    roles = ("learning_rate", "b2", "clip_norm", "clip_value", "batch_size", "dropout", "l2")
    known = {role: knobs.value(role) for role in roles}
    values = {role: value for role, value in known.items() if value is not None}
    l2 = 0.01, "L2 0.01, as it is defined"
    return Start(values, knobs.names, knobs.num_rows, _plateau if knobs.can_decay else None, l2)


def _plateau(rate: float) -> Config:
    """The same at any rate."""
    del rate
    return {decay.NAME: decay.PLATEAU}


def batches(knobs: Knobs) -> list[Member]:
    """Larger batches, at the same rate and at one that is as much larger as their noise allows: in
    as many epochs they make fewer updates. By how much is the optimizer's affair, which nobody
    knows here: by the root, which is the less.
    """
    size, rows = knobs.value("batch_size"), knobs.num_rows
    if size is None or size < 1:
        return []
    rate, found = knobs.value("learning_rate"), []
    for factor in (4, 16):
        if not (factor == 4 if rows is None else size * factor <= _LARGEST_BATCH * rows):
            continue
        larger = {knobs.names["batch_size"]: int(size) * factor}
        found.append(Member(f"batch ×{factor}", larger, "batch"))
        if rate and rate > 0:
            more = factor**0.5
            both = {**larger, **knobs.settings("learning_rate", times(rate, more))}
            found.append(Member(f"batch ×{factor} with rate ×{more:g}", both, "batch"))
    return found


def _pairs(knobs: Knobs) -> list[Member]:
    """A rate that is lower, with what often has to come with it."""
    rate, clip = knobs.value("learning_rate"), knobs.value("clip_norm")
    if not rate or rate <= 0 or clip is None or clip <= 1.0:
        return []
    changes = {
        **knobs.settings("learning_rate", times(rate, 0.3)),
        **knobs.settings("clip_norm", 1.0),
    }
    return [Member("learning rate ÷3 and clip norm at 1", changes, "pair")]
