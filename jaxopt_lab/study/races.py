"""Races: trials run on one fold first, and only the better half on the others."""

import math

from jaxopt_lab.core.types import Status
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.storage.store import Store


def promote(store: Store, racing: list[Trial]) -> list[Trial]:
    """The trials that go on after fold 0; a decision taken before an interruption holds.

    Args:
      store: of the study; a new decision and the trials that it stops are written there.
      racing: pending trials.
    """
    raced = {i for race in store.decisions("race") for i in race["trials"]}
    phases = {t.phase for t in racing if t.trial_id not in raced}
    field = [
        t.trial_id
        for t in store.trials()
        if t.phase in phases
        and t.trial_id not in raced
        and t.status in (Status.PENDING, Status.INFEASIBLE)
    ]
    if field:
        _race(store, field)
    promoted = {i for race in store.decisions("race") for i in race["promoted"]}
    return [t for t in racing if t.trial_id in promoted]


def _race(store: Store, field: list[int]) -> None:
    """Stop the worse half of trials, the infeasible among them, once all have run fold 0."""
    scores = {m.trial_id: m.score for m in store.members() if m.fold == 0 and m.replicate == 0}
    if any(trial_id not in scores for trial_id in field):
        return
    finite = {i: scores[i] for i in field if scores[i] is not None}
    ranked = sorted(finite, key=lambda i: (finite[i], i))
    promoted = ranked[: max(1, math.ceil(len(field) / 2))]
    with store.transaction():
        store.decide("race", {"trials": field, "promoted": sorted(promoted)})
        for trial_id in ranked[len(promoted) :]:
            reason = "in the worse half after one fold"
            store.set_trial(trial_id, Status.STOPPED, finite[trial_id], None, reason)
