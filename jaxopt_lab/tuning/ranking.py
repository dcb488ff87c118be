"""Which trials of a finished search are best, by all that is known of each."""

import math

import numpy as np

from jaxopt_lab.study import trials
from jaxopt_lab.study.study import Study

#: The phase of the trials of `with_members`.
MEMBERS = "members"


def over_seeds(study: Study) -> dict[int, float]:
    """Mean score over folds and seeds of the trials that were rerun; inf if one diverged."""
    scores: dict[int, list[float]] = {}
    again = set()
    for member in study.store.members():
        if member.fold < study.num_folds:
            score = math.inf if member.score is None else member.score
            scores.setdefault(member.trial_id, []).append(score)
            again |= {member.trial_id} if member.replicate else set()
    return {trial_id: float(np.mean(scores[trial_id])) for trial_id in sorted(again)}


def searched(study: Study) -> list[int]:
    """Completed trials that a search proposed, best score first."""
    rows = study.store.trials()
    return [i for i in trials.ranking(study.store) if rows[i].phase != MEMBERS]


def finalists(study: Study) -> dict[int, float]:
    """Trial -> what it is worth, of those that may win: of trials that were rerun the mean over
    all their seeds.

    Trials with members were proposed one by one, not picked as the luckiest of many, so that one
    seed says as much of them.
    """
    known = over_seeds(study)
    rows = study.store.trials(MEMBERS) if known else []
    return {**known, **{t.trial_id: t.score for t in rows if t.score is not None}}


def candidates(study: Study) -> list[int]:
    """Completed trials, best first: before all others those that may win.

    Raises:
      MachineError: if no trial is complete.
    """
    trials.best_trial(study.store)
    ranked = trials.ranking(study.store)
    rows = study.store.trials()
    known = finalists(study)
    worth = {i: known[i] for i in ranked if i in known}
    first = sorted(worth, key=lambda i: (worth[i], i))
    return [*first, *(i for i in ranked if i not in worth and rows[i].score is not None)]
