"""What a sampler is told of a study's trials: their places in a space, and what they came to."""

import json
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.types import Status
from jaxopt_lab.search.base import Frame, History
from jaxopt_lab.search.region import frame_of
from jaxopt_lab.spaces.distributions import LogUniform
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.storage.store import Store

#: The coordinate of results at several ages. No hyperparameter that is a keyword has this name.
AGE = "units trained"


def history_of(store: Store, space: SearchSpace, outer: SearchSpace | None = None) -> History:
    """All trials of a study, whatever their phase, that lie in a space; the others as its frame.

    Args:
      store: of the study.
      space: where to search.
      outer: the space that other trials come from; None: they are left out.

    Trials without a score that did not diverge, the time limit having expired say, are pending.
    """
    mine, points, others = _placed(store, space)
    others = [t for t in others if t.score is not None or t.status == Status.INFEASIBLE]
    diverged = [t.status == Status.INFEASIBLE for t in mine]
    scores = [t.score for t in mine]
    return History(
        points,
        [math.nan if score is None else score for score in scores],
        infeasible=diverged,
        pending=[s is None and not bad for s, bad in zip(scores, diverged, strict=True)],
        noise=[t.standard_error or 0.0 for t in mine],
        frame=_frame(outer, space, others) if outer is not None and others else None,
    )


def _placed(
    store: Store, space: SearchSpace
) -> tuple[list[Trial], Float[np.ndarray, "n d"], list[Trial]]:
    """Trials inside a space, where they lie in its cube, and the trials outside."""
    places = store.memory.setdefault(json.dumps(space.to_dict()), {})
    rows = store.trials()
    new = [row for row in rows if row.trial_id not in places]
    places.update(dict.fromkeys(row.trial_id for row in new))
    inside = [row for row in new if space.why_outside(row.config) is None]
    where = space.to_unit([row.config for row in inside])
    places.update(zip((row.trial_id for row in inside), where, strict=True))
    mine = [row for row in rows if places[row.trial_id] is not None]
    others = [row for row in rows if places[row.trial_id] is None]
    points = [places[row.trial_id] for row in mine]
    return mine, np.reshape(np.array(points, np.float64), (len(points), space.num_dims)), others


def _frame(outer: SearchSpace, space: SearchSpace, rows: Sequence[Trial]) -> Frame | None:
    """Trials outside of a space, as a sampler can learn from them."""
    return frame_of(
        outer,
        space,
        [row.config for row in rows],
        [math.nan if row.score is None else row.score for row in rows],
        [row.status == Status.INFEASIBLE for row in rows],
        [row.standard_error or 0.0 for row in rows],
    )


def history_at_ages(
    store: Store, space: SearchSpace, outer: SearchSpace, budget: int
) -> tuple[SearchSpace, History]:
    """What `history_of` tells, and what trials came to at the rungs before the end.

    The age is a further parameter, `AGE`, logarithmic from 1 to the budget. In the space that is
    searched it is fixed at the budget; results at other ages are its frame. A trial that was
    stopped is pending at the budget, so that it is not proposed again.

    Args:
      store: of the study.
      space: where to search.
      outer: the space that trials come from.
      budget: units of a full training.

    Returns:
      The space with the age, and the history in it.
    """
    if budget < 2:
        return space, history_of(store, space, outer)
    inner = SearchSpace(**space.parameters, **space.fixed, **{AGE: float(budget)})
    age = LogUniform(1.0, float(budget))
    wide = SearchSpace(**outer.parameters, **outer.fixed, **{AGE: age})
    mine, points, others = _placed(store, space)
    configs = {t.trial_id: t.config for t in [*mine, *others]}
    early = [
        (trial_id, float(decision["epochs"]), loss)
        for decision in store.decisions("rung")
        if decision.get("epochs", budget) < budget
        for trial_id, loss in zip(decision["trials"], decision["losses"], strict=True)
        if loss is not None
    ]
    cut = {i for i, *_ in early} & set(store.trials_with(Status.STOPPED))
    late = [t for t in others if t.score is not None or t.status == Status.INFEASIBLE]
    late = [t for t in late if t.trial_id not in cut]
    frame = frame_of(
        wide,
        inner,
        [
            *({**configs[i], AGE: epochs} for i, epochs, _ in early),
            *({**t.config, AGE: float(budget)} for t in late),
        ],
        [*(loss for *_, loss in early), *(math.nan if t.score is None else t.score for t in late)],
        [*(False for _ in early), *(t.status == Status.INFEASIBLE for t in late)],
        [*(0.0 for _ in early), *(t.standard_error or 0.0 for t in late)],
    )
    known = [None if t.trial_id in cut else t.score for t in mine]
    diverged = [t.status == Status.INFEASIBLE for t in mine]
    history = History(
        points,
        [math.nan if score is None else score for score in known],
        infeasible=diverged,
        pending=[s is None and not bad for s, bad in zip(known, diverged, strict=True)],
        noise=[t.standard_error or 0.0 for t in mine],
        frame=frame,
    )
    return inner, history
