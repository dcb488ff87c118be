"""The learning curves of a study's trials, as findings read them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.objective import sign_of
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.storage.store import Store

#: Curves of more trials than this are not read: of more, so many evenly spaced ranks.
MAX_TRIALS = 200


class Learned(NamedTuple):
    """One trial that trained to the end, on its first split or seed.

    Attributes:
      trial_id: its number.
      score: lower is better.
      objective: [units] what is minimised, after each unit.
      train: [units] training loss; empty if there is none beside the objective.
      keeps_best: whether it ends with what it was after its best unit.
    """

    trial_id: int
    score: float
    objective: Float[np.ndarray, " units"]
    train: Float[np.ndarray, " train_units"]
    keeps_best: bool = False


def learned(store: Store) -> list[Learned]:
    """The trials that trained for the whole budget, best first; ties go to the lower number.

    One that a race stopped after its first fold is among them; one that diverged is not.

    Args:
      store: of a study whose units are more than one.
    """
    settings = store.settings()
    budget = int(settings.get("budget", 1))
    is_table = settings.get("task", {}).get("kind") == "tabular"
    objective = settings.get("objective", {})
    sign, metric = sign_of(objective.get("direction", "")), objective.get("metric", "")
    reached = {
        m.trial_id
        for m in store.members()
        if m.fold == 0 and m.replicate == 0 and m.num_units >= budget and m.score is not None
    }
    ranked = sorted((t for t in store.trials() if _ended(t, reached)), key=_rank)
    ranks = np.linspace(0, len(ranked) - 1, min(len(ranked), MAX_TRIALS)).round().astype(int)
    found = []
    for trial in [ranked[i] for i in ranks] if budget > 1 else ():
        member = next(
            m for m in store.member_arrays(trial.trial_id) if m.fold == 0 and m.replicate == 0
        )
        curves = {name: curve for name, curve in member.curves.items() if curve.ndim == 1}
        # The objective of a table is a function of the loss that networks train on.
        name = metric if metric in curves else "loss"
        if name in curves:
            train = curves.get("train_loss", ()) if name != "train_loss" else ()
            values = (1 if name == "loss" else sign) * np.asarray(curves[name], np.float64)
            curves_of = values, np.asarray(train, np.float64)
            keeps = is_table and bool(trial.config.get("early_stopping"))
            found.append(Learned(trial.trial_id, _score(trial), *curves_of, keeps))
    return found


def _ended(trial: Trial, reached: set[int]) -> bool:
    ended = trial.status in (Status.COMPLETED, Status.STOPPED) and trial.score is not None
    return ended and trial.trial_id in reached


def _score(trial: Trial) -> float:
    assert trial.score is not None
    return trial.score


def _rank(trial: Trial) -> tuple[float, int]:
    return _score(trial), trial.trial_id
