"""What a stored trial comes to: its status, score, rank and row in a table."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxopt_lab.core import objective
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.types import Status
from jaxopt_lab.datasets.spread import standard_error
from jaxopt_lab.storage.rows import Member, Trial
from jaxopt_lab.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

TIME_LIMIT = "the time limit struck"


def settle(
    store: Store,
    trial_ids: Sequence[int],
    num_folds: int,
    budget: int,
    written: Iterable[Member] = (),
) -> list[int]:
    """Give trials their status and score from the members they have; inside a transaction.

    Infeasible as soon as one fold is; complete when all folds have trained to the end, reruns
    apart.

    Args:
      store: of the study.
      trial_ids: which.
      num_folds: K.
      budget: epochs of a network trained to the end.
      written: members that were just written: trials of which all folds are among them need not
        be read.

    Returns:
      Those that are one of these.
    """
    by_trial: dict[int, list[Member]] = {trial_id: [] for trial_id in trial_ids}

    def note(members: Iterable[Member]) -> None:
        for member in members:
            if member.fold < num_folds and member.replicate == 0:
                by_trial[member.trial_id].append(member)

    note(written)
    partly = [trial_id for trial_id, mine in by_trial.items() if len(mine) < num_folds]
    by_trial.update({trial_id: [] for trial_id in partly})
    note(store.members_of(*partly) if partly else ())
    for mine in by_trial.values():
        mine.sort()
    kind = "fold" if store.settings().get("task", {}).get("kind") == "tabular" else "run"
    settled: list[tuple[Status, float | None, float | None, str, int]] = []
    for trial_id, mine in by_trial.items():
        scores = [m.score for m in mine if m.score is not None]
        if len(scores) < len(mine):
            failed = next(m for m in mine if m.score is None)
            reason = f"{kind} {failed.fold}: {failed.reason}"
            settled.append((Status.INFEASIBLE, None, None, reason, trial_id))
        elif sum(m.num_units == budget for m in mine) == num_folds:
            error = standard_error(np.array(scores)) if num_folds > 1 else None
            settled.append((Status.COMPLETED, mean(scores), error, "", trial_id))
    store.set_trials(settled)
    return [row[-1] for row in settled]


def mean(scores: Sequence[float]) -> float:
    """The score of a trial from those of its members; of a single one without NumPy's detour."""
    return scores[0] if len(scores) == 1 else float(np.mean(scores))


def mean_best_epochs(store: Store, trial_id: int, num_folds: int) -> int:
    """The mean of the folds' best epochs."""
    mine = [m for m in store.members_of(trial_id) if m.fold < num_folds]
    return round(float(np.mean([m.best_unit + 1 for m in mine])))


def ranking(store: Store) -> list[int]:
    """Completed trials, best score first; ties go to the lower number."""
    return store.best_trials(-1)


def counts(store: Store) -> dict[str, int]:
    """How many trials were completed, infeasible and stopped."""
    found = store.counts()
    kinds = (Status.COMPLETED, Status.INFEASIBLE, Status.STOPPED)
    return {str(kind): found[kind] for kind in kinds}


def best_trial(store: Store, doubt: Callable[[], str] = str) -> int:
    """The completed trial with the lowest score.

    Args:
      store: of the study.
      doubt: says what is wrong with the data, or ""; asked where all diverged.

    Raises:
      MachineError: if there is none, saying why.
    """
    ranked = ranking(store)
    if ranked:
        return ranked[0]
    rows = store.trials()
    infeasible = [t for t in rows if t.status == Status.INFEASIBLE]
    rates = any("learning_rate" in t.config for t in infeasible)
    advice = f"{'lower the learning rates' if rates else 'change the ranges'} of the space"
    if infeasible and len(infeasible) == len(rows):
        advice = doubt() or advice
        raise MachineError(
            f"every trial diverged ({len(rows)} of {len(rows)}; trial {infeasible[0].trial_id}: "
            f"{infeasible[0].reason}); {advice}"
        )
    if not rows:
        raise MachineError("there is no trial yet: optimize(...) makes some")
    known = [(t.score, t.trial_id) for t in rows if t.score is not None]
    so_far = ""
    if known:
        score, trial_id = min(known)
        so_far = f"; the best so far is trial {trial_id} with {sign_of(store) * score:.4g}"
    raise MachineError(
        f"no trial is complete ({len(rows)} proposed, {len(infeasible)} infeasible{so_far}): "
        "give more time, which goes on from here, or begin anew with a smaller budget"
    )


def sign_of(store: Store) -> int:
    """-1 where the study's objective is maximised: the store holds what is minimised."""
    return objective.sign_of(store.settings().get("objective", {}).get("direction", ""))


def to_frame(store: Store) -> "pd.DataFrame":
    """All trials as a table, hyperparameters as columns."""
    import pandas as pd

    sign = sign_of(store)
    rows = [
        {
            **{k: v for k, v in t._asdict().items() if k != "config"},
            "score": None if t.score is None else sign * t.score,
            **t.config,
        }
        for t in store.trials()
    ]
    frame = pd.DataFrame(
        rows, columns=None if rows else [f for f in Trial._fields if f != "config"]
    )
    if rows:
        frame["status"] = [str(s) for s in frame["status"]]
        frame["reason"] = frame.pop("reason")
    return frame
