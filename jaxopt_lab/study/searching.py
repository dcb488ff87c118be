"""One phase of a search: configurations are proposed and trained in turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.types import Status
from jaxopt_lab.schedulers import PopulationScheduler, Scheduler
from jaxopt_lab.search.base import Sampler
from jaxopt_lab.search.stopping import StoppingRule
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.study.completing import promising, units_kept
from jaxopt_lab.study.population import Population, open_populations
from jaxopt_lab.study.proposals import enough, propose, round_of
from jaxopt_lab.study.rungs import Rungs, num_wanted
from jaxopt_lab.study.trainings import Trainings
from jaxopt_lab.study.watch import Watch, stop_pending


class Rounds(NamedTuple):
    """What is proposed in a phase.

    Attributes:
      sampler: that proposes.
      num_trials: of the phase in all.
      size: proposals at a time; None for the default.
      stopping: asked before each round.
      space: where to search.
    """

    sampler: Sampler
    num_trials: int
    size: int | None
    stopping: StoppingRule | None
    space: SearchSpace


class Search:
    """Goes on from what is stored, to the end of the phase.

    Args:
      trainings: of the study.
      rounds: what is proposed.
      scheduler: who goes on; None if all train to the end.
      watch: of the phase: its time limit, and who is told of progress.
    """

    def __init__(
        self,
        trainings: Trainings,
        rounds: Rounds,
        scheduler: Scheduler | PopulationScheduler | None,
        watch: Watch,
    ) -> None:
        self._trainings, self._store = trainings, trainings.store
        self._rounds, self._scheduler, self._watch = rounds, scheduler, watch

    def run(self) -> None:
        """Propose and train in turn until the phase has its trials or its time is over."""
        rounds, watch, scheduler = self._rounds, self._watch, self._scheduler
        stops = scheduler if isinstance(scheduler, Scheduler) else None
        budget, num_folds = self._trainings.budget, self._trainings.num_folds
        phase, num_trials = watch.phase, rounds.num_trials
        while True:
            waiting = self._store.trials(phase, Status.PENDING)
            known = self._store.num_trials(phase)
            missing = num_trials - known
            # Brackets are made of all the trials that they are to hold.
            wanted = num_wanted(scheduler, known, num_trials, budget, num_folds, bool(waiting))
            if stops is not None and rounds.size is not None and not stops.in_turn:
                wanted = known
            if waiting and wanted <= known:
                self._train(waiting, num_trials)
                continue
            if missing < 1 or enough(self._store, rounds.stopping, rounds.space, phase):
                return
            if not watch.go_on(1):
                self._stop()
                return
            size = round_of(rounds.sampler, rounds.size, rounds.stopping, watch.limit)
            batch = min(missing, size)
            if wanted > known:
                batch = min(batch, wanted - known)
            if not self._propose(batch, stops):
                if not waiting:
                    return
                num_trials -= missing

    def _propose(self, num: int, stops: Scheduler | None) -> int:
        trainings, space = self._trainings, self._rounds.space
        ages = trainings.budget if stops is not None and stops.in_turn else None
        sampler = self._rounds.sampler if stops is None else stops.sampler(self._rounds.sampler)
        where = (space, self._watch.phase, trainings.seed, num)
        return propose(self._store, sampler, *where, trainings.space, ages)

    def _train(self, waiting: Sequence[Trial], num_trials: int) -> None:
        """Train pending trials as the scheduler has it."""
        scores: Mapping[int, float] | None = None
        if isinstance(self._scheduler, PopulationScheduler):
            scores = self._train_populations(self._scheduler)
        elif self._scheduler is not None:
            self._train_rungs(self._scheduler, num_trials)
        else:
            self._watch.units_kept = units_kept(self._trainings, None, num_trials)
            self._trainings.run(self._missing(waiting), self._watch)
            self._complete(self._missing)
        if self._watch.struck:
            self._stop(scores)

    def _missing(self, waiting: Sequence[Trial]) -> list[Job]:
        return self._trainings.missing(waiting, range(self._trainings.num_folds))

    def _complete(self, jobs_of: Callable[[Sequence[Trial]], list[Job]], load: Any = None) -> None:
        """Where the time limit struck before any trial was complete, complete the best so far."""
        trainings, watch = self._trainings, self._watch
        if not (watch.struck and watch.may_complete):
            return
        jobs = jobs_of(promising(trainings, watch.phase))
        waves = trainings.runner.plan(jobs)
        watch.begin(len(jobs))
        for report in trainings.runner.stream(lambda: waves.pop(0) if waves else None, load):
            trainings.record(report, watch)

    def _stop(self, scores: Mapping[int, float] | None = None) -> None:
        """The time limit expired."""
        stop_pending(self._store, self._watch.phase, self._watch.limit, scores)
        self._trainings.telling.settle()

    def _train_rungs(self, scheduler: Scheduler, num_trials: int) -> None:
        """Train up to the rungs at which a scheduler stops trials."""
        trainings, watch, runner = self._trainings, self._watch, self._trainings.runner
        trainings.telling.begin()
        where = (self._store, scheduler, watch.phase, num_trials)
        queue = Rungs(*where, trainings.job, self._objective_curve, runner)
        trainings.telling.settle()
        watch.begin(queue.num_segments)
        watch.units_kept = units_kept(trainings, scheduler, num_trials)
        trainings.fix_widths(queue.ready())
        runner.expect(runner.plan(queue.ready()))
        for report in runner.stream(lambda: queue.take() if watch.go_on(1) else None, queue.load):
            trainings.record(report, watch)
            queue.finished(report.results)
            trainings.telling.settle()
        self._complete(queue.to_the_end, queue.load)

    def _objective_curve(self, trial_id: int) -> np.ndarray:
        """[epochs] the objective after each, as it is minimised, mean over folds."""
        curves = [
            self._trainings.training.objective_curve(m.curves, m.fold)
            for m in self._store.member_arrays(trial_id)
            if m.replicate == 0 and m.fold < self._trainings.num_folds
        ]
        length = min(map(len, curves))
        return np.mean([curve[:length] for curve in curves], axis=0)

    def _train_populations(self, scheduler: PopulationScheduler) -> dict[int, float]:
        """Train the populations of the phase, one after the other; the scores of their trials."""
        trainings, watch, runner = self._trainings, self._watch, self._trainings.runner
        trainings.telling.begin()
        scores: dict[int, float] = {}
        for number, members in enumerate(open_populations(self._store, watch.phase)):
            where = (trainings, self._rounds.space)
            population = Population(*where, scheduler, number, members, watch)
            if not population.jobs:
                continue
            watch.begin(population.num_segments)
            trainings.fix_widths(population.jobs)
            runner.expect(runner.plan(population.jobs))
            waves = runner.stream(population.take, population.load, begin=population.begin)
            try:
                for report in waves:
                    trainings.trained = True
                    population.finished(report)
            finally:
                population.write()
            scores.update(population.scores)
        return scores
