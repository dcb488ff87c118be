"""The winner once more as networks of members that share their kernels: candidates at the end.

Members cost several times as much as a network, so a whole search of them does, too. Here only
the winner's configuration is trained with them, on every fold, and taken where it scores better.
"""

from collections.abc import Callable
from typing import Any

from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.search import random
from jaxopt_lab.study.callbacks import Progress
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning.ranking import MEMBERS, candidates, finalists

#: The form whose first layer, the widest of a table's, is computed once for all members.
FORM = "late"
#: What the winner's learning rate is multiplied by: members often want a higher one.
RATES = (1.0, 2.0)


def configs(winner: Config, members: int) -> list[Config]:
    """The winner's configuration with members, at each of `RATES`; none if it has members already.

    Args:
      winner: its configuration, as it is stored.
      members: k.
    """
    whole = hyperparameters.complete(winner)
    if members == 1 or whole["ensemble_size"] > 1:
        return []
    with_members = {**winner, "ensemble_size": members, "ensemble_form": FORM}
    return [{**with_members, "learning_rate": whole["learning_rate"] * rate} for rate in RATES]


def train(
    study: Study,
    members: int,
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train them as trials of a phase of their own; goes on where it stopped.

    Args:
      study: whose search and reruns are done.
      members: k; 1 trains nothing.
      time_limit: seconds of the study. Nothing is trained unless the trials and a refit are
        expected to end in them, by what networks took so far.
      progress: called after each wave.
      say: takes a line where there is no time.
    """
    known = study.store.trials()
    winner = next(i for i in candidates(study) if known[i].phase != MEMBERS)
    mine = [t.config for t in known if t.phase == MEMBERS]
    wanted = [c for c in configs(known[winner].config, members) if c not in mine]
    if wanted and time_limit is not None and not _fits(study, members, len(wanted), time_limit):
        say(f"note: there is no time for {members} members: {time_limit:g} seconds in all")
        wanted = []
    with study.store.transaction():
        for i, config in enumerate(wanted):
            study.store.add_trial(len(known) + i, MEMBERS, config)
    number = study.store.num_trials(MEMBERS)
    if number:
        study.optimize(random(), number, time_limit=time_limit, phase=MEMBERS, progress=progress)


def _fits(study: Study, members: int, trials: int, time_limit: float) -> bool:
    """Whether networks of members, each as slow as so many of the study's, end in time."""
    waves = study.store.waves()
    running = sum(wave.seconds - wave.compile_seconds for wave in waves)
    each = running / max(sum(wave.jobs for wave in waves), 1)
    ahead = members * each * (trials * study.num_folds + len(study.runner.devices))
    return sum(wave.seconds for wave in waves) + ahead <= time_limit


def told(study: Study) -> dict[str, Any]:
    """What came of them, for `best.json`; empty where there are none."""
    rows, worth = study.store.trials(), finalists(study)
    trials = [
        {"trial_id": t.trial_id, "size": t.config["ensemble_size"], "mean": t.score}
        for t in rows
        if t.phase == MEMBERS
    ]
    without = [score for i, score in worth.items() if rows[i].phase != MEMBERS]
    return {"members": {"without": min(without, default=None), "trials": trials}} if trials else {}
