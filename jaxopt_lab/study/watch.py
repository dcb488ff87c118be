"""Time limit and progress of one phase of a study."""

import time
from collections.abc import Callable, Mapping

from jaxopt_lab.core.runner import WaveReport
from jaxopt_lab.core.types import Status
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import trials
from jaxopt_lab.study.callbacks import Progress, Telling, WaveEnd


def stop_pending(
    store: Store, phase: str, limit: float | None, scores: Mapping[int, float] | None = None
) -> None:
    """The time limit expired: mark what this phase has not trained, and remember why.

    Args:
      store: of the study.
      phase: its name.
      limit: seconds.
      scores: of trials that were trained a part of their budget.
    """
    ids = [row.trial_id for row in store.trials(phase, Status.PENDING)]
    with store.transaction():
        store.decide("time limit", {"phase": phase, "seconds": limit, "stopped": ids})
        for trial_id in ids:
            score = (scores or {}).get(trial_id)
            store.set_trial(trial_id, Status.STOPPED, score, reason=trials.TIME_LIMIT)


def revive(store: Store, phase: str, limit: float | None) -> None:
    """Trials of a phase that an earlier, shorter time limit stopped go on."""
    expired = [d for d in store.decisions("time limit") if d.get("phase", phase) == phase]
    if not any(limit is None or limit > decision["seconds"] for decision in expired):
        return
    with store.transaction():
        for row in store.trials(phase, Status.STOPPED):
            if row.reason == trials.TIME_LIMIT:
                store.set_trial(row.trial_id, Status.PENDING)


#: How much longer than its limit a study may take to complete a first trial, as a share of it.
SLACK = 0.25


class Watch:
    """Stops a phase at its time limit, and tells how it goes.

    As long as no trial of the study is complete, time is kept to complete one.

    Args:
      store: of the study.
      phase: its name.
      metric: name of the score.
      spent: seconds that earlier processes spent on the study.
      started: `time.monotonic()` when this process began.
      limit: seconds after which no wave is started; None for none.
      progress: called after each wave.
      telling: of the study's callbacks.
    """

    def __init__(
        self,
        store: Store,
        phase: str,
        metric: str,
        spent: float,
        started: float,
        limit: float | None,
        progress: Callable[[Progress], None] | None,
        telling: Telling,
    ) -> None:
        self.phase, self.limit, self.struck = phase, limit, False
        self._store, self._metric, self._progress = store, metric, progress
        self.telling = telling
        self._spent, self._started = spent, started
        self._done = self._total = 0
        self._slowest = self._slowest_unit = 0.0
        #: Units of budget that complete a trial, in waves one after another.
        self.units_kept = 0

    @property
    def seconds(self) -> float:
        """Seconds spent on the study, those of earlier processes included."""
        return self._spent + time.monotonic() - self._started

    def begin(self, num_jobs: int) -> None:
        """Count from here: so many networks are to be trained."""
        self._done, self._total = 0, num_jobs

    def go_on(self, num_waves_left: int) -> bool:
        """Whether another wave, as slow as the slowest so far, ends before the limit."""
        if self.limit is not None:
            ahead = self._slowest + self._kept
            self.struck = self.struck or self.seconds + ahead > self.limit
        return not self.struck

    @property
    def _kept(self) -> float:
        """Seconds that completing a trial takes, where none is complete."""
        missing = self.units_kept and self._store.best_score() is None
        return self._slowest_unit * self.units_kept if missing else 0.0

    @property
    def may_complete(self) -> bool:
        """The limit struck: whether no trial is complete, and one can be nearly in time."""
        if self.limit is None or not self.units_kept or self._store.best_score() is not None:
            return False
        return self.seconds + self._kept <= (1 + SLACK) * self.limit

    def after(self, report: WaveReport) -> None:
        """Take note of a finished wave, and tell the caller."""
        self._done += len(report.results)
        seconds = report.seconds - report.compile_seconds
        self._slowest = max(self._slowest, seconds)
        units = max(cohort.num_units for cohort in report.wave.cohorts)
        self._slowest_unit = max(self._slowest_unit, seconds / units)
        if self._progress is None and not self.telling:
            return
        counts, score = self._store.counts(), self._store.best_score()
        score = None if score is None else trials.sign_of(self._store) * score
        progress = Progress(
            self.phase, self._done, self._total, counts, score, self._metric, self.seconds
        )
        if self._progress is not None:
            self._progress(progress)
        members = tuple((job.trial_id, job.fold, job.replicate) for job in report.jobs)
        program = str(report.wave.program)
        self.telling.wave(
            WaveEnd(progress, members, program, report.seconds, report.compile_seconds)
        )
        self.telling.settle()
