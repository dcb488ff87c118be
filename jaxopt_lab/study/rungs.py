"""Rungs: trials of several brackets train in turn, are compared, and the promoted go on."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.runner import Result, Runner
from jaxopt_lab.core.types import Config, Status
from jaxopt_lab.schedulers import PopulationScheduler, Rung, Scheduler
from jaxopt_lab.schedulers.base import bracket_slices
from jaxopt_lab.storage.packing import unpack_state
from jaxopt_lab.storage.store import Store

#: trial_id, configuration, fold -> a job of the full budget.
MakeJob = Callable[[int, Config, int], Job]


@dataclass
class _Bracket:
    """Trials that compete; `contenders` train to rung number `at`."""

    number: int
    rungs: tuple[Rung, ...]
    contenders: list[int]
    at: int = 0


class Rungs:
    """The queue of a phase: what trains next follows from what is stored.

    The youngest trials of all brackets train first, so that survivors of several brackets fill
    cohorts and waves together. Every decision is written; after an interruption it holds.

    Args:
      store: of the study.
      scheduler: decides who goes on.
      phase: whose trials.
      make_job: makes a job.
      runner: plans waves.
    """

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        phase: str,
        make_job: MakeJob,
        runner: Runner,
    ) -> None:
        self._store, self._scheduler, self._phase = store, scheduler, phase
        self._make_job, self._runner = make_job, runner
        settings = store.settings()
        self._folds = range(settings["num_folds"])
        mine = [t for t in store.trials() if t.phase == phase]
        self._configs = {t.trial_id: t.config for t in mine}
        self._pending = {t.trial_id for t in mine if t.status == Status.PENDING}
        self._members = {
            (m.trial_id, m.fold): (m.num_units, m.score)
            for m in store.members()
            if m.trial_id in self._configs and m.replicate == 0
        }
        self._sent: set[tuple[int, int]] = set()
        self._jobs: dict[tuple[int, int], Job] = {}
        self._brackets = self._open(settings["budget"])
        self._decide()

    def _open(self, num_epochs: int) -> list[_Bracket]:
        """All brackets of the phase as they stand; pending trials in none make new ones."""
        known = [d for d in self._store.decisions("bracket") if d["phase"] == self._phase]
        placed = {i for d in known for i in d["trials"]}
        new = sorted(self._pending - placed)
        with self._store.transaction():
            for part in bracket_slices(self._scheduler, len(new)):
                decision = {"phase": self._phase, "trials": new[part]}
                self._store.decide("bracket", decision)
                known.append(decision)
        found = [
            _Bracket(i, self._scheduler.rungs(len(d["trials"]), num_epochs), d["trials"])
            for i, d in enumerate(known)
        ]
        for decision in self._store.decisions("rung"):
            if decision["phase"] == self._phase:
                bracket = found[decision["bracket"]]
                bracket.contenders, bracket.at = decision["promoted"], decision["rung"] + 1
        return found

    @property
    def num_segments(self) -> int:
        """How many pieces of training are left if no trial diverges."""
        return sum(
            rung.num_trials * len(self._folds)
            for bracket in self._brackets
            for rung in bracket.rungs[bracket.at :]
        )

    def ready(self) -> list[Job]:
        """The jobs that can train now, the youngest first."""
        jobs = []
        for bracket in self._brackets:
            if bracket.at == len(bracket.rungs):
                continue
            until = bracket.rungs[bracket.at].num_epochs
            goes_on = bracket.at + 1 < len(bracket.rungs)
            for fold in self._folds:
                for trial_id in bracket.contenders:
                    age = self._members.get((trial_id, fold), (0, None))[0]
                    waits = age < until and (trial_id, fold) not in self._sent
                    if waits and trial_id in self._pending:
                        jobs.append(self._segment(trial_id, fold, age, until, goes_on))
        return sorted(jobs, key=_age)

    def _segment(self, trial_id: int, fold: int, age: int, until: int, goes_on: bool) -> Job:
        """The training of a network from one age to another."""
        known = self._jobs.get((trial_id, fold))
        if known is None or known.start != age:
            known = known or self._make_job(trial_id, self._configs[trial_id], fold)
            known = known._replace(start=age, num_units=until - age, resumable=goes_on)
            self._jobs[trial_id, fold] = known
        return known

    def take(self) -> Wave | None:
        """The next wave; None if there is none, or if waiting may bring it more trials.

        Trials of different ages never share one: they have different numbers of epochs to train,
        and the devices of the younger would wait for the older.
        """
        groups = itertools.groupby(self.ready(), key=_age)
        waves = (wave for _, jobs in groups for wave in self._runner.plan(list(jobs)))
        youngest = next(waves, None)
        if youngest is None:
            return None
        full = (wave for wave in itertools.chain([youngest], waves) if self._is_full(wave))
        wave = next(full, None) or (None if self._sent else youngest)
        if wave is None:
            return None
        self._sent |= {(job.trial_id, job.fold) for job in wave.jobs}
        return wave

    def _is_full(self, wave: Wave) -> bool:
        width = self._runner.width(wave.program)
        return len(wave.jobs) == width * len(self._runner.devices)

    def load(self, job: Job) -> list[np.ndarray]:
        """The state from which a trial goes on."""
        try:
            return unpack_state(self._store.kept("state", (job.trial_id, job.fold, 0)))
        except KeyError:
            raise UserError(
                "this study was left in the middle of successive halving by an earlier version of "
                "jaxopt-lab; begin in another directory"
            ) from None

    def finished(self, results: Sequence[Result]) -> None:
        """Take note of a wave that is stored; decide what can be decided."""
        for result in results:
            self._sent.discard((result.job.trial_id, result.job.fold))
        for trial_id in {result.job.trial_id for result in results}:
            for m in self._store.members_of(trial_id):
                if m.replicate == 0:
                    self._members[trial_id, m.fold] = (m.num_units, m.score)
                    if m.score is None:
                        self._pending.discard(trial_id)
        self._decide()

    def _decide(self) -> None:
        for bracket in self._brackets:
            while bracket.at + 1 < len(bracket.rungs) and self._is_over(bracket):
                self._promote(bracket)

    def _is_over(self, bracket: _Bracket) -> bool:
        """Whether all contenders that did not diverge have reached the rung on all folds."""
        until = bracket.rungs[bracket.at].num_epochs
        return all(
            self._members.get((trial_id, fold), (0, None))[0] >= until
            for trial_id in bracket.contenders
            if trial_id in self._pending
            for fold in self._folds
        )

    def _promote(self, bracket: _Bracket) -> None:
        epochs = bracket.rungs[bracket.at].num_epochs
        losses = np.array([self._loss(i) for i in bracket.contenders])
        room = min(bracket.rungs[bracket.at + 1].num_trials, len(losses))
        chosen = self._scheduler.promote(losses, room) if room else np.zeros(0, bool)
        promoted = [i for i, c in zip(bracket.contenders, chosen, strict=True) if c]
        stopped = [i for i in bracket.contenders if i in self._pending and i not in promoted]
        reason = f"not promoted after {epochs} epoch{'s' if epochs > 1 else ''}"
        with self._store.transaction():
            self._store.decide(
                "rung",
                {
                    "phase": self._phase,
                    "bracket": bracket.number,
                    "rung": bracket.at,
                    "promoted": promoted,
                },
            )
            for trial_id in stopped:
                loss = self._loss(trial_id)
                self._store.set_trial(trial_id, Status.STOPPED, loss, None, reason)
            self._store.drop("state", stopped)
        self._pending -= set(stopped)
        bracket.contenders, bracket.at = promoted, bracket.at + 1

    def _loss(self, trial_id: int) -> float:
        """Mean score over folds; NaN for a diverged trial."""
        if trial_id not in self._pending:
            return math.nan
        return float(np.mean([self._members[trial_id, fold][1] for fold in self._folds]))


def _age(job: Job) -> tuple[int, int]:
    """Epochs behind a job, and before it."""
    return job.start, job.num_units


def survivors(scheduler: Scheduler, num_trials: int, num_epochs: int) -> int:
    """How many trials a scheduler trains to the end, over all brackets."""
    sizes = [part.stop - part.start for part in bracket_slices(scheduler, num_trials)]
    return sum(scheduler.rungs(n, num_epochs)[-1].num_trials for n in sizes)


def last_trials(
    num_trials: int,
    num_epochs: int,
    race: bool,
    scheduler: Scheduler | PopulationScheduler | None,
) -> int:
    """How many trials of a phase train to the end, on all folds."""
    if isinstance(scheduler, Scheduler):
        return survivors(scheduler, num_trials, num_epochs)
    return math.ceil(num_trials / 2) if race else num_trials
