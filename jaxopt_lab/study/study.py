"""A study: search space and task in, trained and scored trials out, every wave on disk."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.runner import Runner, WaveReport
from jaxopt_lab.core.types import Config, Params, Status
from jaxopt_lab.planning import plan as planning
from jaxopt_lab.planning.costs import Costs, Load
from jaxopt_lab.planning.sizing import fix_widths, sizing_of
from jaxopt_lab.problems import Prepared, TabularTask, reopen
from jaxopt_lab.problems.mlp import choosing, hyperparameters, programs
from jaxopt_lab.problems.tabular.predictor import Predictor, Weights, assemble
from jaxopt_lab.schedulers import Scheduler
from jaxopt_lab.search import random
from jaxopt_lab.search.base import Sampler
from jaxopt_lab.search.stopping import StoppingRule
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.agreement import agree
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import races, records, trials
from jaxopt_lab.study.incumbent import Incumbent, incumbent_of
from jaxopt_lab.study.proposals import enough, enqueue, first_proposals, propose, round_of
from jaxopt_lab.study.rungs import Rungs, last_trials
from jaxopt_lab.study.watch import Progress, Watch, revive, stop_pending

if TYPE_CHECKING:
    import pandas as pd

OnProgress = Callable[[Progress], None]


class Study:
    """Trains configurations of a space on a task, and remembers everything.

    Args:
      task: from `tasks.tabular`.
      space: search space; names are those of `hyperparameters.REGISTRY`.
      directory: where to keep the study; None keeps it in memory.
      seed: of splits, proposals, initial weights, data order and noise.
      devices: JAX devices; all local ones by default.
      costs: of the devices, from `read_costs`; those the study began with, or shipped ones.
      memory_limit: bytes that training may take on all devices; see `sizing.Sizing`.
      cohort_width: the most trials that train together on a device.

    Raises:
      UserError: if the directory holds a study with other settings, naming them.
    """

    def __init__(
        self,
        task: TabularTask,
        space: SearchSpace,
        directory: str | Path | None = None,
        seed: int = 0,
        devices: Sequence[jax.Device] | None = None,
        *,
        costs: Costs | None = None,
        memory_limit: int | None = None,
        cohort_width: int | None = None,
    ) -> None:
        self.task, self.space, self.seed = task, space, seed
        self.directory = None if directory is None else Path(directory)
        hyperparameters.check_values(space.extremes())
        self._devices = list(devices or jax.local_devices())
        self.sizing = sizing_of(self._devices, costs, memory_limit, cohort_width)
        self.store = Store.open(directory)
        self.weights = Weights(self.store)
        self._runner: Runner | None = None
        self._programs: programs.Programs | None = None
        self._budget = 0
        self._prepared: Prepared | None = None
        self._started = time.monotonic()
        #: What earlier processes spent on this study's waves.
        self._seconds_before = sum((w["seconds"] for w in self.store.waves()), 0.0)
        #: Whether this process has trained anything.
        self.trained = False
        identity = {
            "task": task.describe(),
            "space": space.to_dict(),
            "seed": seed,
            # Told, not held: the programs and widths that were chosen for it are stored.
            "num_devices": self.store.settings().get("num_devices", len(self._devices)),
            "device": self._devices[0].platform,
            **({} if costs is None else {"costs": asdict(costs)}),
        }
        try:
            self._agree(identity)
            known = self.store.settings().get("costs", asdict(self.sizing.costs))
            self.sizing = replace(self.sizing, costs=Costs(**known))
            with self.store.transaction():
                self.store.set("table path", task.table.path)
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

    def _agree(self, wanted: dict[str, Any]) -> None:
        agree(self.store, wanted, self.directory)

    def _watch(self, phase: str, limit: float | None, progress: OnProgress | None) -> Watch:
        spent, started = self._seconds_before, self._started
        return Watch(self.store, phase, self.task.metric, spent, started, limit, progress)

    @property
    def num_folds(self) -> int:
        """K, once `optimize` has been called."""
        return int(self.store.setting("num_folds"))

    @property
    def prepared(self) -> Prepared:
        """Splits, encoders and arrays, once `optimize` has been called."""
        if self._prepared is None:
            self._prepared = self.task.prepare(self.num_folds, self.seed)
        return self._prepared

    @property
    def runner(self) -> Runner:
        """What trains networks; its cohort widths are the stored ones."""
        if self._runner is None:
            arrays, objective = self.prepared.arrays, self.task.objective
            self._runner = Runner(arrays, objective, self.seed, {}, self._devices)
        return self._runner

    def configure(self, num_epochs: int, num_folds: int) -> None:
        """Fix the budget of every trial, or check that it is the one the study began with."""
        if num_epochs < 1:
            raise UserError(f"the number of epochs must be at least 1, got {num_epochs}")
        if num_folds < 1:
            raise UserError(f"the number of folds must be at least 1, got {num_folds}")
        self.task.prepare(num_folds, self.seed)
        self._agree({"num_epochs": num_epochs, "num_folds": num_folds})

    def _load(self, prepared: Prepared, trials: int, epochs: int, last: int) -> Load:
        outputs = self.task.objective.num_outputs
        return planning.load_of(prepared, trials, epochs, len(self._devices), last, outputs)

    @property
    def programs(self) -> programs.Programs:
        """Which shapes trials are rounded up to, once `optimize` has been called."""
        if self._programs is None:
            self._programs = programs.Programs.from_dict(self.store.setting("programs"))
        return self._programs

    def enqueue(self, configs: Sequence[Mapping[str, Any]], phase: str = "search") -> None:
        """Put configurations before a sampler's own; see `proposals.enqueue`."""
        enqueue(self.store, self.space, phase, configs)

    def optimize(
        self,
        sampler: Sampler,
        num_trials: int,
        num_epochs: int,
        num_folds: int = 5,
        *,
        time_limit: float | None = None,
        race: bool = False,
        scheduler: Scheduler | None = None,
        phase: str = "search",
        space: SearchSpace | None = None,
        round_size: int | None = None,
        stopping: StoppingRule | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Propose and train until the phase has `num_trials` trials; goes on where it stopped.

        Args:
          sampler: from `search`.
          num_trials: configurations of this phase in all, finished ones included.
          num_epochs: epochs of each.
          num_folds: K of the cross-validation; 1 is one hold-out split.
          time_limit: seconds after which no wave is started; the rest is marked stopped.
          race: train on one fold first, and only the better half on the others.
          scheduler: from `schedulers`: stops trials early, unlike `race` on all folds at once.
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
        self.configure(num_epochs, num_folds)
        self._agree({f"sampler of {phase}": sampler.name, f"race of {phase}": race})
        self._agree({f"scheduler of {phase}": scheduler.name if scheduler else "none"})
        last = last_trials(num_trials, num_epochs, race, scheduler)
        if "programs" not in self.store.settings():
            load = self._load(self.prepared, num_trials, num_epochs, last)
            costs = self.sizing.costs
            chosen = choosing.choose(self.space, load, costs, self.sizing.on_cpu)
            self._agree({"programs": chosen.to_dict(), "costs": asdict(costs)})
        watch = self._watch(phase, time_limit, progress)
        revive(self.store, time_limit)
        while True:
            waiting = self.store.trials(phase, Status.PENDING)
            missing = num_trials - self.store.num_trials(phase)
            # Brackets are made of all the trials that they are to hold.
            proposing = scheduler is not None and round_size is None and missing > 0
            if waiting and not proposing:
                if scheduler is not None:
                    self._train_rungs(scheduler, watch)
                else:
                    self._train(waiting, race and num_folds > 1, watch)
                continue
            if missing < 1 or enough(self.store, stopping, space or self.space, phase):
                return
            batch = min(missing, round_of(sampler, round_size, stopping, time_limit))
            if not propose(self.store, sampler, space or self.space, phase, self.seed, batch):
                if not waiting:
                    return
                num_trials -= missing

    def _train(self, waiting: list[dict[str, Any]], race: bool, watch: Watch) -> None:
        """Train pending trials on the folds they still lack."""
        folds = range(self.num_folds)
        if race:
            self._run(self._jobs(waiting, [0]), watch)
            waiting = races.promote(self.store, waiting)
        self._run(self._jobs(waiting, folds), watch)
        if watch.struck:
            stop_pending(self.store, watch.limit)

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
            stop_pending(self.store, watch.limit)

    def _jobs(self, rows: Sequence[dict[str, Any]], folds: Sequence[int]) -> list[Job]:
        """The members that these trials still lack on these folds, fold by fold."""
        first = min((row["trial_id"] for row in rows), default=0)
        done = {(m["trial_id"], m["fold"], m["replicate"]) for m in self.store.members(first)}
        return [
            self.job(row["trial_id"], row["config"], fold)
            for fold in folds
            for row in rows
            if (row["trial_id"], fold, 0) not in done
        ]

    def job(
        self, trial_id: int, config: Config, fold: int, replicate: int = 0, num_epochs: int = 0
    ) -> Job:
        """One network to train, within this study's budget."""
        budget = self._budget = self._budget or int(self.store.setting("num_epochs"))
        full = hyperparameters.complete(config)
        signature = self.programs.signature(full)
        return Job(trial_id, fold, replicate, full, signature, num_epochs or budget, budget)

    def plan(
        self,
        num_trials: int,
        num_epochs: int,
        num_folds: int = 5,
        *,
        race: bool = False,
        scheduler: Scheduler | None = None,
        num_first: int | None = None,
    ) -> planning.Plan:
        """What `optimize` with random search would compile and run, and how long that takes.

        Args:
          num_trials: as for `optimize`, like those that follow.
          num_first: trials of the first of several phases, for which programs are chosen.
        """
        prepared = self.task.prepare(num_folds, self.seed)
        first = num_first or num_trials
        last = last_trials(first, num_epochs, race, scheduler)
        load = self._load(prepared, first, num_epochs, last)
        configs = first_proposals(random(), self.space, self.seed, num_trials)
        return planning.make_plan(configs, self.space, load, self.sizing, race, scheduler)

    def _run(self, jobs: list[Job], watch: Watch) -> None:
        """Train jobs; each finished wave is one transaction."""
        if not jobs or watch.struck:
            return
        watch.begin(len(jobs))
        self._fix_widths(jobs)
        for report in self.runner.run(jobs, watch.go_on):
            self._record(report, watch)

    def _record(self, report: WaveReport, watch: Watch) -> None:
        self.trained = True
        load, width = self._load(self.prepared, 1, 1, 1), self.runner.width(report.wave.signature)
        expected = planning.expected_seconds(
            report.wave, width, self.programs, load, self.sizing.costs
        )
        where = (self.store, self.weights, self.task, self.prepared)
        records.write_wave(*where, report, watch.phase, expected)
        watch.after(report)

    def _fix_widths(self, jobs: Sequence[Job]) -> None:
        fix_widths(self.store, self.runner, self.sizing, self.programs, jobs)

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

    def rerun(
        self,
        trial_ids: Sequence[int],
        replicate: int,
        time_limit: float | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Train trials once more on every fold with other seeds: other weights, other order."""
        done = {(m["trial_id"], m["fold"], m["replicate"]) for m in self.store.members()}
        rows = self.store.trials()
        jobs = [
            self.job(i, rows[i]["config"], fold, replicate)
            for fold in range(self.num_folds)
            for i in trial_ids
            if (i, fold, replicate) not in done
        ]
        self._run(jobs, self._watch("rerun", time_limit, progress))

    def refit(self, trial_id: int) -> Predictor:
        """A predictor with one network of a trial's configuration; see `refit_params`."""
        config = hyperparameters.complete(self.store.trials()[trial_id]["config"])
        params = self.refit_params(trial_id)
        networks = [(config, params, self.num_folds)]
        return assemble(self.task, self.prepared, networks, [1.0])

    def refit_params(self, trial_id: int) -> Params:
        """Weights of a trial's configuration trained on all rows that are no test rows.

        With early stopping it trains for the mean of the folds' best epochs: no row is left to
        validate on. `reduce_on_plateau` then watches the training loss.
        """
        member = (trial_id, self.num_folds, 0)
        if not self.weights.has(member):
            config = self.store.trials()[trial_id]["config"]
            epochs = trials.refit_epochs(self.store, trial_id, self.num_folds)
            job = self.job(trial_id, config, self.num_folds, num_epochs=epochs)
            self._run([job], self._watch("refit", None, None))
        return self.weights.get(member)

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial in `trial_id` order: phase, status, score, ..., hyperparameters."""
        return trials.to_frame(self.store)

    @property
    def best(self) -> Incumbent:
        """The completed trial with the lowest score.

        Raises:
          MachineError: if every trial diverged or none is complete.
        """
        return incumbent_of(self.store, self.num_folds, self.refit)
