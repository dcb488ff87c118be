"""Rungs: trials of several brackets train in turn, are compared, and the promoted go on."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.core.types import Config, Status
from jaxopt_lab.planning.plan import count
from jaxopt_lab.schedulers import Bracket, PopulationScheduler, Rung, Scheduler, Standing
from jaxopt_lab.storage.packing import unpack_state
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.storage.store import Store

#: trial_id, configuration, fold -> a job of the full budget.
MakeJob = Callable[[int, Config, int], Job]
#: trial_id -> the objective after each epoch, as it is minimised, mean over folds.
CurveOf = Callable[[int], np.ndarray]


@dataclass
class _Bracket:
    """Trials that compete; `contenders` train to rung number `at`.

    The first `num_before` brackets were over when this one was opened.
    """

    number: int
    rungs: Bracket
    trials: list[int]
    contenders: list[int]
    num_before: int = 0
    at: int = 0

    @property
    def is_over(self) -> bool:
        """Whether no comparison and no training is left."""
        return self.at >= len(self.rungs)


class Rungs:
    """The queue of a phase: what trains next follows from what is stored.

    The youngest trials of all brackets train first, so that survivors of several brackets fill
    cohorts and waves together. Every decision is written; after an interruption it holds.

    Args:
      store: of the study.
      scheduler: decides who goes on.
      phase: whose trials.
      num_trials: of the phase in all.
      make_job: makes a job.
      curve_of: reads curves, for a scheduler that sees them.
      runner: plans waves.
    """

    def __init__(
        self,
        store: Store,
        scheduler: Scheduler,
        phase: str,
        num_trials: int,
        make_job: MakeJob,
        curve_of: CurveOf,
        runner: Runner,
    ) -> None:
        self._store, self._scheduler, self._phase = store, scheduler, phase
        self._num_trials, self._curve_of = num_trials, curve_of
        self._make_job, self._runner = make_job, runner
        settings = store.settings()
        self._num_folds, self._budget = settings["num_folds"], settings["budget"]
        self._unit = settings.get("problem unit", "epoch")
        is_table = settings.get("task", {}).get("kind") == "tabular"
        self._member = "fold" if is_table else "run"
        mine = [t for t in store.trials() if t.phase == phase]
        self._configs = {t.trial_id: t.config for t in mine}
        self._pending = {t.trial_id for t in mine if t.status == Status.PENDING}
        #: Those that an earlier time limit let train to the end.
        self._complete = {t.trial_id for t in mine if t.status == Status.COMPLETED}
        self._members = {
            (m.trial_id, m.fold): (m.num_units, m.score)
            for m in store.members()
            if m.trial_id in self._configs and m.replicate == 0
        }
        self._sent: set[tuple[int, int]] = set()
        self._jobs: dict[tuple[int, int], Job] = {}
        self._brackets = self._open()
        self._decide()

    def _open(self) -> list[_Bracket]:
        """All brackets of the phase as they stand; pending trials in none make new ones."""
        self._refuse_earlier()
        known = [d for d in self._store.decisions("bracket") if d["phase"] == self._phase]
        placed = {i for d in known for i in d["trials"]}
        new, before = sorted(self._pending - placed), len(known)
        with self._store.transaction():
            for rungs in self._brackets_of(len(placed), len(new)):
                mine, new = new[: rungs[0].num_trials], new[rungs[0].num_trials :]
                decision = {
                    "phase": self._phase,
                    "trials": mine,
                    "rungs": rungs,
                    "before": before,
                }
                self._store.decide("bracket", decision)
                known.append(decision)
        found = []
        for i, decision in enumerate(known):
            rungs = tuple(Rung._make(rung) for rung in decision.get("rungs", ()))
            trials, before = decision["trials"], decision.get("before", 0)
            found.append(_Bracket(i, rungs, trials, trials, before))
        for decision in self._store.decisions("rung"):
            if decision["phase"] == self._phase:
                bracket = found[decision["bracket"]]
                bracket.contenders, bracket.at = decision["promoted"], decision["rung"] + 1
        return found

    def _brackets_of(self, num_placed: int, num_new: int) -> tuple[Bracket, ...]:
        """The brackets that new trials make."""
        if not num_new:
            return ()
        if self._scheduler.in_turn:
            start = 0
            for bracket in self._scheduler.brackets(
                self._num_trials, self._budget, self._num_folds
            ):
                if (start, bracket[0].num_trials) == (num_placed, num_new):
                    return (bracket,)
                start += bracket[0].num_trials
        return self._scheduler.brackets(num_new, self._budget, self._num_folds)

    def _refuse_earlier(self) -> None:
        """Trials that an earlier version left between comparisons have no rungs to go on from.

        Raises:
          UserError: if there are any.
        """
        for kind in ("race", "bracket"):
            for decision in self._store.decisions(kind):
                if "rungs" not in decision and self._pending & set(decision["trials"]):
                    raise _left_by_earlier()

    @property
    def num_segments(self) -> int:
        """How many pieces of training are left if no trial diverges."""
        return sum(
            rung.num_trials * len(self._folds(rung))
            for bracket in self._brackets
            for rung in bracket.rungs[bracket.at :]
        )

    def _folds(self, rung: Rung) -> range:
        """On which trials train up to a rung."""
        return range(self._num_folds if rung.num_folds is None else rung.num_folds)

    def ready(self) -> list[Job]:
        """The jobs that can train now, the youngest first."""
        jobs = []
        for bracket in self._brackets:
            if bracket.is_over:
                continue
            rung = bracket.rungs[bracket.at]
            until = rung.num_epochs
            goes_on = until < self._budget
            for fold in self._folds(rung):
                for trial_id in bracket.contenders:
                    age = self._members.get((trial_id, fold), (0, None))[0]
                    waits = age < until and (trial_id, fold) not in self._sent
                    if waits and trial_id in self._pending:
                        jobs.append(self._segment(trial_id, fold, age, until, goes_on))
        return sorted(jobs, key=_age)

    def to_the_end(self, trials: Sequence[Trial]) -> list[Job]:
        """What these trials lack of whole trainings, whatever the scheduler would make of them."""
        folds = range(self._num_folds)
        members = [(trial.trial_id, fold) for fold in folds for trial in trials]
        ages = [(member, self._members.get(member, (0, None))[0]) for member in members]
        budget = self._budget
        return [self._segment(*member, age, budget, False) for member, age in ages if age < budget]

    def _segment(self, trial_id: int, fold: int, age: int, until: int, goes_on: bool) -> Job:
        """The training of a network from one age to another."""
        known = self._jobs.get((trial_id, fold))
        if known is None or (known.start, known.num_units) != (age, until - age):
            known = known or self._make_job(trial_id, self._configs[trial_id], fold)
            known = known._replace(start=age, num_units=until - age, resumable=goes_on)
            self._jobs[trial_id, fold] = known
        return known

    def take(self) -> Wave | None:
        """The next wave; None if there is none, or if waiting may bring it more trials.

        Trials of different ages share one only where each age leaves devices without a cohort and
        nobody joins it any more: the devices of the younger wait for the older.
        """
        groups = itertools.groupby(self.ready(), key=_age)
        waves = [wave for _, jobs in groups for wave in self._runner.plan(list(jobs))]
        if not waves:
            return None
        wave = next((wave for wave in waves if self._is_full(wave)), waves[0])
        if not self._is_full(wave):
            # Trials that have not begun are all known: no running wave brings them company.
            if self._sent and wave.cohorts[0].start:
                return None
            wave = self._with_others(wave, waves)
        self._sent |= {(job.trial_id, job.fold) for job in wave.jobs}
        return wave

    def _with_others(self, wave: Wave, waves: Sequence[Wave]) -> Wave:
        """A wave, its devices without a cohort given to what nobody joins any more."""
        num_devices = len(self._runner.devices)
        ages = {
            rung.num_epochs for bracket in self._brackets for rung in bracket.rungs[bracket.at : -1]
        }
        jobs, num_cohorts = list(wave.jobs), len(wave.cohorts)
        for other in waves:
            alike = other.program == wave.program and other is not wave
            start, num = other.cohorts[0].start, len(other.cohorts)
            alone = start not in ages and bool(start) == bool(wave.cohorts[0].start)
            if alike and alone and num_cohorts + num <= num_devices:
                jobs, num_cohorts = [*jobs, *other.jobs], num_cohorts + num
        return self._runner.plan(jobs)[0]

    def _is_full(self, wave: Wave) -> bool:
        width = self._runner.width(wave.program)
        return len(wave.jobs) == width * len(self._runner.devices)

    def load(self, job: Job) -> list[np.ndarray]:
        """The state from which a trial goes on."""
        try:
            return unpack_state(self._store.kept("state", (job.trial_id, job.fold, 0)))
        except KeyError:
            raise _left_by_earlier() from None

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
        """Whether all contenders that did not diverge have reached the rung on its folds."""
        rung = bracket.rungs[bracket.at]
        return all(
            self._members.get((trial_id, fold), (0, None))[0] >= rung.num_epochs
            for trial_id in bracket.contenders
            if trial_id in self._pending
            for fold in self._folds(rung)
        )

    def _promote(self, bracket: _Bracket) -> None:
        rung, following = bracket.rungs[bracket.at : bracket.at + 2]
        losses = [self._loss(i, rung) for i in bracket.contenders]
        room = min(following.num_trials, len(losses))
        standing = self._standing(bracket, losses)
        chosen = self._scheduler.promote(standing, room) if room else np.zeros(0, bool)
        promoted = [i for i, c in zip(bracket.contenders, chosen, strict=True) if c]
        found = dict(zip(bracket.contenders, losses, strict=True))
        stopped = [i for i in bracket.contenders if i in self._pending and i not in promoted]
        reason = f"not promoted after {self._so_far(rung, following)}"
        with self._store.transaction():
            self._store.decide(
                "rung",
                {
                    "phase": self._phase,
                    "bracket": bracket.number,
                    "rung": bracket.at,
                    "epochs": rung.num_epochs,
                    "trials": bracket.contenders,
                    "losses": [None if math.isnan(loss) else loss for loss in losses],
                    "promoted": promoted,
                },
            )
            for trial_id in stopped:
                self._store.set_trial(trial_id, Status.STOPPED, found[trial_id], None, reason)
            self._store.drop("state", stopped)
        self._pending -= set(stopped)
        bracket.contenders, bracket.at = promoted, bracket.at + 1

    def _so_far(self, rung: Rung, following: Rung) -> str:
        """What a trial has behind it at a rung, in words."""
        if following.num_epochs > rung.num_epochs:
            return count(rung.num_epochs, self._unit)
        return count(len(self._folds(rung)), self._member)

    def _standing(self, bracket: _Bracket, losses: list[float]) -> Standing:
        """What a scheduler is told of the contenders."""
        values = np.array(losses, np.float64)
        if not self._scheduler.sees_curves:
            return Standing(values, np.zeros((len(values), 0)), np.zeros((0, 0)), self._budget)
        age = bracket.rungs[bracket.at].num_epochs
        curves = np.full((len(values), age), np.nan)
        for i, trial_id in enumerate(bracket.contenders):
            if np.isfinite(values[i]):
                curves[i] = self._curve_of(trial_id)[:age]
        # Of brackets that run at the same time it would depend on when we ask.
        before = [i for other in self._brackets[: bracket.num_before] for i in other.trials]
        found = [self._curve_of(i) for i in before if self._reached(i, age)]
        others = np.reshape([curve[:age] for curve in found], (len(found), age))
        return Standing(values, curves, others, self._budget)

    def _reached(self, trial_id: int, age: int) -> bool:
        """Whether a trial that did not diverge came to an age on all folds."""
        mine = [self._members.get((trial_id, fold), (0, None)) for fold in range(self._num_folds)]
        return all(epochs >= age and score is not None for epochs, score in mine)

    def _loss(self, trial_id: int, rung: Rung) -> float:
        """Mean score over the folds of a rung; NaN for a diverged trial."""
        if trial_id not in self._pending | self._complete:
            return math.nan
        return float(np.mean([self._members[trial_id, fold][1] for fold in self._folds(rung)]))


def _age(job: Job) -> tuple[int, int]:
    """Epochs behind a job, and before it."""
    return job.start, job.num_units


def _left_by_earlier() -> UserError:
    return UserError(
        "this study was left in the middle of a race or of successive halving by an earlier "
        "version of jaxopt-lab; begin in another directory"
    )


def num_wanted(
    scheduler: Scheduler | PopulationScheduler | None,
    num_known: int,
    num_trials: int,
    num_epochs: int,
    num_folds: int,
    waiting: bool,
) -> int:
    """How many trials a phase should have before anything trains.

    Args:
      scheduler: of the phase.
      num_known: trials that it has.
      num_trials: that it is to have in all.
      num_epochs: of a full budget.
      num_folds: K.
      waiting: whether some of the known ones have not been trained.
    """
    if scheduler is None or num_known >= num_trials:
        return num_known
    if isinstance(scheduler, PopulationScheduler):
        return num_trials
    if not scheduler.in_turn:
        return num_trials if scheduler.gathers else num_known
    end = 0
    for rungs in scheduler.brackets(num_trials, num_epochs, num_folds):
        end += rungs[0].num_trials
        if end > num_known or (waiting and end == num_known):
            break
    return end
