"""A study: search space and problem in, trained and scored trials out, every wave on disk."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxopt_lab import schedulers, search
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.runner import Runner, WaveReport
from jaxopt_lab.core.types import Config, PyTree, Status
from jaxopt_lab.planning.costs import Costs
from jaxopt_lab.planning.plan import Plan
from jaxopt_lab.planning.sizing import sizing_of
from jaxopt_lab.problems.contract import Amount, Problem, Programs, Training
from jaxopt_lab.problems.tabular.task import reopen
from jaxopt_lab.schedulers import PopulationScheduler, Scheduler
from jaxopt_lab.search.base import Sampler
from jaxopt_lab.search.stopping import StoppingRule
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.agreement import agree
from jaxopt_lab.storage.rows import MemberKey, Trial
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import lineages, outside, races, records, trials, views
from jaxopt_lab.study.incumbent import Incumbent, incumbent_of
from jaxopt_lab.study.lineages import Stage
from jaxopt_lab.study.population import Host, Population, open_populations
from jaxopt_lab.study.proposals import enough, enqueue, first_proposals, propose, round_of
from jaxopt_lab.study.replays import Replay, Trained, cut, train_schedule
from jaxopt_lab.study.rungs import Rungs, last_trials
from jaxopt_lab.study.watch import Progress, Watch, revive, stop_pending
from jaxopt_lab.study.weights import Weights
from jaxopt_lab.study.widths import fix_widths

if TYPE_CHECKING:
    import pandas as pd

OnProgress = Callable[[Progress], None]


class Study:
    """Trains configurations of a space on a problem, and remembers everything.

    Args:
      problem: what is trained: from `tasks.tabular`, `supervised`, `from_steps`, `from_function`.
      space: search space.
      directory: where to keep the study; None keeps it in memory.
      seed: of splits, proposals, initial weights, data order and noise.
      devices: JAX devices; all local ones by default.
      costs: of the devices, from `read_costs`; those the study began with, or shipped ones.
      memory_limit: bytes that training may take on all devices; see `sizing.Sizing`.
      cohort_width: the most trials that train together on a device.
      keep: the best trials of which results (weights, say) are kept.

    Raises:
      UserError: if the directory holds a study with other settings, naming them.
    """

    def __init__(
        self,
        problem: Problem,
        space: SearchSpace,
        directory: str | Path | None = None,
        seed: int = 0,
        devices: Sequence[jax.Device] | None = None,
        *,
        costs: Costs | None = None,
        memory_limit: int | None = None,
        cohort_width: int | None = None,
        keep: int = records.KEPT_TRIALS,
    ) -> None:
        self.problem: Any = problem
        self.space, self.seed, self.keep = space, seed, keep
        self.directory = None if directory is None else Path(directory)
        problem.check(space)
        self._devices = list(devices or jax.local_devices())
        self.sizing = sizing_of(self._devices, costs, memory_limit, cohort_width)
        self.store = Store.open(directory)
        self.weights = Weights(self.store)
        self._runner: Runner | None = None
        self._programs: Programs | None = None
        self._budget = 0
        self._training: Training | None = None
        self._started = time.monotonic()
        #: What earlier processes spent on this study's waves.
        self._seconds_before = sum((w.seconds for w in self.store.waves()), 0.0)
        #: Whether this process has trained anything.
        self.trained = False
        identity = {
            "task": problem.describe(),
            "space": space.to_dict(),
            "seed": seed,
            "objective": asdict(problem.objective),
            "problem unit": problem.unit,
            # Told, not held: the programs and widths that were chosen for it are stored.
            "num_devices": self.store.settings().get("num_devices", len(self._devices)),
            "device": self._devices[0].platform,
            **({} if costs is None else {"costs": asdict(costs)}),
        }
        try:
            self._agree(identity)
            # In the order in which it was first given: proposals depend on it.
            self.space = SearchSpace.from_dict(self.store.setting("space"))
            known = self.store.settings().get("costs", asdict(self.sizing.costs))
            self.sizing = replace(self.sizing, costs=Costs(**known))
            with self.store.transaction():
                self.store.set("table path", getattr(problem, "location", ""))
        except BaseException:
            self.store.close()
            raise

    @classmethod
    def load(
        cls,
        directory: str | Path,
        source: "str | Path | pd.DataFrame | None" = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> "Study":
        """Open a study again.

        Args:
          directory: where it is kept.
          source: its table; None reads it from where it was.
          devices: JAX devices; all local ones by default.

        Raises:
          UserError: if there is no study, or the table has moved or changed.
        """
        store = Store.open(directory, read_only=True)
        settings = store.settings()
        store.close()
        task = reopen(settings["task"], settings["table path"] if source is None else source)
        space = SearchSpace.from_dict(settings["space"])
        return cls(task, space, directory, settings["seed"], devices)

    def close(self) -> None:
        """Close the study's file."""
        self.store.close()

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _agree(self, wanted: dict[str, Any]) -> None:
        agree(self.store, wanted, self.directory)

    def _watch(self, phase: str, limit: float | None, progress: OnProgress | None) -> Watch:
        spent, started = self._seconds_before, self._started
        return Watch(
            self.store, phase, self.problem.objective.metric, spent, started, limit, progress
        )

    @property
    def num_folds(self) -> int:
        """K, once `optimize` has been called."""
        return int(self.store.setting("num_folds"))

    @property
    def training(self) -> Training:
        """The problem ready to train, once `optimize` has been called."""
        if self._training is None:
            num_folds = self.store.settings().get("num_folds")
            self._training = self.problem.training(self.space, num_folds, self.seed)
        return self._training

    @property
    def runner(self) -> Runner:
        """What trains networks; its cohort widths are the stored ones."""
        if self._runner is None:
            self._runner = Runner(self.training.client, self.seed, {}, self._devices)
        return self._runner

    def configure(self, budget: int | None = None, num_splits: int | None = None) -> int:
        """Fix the budget of every trial, or check that it is the one the study began with.

        Args:
          budget: units of each trial; None for the problem's own.
          num_splits: K of the cross-validation of a table; None for the problem's own.

        Returns:
          The budget.

        Raises:
          UserError: for a budget below 1, or another than before.
        """
        known, unit = self.store.settings(), self.problem.unit
        if budget is None:
            budget = known.get("budget", getattr(self.problem, "budget", None))
        if budget is None:
            raise UserError(f"say how long trials train: optimize(..., budget=N), in {unit}s")
        if budget < 1:
            raise UserError(f"the number of {unit}s must be at least 1, got {budget}")
        if num_splits is None:
            num_splits = known.get("num_folds")
        if num_splits is not None and num_splits < 1:
            raise UserError(f"the number of folds must be at least 1, got {num_splits}")
        training = self.problem.training(self.space, num_splits, self.seed)
        self._agree({"budget": budget, "num_folds": training.num_members})
        return budget

    def _amount(self, trials: int, budget: int, last: int | None = None) -> Amount:
        return Amount(trials, budget, len(self._devices), last)

    @property
    def programs(self) -> Programs:
        """Which shapes trials are rounded up to, once `optimize` has been called."""
        if self._programs is None:
            self._programs = self.training.programs_from(self.store.setting("programs"))
        return self._programs

    def enqueue(self, configs: Sequence[Mapping[str, Any]], phase: str = "search") -> None:
        """Put configurations before a sampler's own; see `proposals.enqueue`."""
        enqueue(self.store, self.space, phase, configs)

    def optimize(
        self,
        sampler: Sampler | str,
        num_trials: int,
        num_epochs: int | None = None,
        num_folds: int | None = None,
        *,
        budget: int | None = None,
        time_limit: float | None = None,
        race: bool = False,
        scheduler: Scheduler | PopulationScheduler | str | None = None,
        phase: str = "search",
        space: SearchSpace | None = None,
        round_size: int | None = None,
        stopping: StoppingRule | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Propose and train until the phase has `num_trials` trials; goes on where it stopped.

        Args:
          sampler: from `search`, or its name on the command line.
          num_trials: configurations of this phase in all, finished ones included.
          num_epochs: the same as `budget`, of a problem whose units are epochs.
          num_folds: K of the cross-validation of a table, 5 by default; 1 is one hold-out split.
            Other problems have their own splits.
          budget: units of each trial; the problem's own by default.
          time_limit: seconds after which no wave is started and nothing more is proposed; what was
            proposed by then is marked stopped.
          race: train on one fold first, and only the better half on the others.
          scheduler: from `schedulers`, or its name: stops trials early, unlike `race` on all
            folds at once, or makes them a population that learns while it trains.
          phase: a name for this search.
          space: search here instead of in the study's space.
          round_size: proposals at a time, between which the sampler sees results; see
            `proposals.round_of` for the default.
          stopping: from `stopping`: asked before each round of proposals.
          progress: called after each wave.

        Raises:
          UserError: for settings other than those the study began with.
        """
        if num_trials < 1:
            raise UserError(f"the number of trials must be at least 1, got {num_trials}")
        if scheduler is not None and race:
            raise UserError("give race or a scheduler, not both")
        sampler, scheduler = _sampler(sampler), _scheduler(scheduler)
        num_epochs = self.configure(_budget(num_epochs, budget), num_folds)
        if isinstance(scheduler, PopulationScheduler):
            scheduler.units(num_epochs, self.problem.unit)  # refuses before anything is stored
        num_folds = self.num_folds
        self._agree({f"sampler of {phase}": sampler.name, f"race of {phase}": race})
        self._agree({f"scheduler of {phase}": scheduler.name if scheduler else "none"})
        last = last_trials(num_trials, num_epochs, race, scheduler)
        if "programs" not in self.store.settings():
            amount = self._amount(num_trials, num_epochs, last)
            chosen = self.training.choose(self.space, amount, self.sizing)
            self._agree({"programs": chosen.to_dict(), "costs": asdict(self.sizing.costs)})
        watch = self._watch(phase, time_limit, progress)
        revive(self.store, phase, time_limit)
        while True:
            waiting = self.store.trials(phase, Status.PENDING)
            missing = num_trials - self.store.num_trials(phase)
            # Brackets are made of all the trials that they are to hold.
            proposing = scheduler is not None and round_size is None and missing > 0
            if waiting and not proposing:
                if isinstance(scheduler, PopulationScheduler):
                    self._train_populations(scheduler, watch, space or self.space)
                elif scheduler is not None:
                    self._train_rungs(scheduler, watch)
                else:
                    self._train(waiting, race and num_folds > 1, watch)
                continue
            if missing < 1 or enough(self.store, stopping, space or self.space, phase):
                return
            if not watch.go_on(1):
                stop_pending(self.store, phase, time_limit)
                return
            batch = min(missing, round_of(sampler, round_size, stopping, time_limit))
            where = space or self.space
            if not propose(self.store, sampler, where, phase, self.seed, batch, self.space):
                if not waiting:
                    return
                num_trials -= missing

    def _train(self, waiting: list[Trial], race: bool, watch: Watch) -> None:
        """Train pending trials on the folds they still lack."""
        folds = range(self.num_folds)
        if race:
            self._run(self._jobs(waiting, [0]), watch)
            waiting = races.promote(self.store, waiting)
        self._run(self._jobs(waiting, folds), watch)
        if watch.struck:
            stop_pending(self.store, watch.phase, watch.limit)

    def _train_rungs(self, scheduler: Scheduler, watch: Watch) -> None:
        """Train pending trials up to the rungs at which a scheduler stops them."""
        queue = Rungs(self.store, scheduler, watch.phase, self.job, self.runner)
        watch.begin(queue.num_segments)
        self._fix_widths(queue.ready())
        self.runner.expect(self.runner.plan(queue.ready()))
        waves = self.runner.stream(lambda: queue.take() if watch.go_on(1) else None, queue.load)
        for report in waves:
            self._record(report, watch)
            queue.finished(report.results)
        if watch.struck:
            stop_pending(self.store, watch.phase, watch.limit)

    def _train_populations(
        self, scheduler: PopulationScheduler, watch: Watch, space: SearchSpace
    ) -> None:
        """Train the populations of a phase, one after the other."""
        budget = int(self.store.setting("budget"))
        host = Host(
            self.store,
            self.weights,
            self.training,
            self.runner,
            space,
            self.seed,
            budget,
            self.problem.unit,
            self.keep,
            self.job,
            self._expected,
        )
        scores: dict[int, float] = {}
        for number, members in enumerate(open_populations(self.store, watch.phase)):
            population = Population(host, scheduler, number, members, watch)
            if not population.jobs:
                continue
            watch.begin(population.num_segments)
            self._fix_widths(population.jobs)
            self.runner.expect(self.runner.plan(population.jobs))
            try:
                for report in self.runner.stream(
                    population.take, population.load, begin=population.begin
                ):
                    self.trained = True
                    population.finished(report)
            finally:
                population.write()
            scores.update(population.scores)
        if watch.struck:
            stop_pending(self.store, watch.phase, watch.limit, scores)

    def _jobs(self, rows: Sequence[Trial], folds: Sequence[int]) -> list[Job]:
        """The members that these trials still lack on these folds, fold by fold."""
        first = min((row.trial_id for row in rows), default=0)
        done = {member.key for member in self.store.members(first)}
        return [
            self.job(row.trial_id, row.config, fold)
            for fold in folds
            for row in rows
            if (row.trial_id, fold, 0) not in done
        ]

    def job(
        self, trial_id: int, config: Config, fold: int, replicate: int = 0, num_epochs: int = 0
    ) -> Job:
        """One network to train, within this study's budget."""
        budget = self._budget = self._budget or int(self.store.setting("budget"))
        full = self.training.complete(config)
        program = self.programs.signature(full)
        return Job(trial_id, fold, replicate, full, program, num_epochs or budget, budget)

    def plan(
        self,
        num_trials: int,
        num_epochs: int | None = None,
        num_folds: int | None = None,
        *,
        budget: int | None = None,
        race: bool = False,
        scheduler: Scheduler | PopulationScheduler | str | None = None,
        num_first: int | None = None,
    ) -> Plan:
        """What `optimize` with random search would compile and run, and how long that takes.

        Args:
          num_trials: as for `optimize`, like those that follow.
          num_first: trials of the first of several phases, for which programs are chosen.
        """
        training = self.problem.training(self.space, num_folds, self.seed)
        units = _budget(num_epochs, budget) or getattr(self.problem, "budget", None)
        if units is None:
            raise UserError(
                f"say how long trials train: plan(..., budget=N), in {self.problem.unit}s"
            )
        scheduler = _scheduler(scheduler)
        if isinstance(scheduler, PopulationScheduler):
            scheduler = None  # it trains as many units
        num_epochs = units
        first = num_first or num_trials
        last = last_trials(first, num_epochs, race, scheduler)
        amount = self._amount(first, num_epochs, last)
        configs = first_proposals(search.random(), self.space, self.seed, num_trials)
        return training.plan(configs, self.space, amount, self.sizing, race, scheduler)

    def _run(self, jobs: list[Job], watch: Watch) -> None:
        """Train jobs; each finished wave is one transaction."""
        if not jobs or watch.struck:
            return
        watch.begin(len(jobs))
        self._fix_widths(jobs)
        for report in self.runner.run(jobs, watch.go_on):
            self._record(report, watch)

    def _expected(self, report: WaveReport) -> tuple[float, float]:
        """Seconds to compile a wave's program and to run it, by the costs of the devices."""
        width, amount = self.runner.width(report.wave.program), self._amount(1, 1, 1)
        return self.training.expected_seconds(
            report.wave, width, self.programs, amount, self.sizing
        )

    def _record(self, report: WaveReport, watch: Watch) -> None:
        self.trained = True
        where = (self.store, self.weights, self.training)
        records.write_wave(*where, report, watch.phase, self._expected(report), self.keep)
        watch.after(report)

    def _fix_widths(self, jobs: Sequence[Job]) -> None:
        fix_widths(self.store, self.runner, self.sizing, self.training, self.programs, jobs)

    def recall(self, kind: str, decide: Callable[[], Any], again: bool = False) -> Any:
        """A decision taken before, or taken now and stored; `again` replaces it."""
        known = self.store.decisions(kind)
        if known and not again:
            return known[-1]
        value = decide()
        if not known or known[-1] != value:
            with self.store.transaction():
                self.store.decide(kind, value)
        return value

    def schedule(self, trial_id: int) -> list[Stage]:
        """The values that a trial's state was trained with, from its root on; one stage for a trial
        of no population."""
        row = self.store.trials()[trial_id]
        units = max((m.num_units for m in self.store.members_of(trial_id)), default=0)
        generations = lineages.generations_of(self.store)
        return lineages.schedule_of(generations, trial_id, row.config, row.score, units)

    def replay(self, trial_id: int | None = None) -> Replay:
        """Train the schedule of a trial alone; what is stored stays as it is.

        In the same program on the same kind of device the curves are the same bit for bit.

        Args:
          trial_id: the best one by default.

        Raises:
          UserError: for a trial that was not trained.
        """
        trial_id = trials.best_trial(self.store) if trial_id is None else trial_id
        if not 0 <= trial_id < self.store.num_trials():
            raise UserError(f"there is no trial {trial_id}; give a number below {len(self.trials)}")
        stages = self.schedule(trial_id)
        members = [
            m
            for m in self.store.member_arrays(trial_id)
            if m.replicate == 0 and m.fold < self.training.num_members
        ]
        if not members or not stages[-1].units:
            raise UserError(f"trial {trial_id} was not trained; replay another one")
        found = self._train_schedule(stages, [m.fold for m in members])
        frame = lineages.schedule_frame(stages, self.problem.objective.sign)
        return Replay(frame, [t.member.curves for t in found], [m.curves for m in members])

    def _train_schedule(
        self, stages: Sequence[Stage], folds: Sequence[int], replicate: int = 0
    ) -> list[Trained]:
        self._fix_widths([self.job(stages[0].trial_id, stages[0].config, fold) for fold in folds])
        return train_schedule(self.runner, self.training, self.job, stages, folds, replicate)

    def _write_schedule(
        self, trial_id: int, stages: Sequence[Stage], folds: Sequence[int], replicate: int
    ) -> None:
        """Train the schedule of a trial on other rows or with other seeds, and keep the results."""
        for trained in self._train_schedule(stages, folds, replicate):
            m = trained.member
            facts = (trial_id, m.fold, replicate, m.score, m.reason, m.best_unit)
            with self.store.transaction():
                self.store.add_member(*facts, m.curves, m.outputs, m.num_units)
                params = trained.result.params
                self.weights.put((trial_id, m.fold, replicate), params, self.training)

    def rerun(
        self,
        trial_ids: Sequence[int],
        replicate: int,
        time_limit: float | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Train trials once more on every fold with other seeds: other weights, other order."""
        done = {member.key for member in self.store.members()}
        rows = self.store.trials()
        schedules = {i: self.schedule(i) for i in trial_ids}
        jobs = [
            self.job(i, rows[i].config, fold, replicate)
            for fold in range(self.num_folds)
            for i in trial_ids
            if (i, fold, replicate) not in done and len(schedules[i]) == 1
        ]
        for i, stages in schedules.items():
            left = [k for k in range(self.num_folds) if (i, k, replicate) not in done]
            if left and len(stages) > 1:
                self._write_schedule(i, stages, left, replicate)
        self._run(jobs, self._watch("rerun", time_limit, progress))

    def kept(self, member: MemberKey) -> PyTree:
        """What is kept of (trial, fold, replicate): weights, say.

        Raises:
          KeyError: if it was not kept.
        """
        config = self.training.complete(self.store.trials()[member[0]].config)
        return self.weights.get(member, self.training, self.programs.signature(config))

    def refit(self, trial_id: int) -> PyTree:
        """What a trial's configuration gives when it is trained on all rows that are no test rows.

        With early stopping it trains for the mean of the folds' best epochs: no row is left to
        validate on. `reduce_on_plateau` then watches the training loss.

        Raises:
          UserError: for a problem without rows.
        """
        training = self.training
        if training.refit_member is None:
            raise UserError("only a problem with splits of rows can be refitted on all of them")
        member = (trial_id, training.refit_member, 0)
        if not self.weights.has(member):
            config = training.complete(self.store.trials()[trial_id].config)
            best = trials.mean_best_epochs(self.store, trial_id, self.num_folds)
            units = training.refit_units(config, best)
            stages = cut(self.schedule(trial_id), units or int(self.store.setting("budget")))
            if len(stages) > 1:
                self._write_schedule(trial_id, stages, [training.refit_member], 0)
                return self.kept(member)
            job = self.job(trial_id, config, training.refit_member, num_epochs=units)
            self._run([job], self._watch("refit", None, None))
        return self.kept(member)

    def ask(self, n: int, sampler: Sampler | str = "random") -> list[outside.Asked]:
        """Propose n trials for somebody else to train; see `outside.ask`."""
        return outside.ask(self.store, _sampler(sampler), self.space, self.seed, n)

    def tell(
        self, configs: Sequence[Mapping[str, Any] | outside.Asked], values: Sequence[float | None]
    ) -> list[int]:
        """Write the objective of trials that were trained elsewhere; see `outside.tell`."""
        sign = self.problem.objective.sign
        return outside.tell(self.store, self.space, configs, values, sign)

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial in `trial_id` order: phase, status, score, ..., hyperparameters."""
        return trials.to_frame(self.store)

    @property
    def lineage(self) -> "pd.DataFrame":
        """One row per generation and member of each population: its parent, values, score."""
        return lineages.to_frame(self.store, self.problem.objective.sign)

    @property
    def members(self) -> "pd.DataFrame":
        """One row per training: trial, member (`fold`), replicate, score, units."""
        return views.members(self.store, self.problem.objective.sign)

    def curves(self) -> "pd.DataFrame":
        """Scalar metrics, one row per trial, member, replicate and unit."""
        return views.curves(self.store)

    def metrics(self, name: str) -> np.ndarray:
        """One metric of all trials: [trials, members, units, ...].

        The axis of units is left out where a trial is one run; NaN where a member has none.
        """
        budget = int(self.store.setting("budget"))
        whole_run = self.problem.unit == "run"
        return views.metrics(self.store, name, self.training.num_members, budget, whole_run)

    def population(self, **static: Any) -> views.Population:
        """What is kept of trials, as one pytree with a leading axis.

        Args:
          **static: hyperparameters that tell shapes apart, where there are several.

        Raises:
          UserError: if nothing is kept, or the results are of several shapes.
        """
        configs = {t.trial_id: t.config for t in self.store.trials()}
        kept = [
            (trial_id, fold, self.kept((trial_id, fold, replicate)))
            for trial_id, fold, replicate in sorted(self.weights.members)
            if replicate == 0
            and fold < self.training.num_members
            and all(configs[trial_id].get(name) == value for name, value in static.items())
        ]
        return views.stack(kept)

    @property
    def best(self) -> Incumbent:
        """The completed trial with the best score.

        Raises:
          MachineError: if every trial diverged or none is complete.
        """
        return incumbent_of(self.store, self.problem, self.training, self.kept, self.refit)


def _budget(num_epochs: int | None, budget: int | None) -> int | None:
    """Both mean the same."""
    if num_epochs is not None and budget is not None and num_epochs != budget:
        raise UserError(f"num_epochs = {num_epochs} and budget = {budget} differ; give one of them")
    return num_epochs if budget is None else budget


def _sampler(sampler: Sampler | str) -> Sampler:
    """A sampler, also by its name."""
    if not isinstance(sampler, str):
        return sampler
    if sampler not in search.REGISTRY:
        hint = did_you_mean(sampler, search.REGISTRY)
        known = ", ".join(search.REGISTRY)
        raise UserError(f"unknown sampler {sampler!r}.{hint} Known: {known}")
    return search.REGISTRY[sampler]()


def _scheduler(
    scheduler: Scheduler | PopulationScheduler | str | None,
) -> Scheduler | PopulationScheduler | None:
    """A scheduler, also by its name."""
    if not isinstance(scheduler, str):
        return scheduler
    makers: dict[str, Callable[[], Scheduler | PopulationScheduler]] = {
        **schedulers.REGISTRY,
        **schedulers.POPULATIONS,
    }
    if scheduler not in makers:
        hint = did_you_mean(scheduler, makers)
        raise UserError(f"unknown scheduler {scheduler!r}.{hint} Known: {', '.join(makers)}")
    return makers[scheduler]()
