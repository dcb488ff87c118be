"""A population that learns while it trains: generation by generation, each written as a whole."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.keys import fold_in, fold_in_name
from jaxopt_lab.core.residents import Residents
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import WaveReport
from jaxopt_lab.core.types import Config, PyTree, Status
from jaxopt_lab.schedulers.populations import Past, PopulationScheduler, Seen, axes_of
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.packing import pack_state, unpack_state
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import records, trials
from jaxopt_lab.study.lineages import GENERATION, POPULATION, Generation, generations_of
from jaxopt_lab.study.trainings import Trainings
from jaxopt_lab.study.watch import Watch

#: The purpose of the keys of decisions: no trial has this number, and no proposals have it.
_DECISIONS = 2**31 - 2
#: Trial and split or seed.
_Place = tuple[int, int]


class _Ended(NamedTuple):
    """A generation that is over and not yet written.

    Attributes:
      record: the decision.
      reports: of its waves.
      members: as they go on.
      states: of them, packed; empty at the end of the budget.
      changed: trial -> new values.
      results: of the last generation, of which the best are kept.
    """

    record: Generation
    reports: list[WaveReport]
    members: dict[_Place, TrainedMember]
    states: dict[_Place, bytes]
    changed: dict[int, Config]
    results: dict[_Place, Result]


def open_populations(store: Store, phase: str) -> list[list[int]]:
    """The populations of a phase, by their trials; pending trials in none make a new one."""
    known = [d["trials"] for d in store.decisions(POPULATION) if d["phase"] == phase]
    placed = {trial_id for members in known for trial_id in members}
    pending = [t.trial_id for t in store.trials(phase, Status.PENDING)]
    new = [trial_id for trial_id in pending if trial_id not in placed]
    if new:
        with store.transaction():
            store.decide(POPULATION, {"phase": phase, "trials": new})
        known.append(new)
    return known


def _together(reports: Sequence[WaveReport]) -> WaveReport:
    """The waves of a generation as one."""
    results = [result for report in reports for result in report.results]
    seconds = sum(report.seconds for report in reports)
    return WaveReport(
        reports[0].wave, results, seconds, sum(report.compile_seconds for report in reports)
    )


class Population:
    """What trains next follows from what is stored; every generation is one transaction.

    Trials of different programs do not compete: each program is a population of its own, whose size
    stays. While a generation is written the devices compute the next.

    Args:
      trainings: of the study.
      space: whose values are explored.
      scheduler: decides who goes on from whom, and with which values.
      number: of this population in its phase.
      members: its trials.
      watch: of the phase: its time limit, and who is told of progress.
    """

    def __init__(
        self,
        trainings: Trainings,
        space: SearchSpace,
        scheduler: PopulationScheduler,
        number: int,
        members: Sequence[int],
        watch: Watch,
    ) -> None:
        self._trainings, self._space, self._scheduler = trainings, space, scheduler
        self._number, self._watch = number, watch
        self._every = scheduler.units(trainings.budget, trainings.unit)
        self._folds = range(trainings.training.num_members)
        rows = [t for t in trainings.store.trials() if t.trial_id in set(members)]
        self._configs = {t.trial_id: t.config for t in rows}
        self._alive = [t.trial_id for t in rows if t.status == Status.PENDING]
        self._axes = axes_of(space, trainings.training.changeable(space))
        mine = (watch.phase, number)
        self._past = [g for g in generations_of(trainings.store) if (g.phase, g.population) == mine]
        self._age = self._past[-1].unit + self._past[-1].units if self._past else 0
        self._members: dict[_Place, TrainedMember] = {}
        for trial_id in self._alive if self._age else ():
            for member in trainings.store.member_arrays(trial_id):
                if member.replicate == 0 and member.fold in self._folds:
                    self._members[trial_id, member.fold] = member
        self._states: dict[_Place, list[np.ndarray]] = {}
        self._residents = Residents(trainings.runner)
        self._unwritten: _Ended | None = None
        self._begin_generation()

    def _begin_generation(self) -> None:
        """What trains in the next generation."""
        units = min(self._every, self._trainings.budget - self._age)
        goes_on = self._age + units < self._trainings.budget
        self.jobs: list[Job] = [
            self._trainings.job(trial_id, self._configs[trial_id], fold)._replace(
                start=self._age, num_units=units, resumable=goes_on
            )
            for fold in self._folds
            for trial_id in self._alive
            if units
        ]
        self._queue: list[Wave] = []
        self._under_way, self._missing = False, 0
        self._reports: list[WaveReport] = []

    @property
    def num_segments(self) -> int:
        """How many pieces of training are left."""
        generations = math.ceil((self._trainings.budget - self._age) / self._every)
        return generations * len(self._alive) * len(self._folds)

    def take(self) -> Wave | None:
        """The next wave; None if there is none before those that run are finished."""
        if not self._under_way:
            if self._watch.limit is not None:
                self.write()  # then it is known how long a generation takes
            if not self.jobs or not self._watch.go_on(1):
                self.write()
                return None
            self._queue = self._trainings.runner.plan(self.jobs)
            self._under_way, self._missing = True, len(self._queue)
            return self._queue.pop(0)
        self.write()
        return self._queue.pop(0) if self._queue else None

    def begin(self, wave: Wave) -> PyTree | None:
        """The state in which a wave begins, if it is on the devices."""
        return self._residents.begin(wave)

    def load(self, job: Job) -> list[np.ndarray]:
        """The state from which a trial goes on."""
        place = (job.trial_id, job.fold)
        if place not in self._states:
            self._states[place] = unpack_state(self._trainings.store.kept("state", (*place, 0)))
        return self._states[place]

    def finished(self, report: WaveReport) -> None:
        """Take note of a wave; after the last of a generation decide how the next begins."""
        self._reports.append(report)
        self._missing -= 1
        if not self._missing:
            self._end_generation()

    def _end_generation(self) -> None:
        results = {
            (result.job.trial_id, result.job.fold): result
            for report in self._reports
            for result in report.results
        }
        judged = {
            place: records.judged(self._trainings.training, result, self._members.get(place))
            for place, result in results.items()
        }
        units = self.jobs[0].num_units
        is_last = self._age + units == self._trainings.budget
        scores = {trial_id: self._score(judged, trial_id) for trial_id in self._alive}
        parents, changed = ({i: i for i in self._alive}, {}) if is_last else self._decide(scores)
        record = Generation(
            self._watch.phase,
            self._number,
            len(self._past),
            self._age,
            units,
            tuple(self._alive),
            tuple(parents[i] for i in self._alive),
            tuple(scores[i] if math.isfinite(scores[i]) else None for i in self._alive),
            tuple(self._configs[i] for i in self._alive),
        )
        places = [(i, fold) for i in self._alive for fold in self._folds]
        self._members = {
            (i, fold): judged[parents[i], fold]._replace(trial_id=i) for i, fold in places
        }
        packed: dict[_Place, bytes] = {}
        for i, fold in places if not is_last else ():
            source, state = (parents[i], fold), results[parents[i], fold].state
            assert state is not None, "a trial that goes on has a state"
            self._states[i, fold] = state
            if source not in packed:
                packed[source] = pack_state(state)
        self._unwritten = _Ended(
            record,
            self._reports,
            self._members,
            {(i, fold): packed[parents[i], fold] for i, fold in places} if packed else {},
            changed,
            results if is_last else {},
        )
        self._residents.keep(self._reports, parents)
        self._past.append(record)
        self._configs.update(changed)
        lost = {i for i in self._alive if not math.isfinite(scores[i]) and parents[i] == i}
        self._alive = [i for i in self._alive if i not in lost]
        self._age += units
        self._begin_generation()

    def _score(self, judged: Mapping[_Place, TrainedMember], trial_id: int) -> float:
        """Mean score over splits and seeds; NaN if one diverged."""
        found = [judged[trial_id, fold].score for fold in self._folds]
        return math.nan if None in found else float(np.mean(np.asarray(found, np.float64)))

    def _decide(self, scores: Mapping[int, float]) -> tuple[dict[int, int], dict[int, Config]]:
        """Parents of all trials, and new values of those that are copies."""
        parents, changed = {}, {}
        for group in self._groups():
            space = self._space
            seen = Seen(
                np.array([scores[i] for i in group]),
                space.to_unit([self._configs[i] for i in group]),
                self._axes,
                self._gains(group, scores),
                len(self._past),
                math.ceil(self._trainings.budget / self._every),
            )
            found = self._scheduler.decide(self._key(group[0]), seen)
            explored = space.from_unit(found.points)
            for trial_id, parent, values in zip(group, found.parents, explored, strict=True):
                parents[trial_id] = group[int(parent)]
                if parents[trial_id] != trial_id:
                    changed[trial_id] = self._copied(self._configs[group[int(parent)]], values)
        return parents, changed

    def _copied(self, parent: Config, explored: Config) -> Config:
        """The parent's values, those that may change as explored."""
        free = {name for name, axis in zip(self._space.names, self._axes, strict=True) if axis.free}
        return {
            name: value if name in free else parent.get(name, value)
            for name, value in explored.items()
        }

    def _groups(self) -> list[list[int]]:
        """Trials that compete: those of a program."""
        found: dict[Any, list[int]] = {}
        for job in self.jobs:
            if job.fold == 0:
                found.setdefault(job.program, []).append(job.trial_id)
        return list(found.values())

    def _key(self, first: int) -> jax.Array:
        """Of a decision: by purpose, phase, population, generation and group."""
        key = jax.random.key(self._trainings.seed, impl="threefry2x32")
        key = fold_in_name(fold_in(key, _DECISIONS), self._watch.phase)
        return fold_in(key, self._number, len(self._past), first)

    def _gains(self, group: Sequence[int], scores: Mapping[int, float]) -> Past:
        """By how much the scores of trials fell in each generation but the first."""
        when, configs, gains = [], [], []
        before: dict[int, float | None] = {}
        ended: list[tuple[Any, ...]] = [
            (g.trials, g.parents, g.scores, g.configs) for g in self._past
        ]
        now = [scores[i] for i in self._alive], [self._configs[i] for i in self._alive]
        ended.append((self._alive, (), *now))
        for number, (members, parents, after, values) in enumerate(ended):
            for trial_id, score, config in zip(members, after, values, strict=True):
                first = before.get(trial_id)
                if trial_id in group and first is not None:
                    when.append(number)
                    configs.append(config)
                    gains.append(math.nan if score is None else first - score)
            known = dict(zip(members, after, strict=True))
            before = {i: known[j] for i, j in zip(members, parents, strict=False)}
        points = self._space.to_unit(configs)
        return Past(np.array(when, np.int64), points, np.array(gains, np.float64))

    def write(self) -> None:
        """Write the generation that ended last, unless it is written."""
        ended = self._unwritten
        if ended is None:
            return
        trainings, store, record = self._trainings, self._trainings.store, ended.record
        with store.transaction():
            store.decide(GENERATION, record.to_dict())
            for report in ended.reports:
                records.write_cost(store, report, record.phase, trainings.expected(report))
            for trial_id, config in ended.changed.items():
                store.set_config(trial_id, config)
            store.add_members(ended.members.values())
            for place, content in ended.states.items():
                store.keep("state", (*place, 0), content)
            if ended.results:
                self._keep_best(ended)
            over = trials.settle(
                store, record.trials, trainings.training.num_members, trainings.budget
            )
            store.drop("state", over)
            pending = store.trials_with(Status.PENDING, among=sorted(trainings.weights.trials))
            trainings.weights.keep_only([*store.best_trials(trainings.keep), *pending])
        self._unwritten = None
        self._watch.after(_together(ended.reports))

    def _keep_best(self, ended: _Ended) -> None:
        """Write the results of members that are among the study's best trials."""
        trainings, keep, record = self._trainings, self._trainings.keep, ended.record
        known = zip(record.scores, record.trials, strict=True)
        ranked = sorted((score, i) for score, i in known if score is not None)
        known_best = trainings.store.best_scores(keep)
        worst = sorted([*known_best, *(score for score, _ in ranked)])[:keep]
        for score, trial_id in ranked[:keep]:
            if score <= worst[-1]:
                for fold in self._folds:
                    params = ended.results[trial_id, fold].params
                    trainings.weights.put((trial_id, fold, 0), params, trainings.training)

    @property
    def scores(self) -> dict[int, float]:
        """Of the members that are alive, at the age that they have."""
        found = {i: self._score(self._members, i) for i in self._alive if self._members}
        return {i: score for i, score in found.items() if math.isfinite(score)}
