"""A study: search space and problem in, trained and scored trials out, every wave on disk."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxopt_lab import schedulers, search
from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.core.scalars import number, scalar, whole
from jaxopt_lab.core.synonyms import STUDY_ATTRIBUTES
from jaxopt_lab.core.types import Config, PyTree
from jaxopt_lab.planning.costs import Costs
from jaxopt_lab.planning.plan import Plan, crowds, rungs_in_words
from jaxopt_lab.planning.sizing import sizing_of
from jaxopt_lab.problems.contract import Problem, Programs, Training
from jaxopt_lab.problems.tabular.task import reopen
from jaxopt_lab.schedulers import PopulationScheduler, Scheduler
from jaxopt_lab.search.base import Sampler
from jaxopt_lab.search.stopping import StoppingRule
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.agreement import agree
from jaxopt_lab.storage.rows import MemberKey
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import fronts, given, lineages, outside, records, retraining, trials, views
from jaxopt_lab.study.callbacks import Progress, Telling
from jaxopt_lab.study.incumbent import Incumbent, incumbent_of
from jaxopt_lab.study.later import later
from jaxopt_lab.study.lineages import Stage
from jaxopt_lab.study.lines import study_line
from jaxopt_lab.study.proposals import enqueue, first_proposals
from jaxopt_lab.study.replays import Replay
from jaxopt_lab.study.searching import Rounds, Search
from jaxopt_lab.study.trainings import Trainings
from jaxopt_lab.study.watch import Watch, revive
from jaxopt_lab.study.weights import Weights

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
      callbacks: told what happens until the study is closed; see `Callback`.
      say: takes one line for each callback that fails; a warning by default.
      placement: where waves are trained, from `placements`; here by default.

    Raises:
      UserError: if the directory holds a study with other settings, naming them.
    """

    @checked_call()
    def __init__(
        self,
        problem: Any,
        space: Any,
        directory: str | Path | None = None,
        seed: Any = 0,
        devices: Sequence[jax.Device] | None = None,
        *,
        costs: Costs | None = None,
        memory_limit: Any = None,
        cohort_width: Any = None,
        keep: Any = records.KEPT_TRIALS,
        callbacks: Any = (),
        say: Callable[[str], None] | None = None,
        placement: Any = None,
    ) -> None:
        given.check(problem, space)
        self.problem: Any = problem
        seed, keep = whole("seed", seed), whole("keep", keep)
        memory_limit, cohort_width = scalar(memory_limit), scalar(cohort_width)
        self.space, self.seed = space, seed
        self.directory = given.directory_of(directory)
        problem.check(space)
        self._telling = Telling(self, callbacks, say)
        self._devices = given.devices_of(devices, placement)
        self.sizing = sizing_of(self._devices, costs, memory_limit, cohort_width)
        self.store = Store.open(directory)
        self._started = time.monotonic()
        #: What earlier processes spent on this study's waves.
        self._seconds_before = sum((w.seconds for w in self.store.waves()), 0.0)
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
        where = (self.store, problem, self.space, seed, self._devices)
        self._trainings = Trainings(*where, self.sizing, keep, self._telling, placement)

    @classmethod
    @checked_call()
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

    @classmethod
    def from_optuna(
        cls,
        theirs: Any,
        problem: Problem,
        space: SearchSpace | None = None,
        directory: str | Path | None = None,
        seed: int = 0,
        *,
        say: Callable[[str], None] = print,
        **options: Any,
    ) -> "Study":
        """A study that begins with what a study of Optuna's has found.

        Its finished trials stand in the phase "imported", where samplers learn from them: pruned
        ones as stopped with their last value, failed ones as infeasible. Called again with the same
        directory, trials that are there already are left out.

        Args:
          theirs: an `optuna.Study` of one objective.
          problem: what is trained from now on.
          space: where to search; by default that of Optuna's distributions. Trials outside of it
            are left out.
          directory: as for `Study`, like the rest.
          seed: of everything.
          say: takes a line if trials are left out.
          **options: of `Study`.

        Raises:
          UserError: for another direction than the problem's, or parameters that not all trials
            have where no space is given.
        """
        home = "integrations.optuna_studies"
        later(home, "check_direction")(theirs, problem.objective.direction)
        space = later(home, "space_from")(theirs) if space is None else space
        study = cls(problem, space, directory, seed, **options)
        later(home, "take_over")(study, theirs, say)
        return study

    def to_optuna(self, storage: Any = None, name: str | None = None) -> Any:
        """This study as an `optuna.Study`; see `integrations.optuna_studies.to_optuna`.

        Args:
          storage: where to write it, "sqlite:///x.db" say; None keeps it in memory.
          name: of the study there; that of the directory by default.
        """
        return later("integrations.optuna_studies", "to_optuna")(self, storage, name)

    def close(self) -> None:
        """Tell callbacks that nothing more is trained, and close the study's file."""
        self._telling.end()
        self._trainings.close()
        self.store.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):
                return object.__getattribute__(self, name)  # what the property itself raises
            raise missing("a study", name, dir(type(self)), STUDY_ATTRIBUTES)

    def __repr__(self) -> str:
        if "store" not in vars(self):  # it could not be opened
            return object.__repr__(self)
        return study_line(self.store, self.problem.objective.metric, self.directory)

    def _repr_html_(self) -> str:
        return str(later("integrations.notebook", "study_html")(self))

    @property
    def plot(self) -> Any:
        """Figures of the report as Plotly's: `plot.history()`, `curves()`, `parallel()`,
        `importance()`, `slice()`; see `integrations.plots.Plots`."""
        return later("integrations.plots", "Plots")(self)

    def __enter__(self) -> "Study":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _agree(self, wanted: dict[str, Any]) -> None:
        agree(self.store, wanted, self.directory)

    def _watch(self, phase: str, limit: float | None, progress: OnProgress | None) -> Watch:
        spent, started = self._seconds_before, self._started
        metric, telling = self.problem.objective.metric, self._telling
        return Watch(self.store, phase, metric, spent, started, limit, progress, telling)

    @property
    def num_folds(self) -> int:
        """K, once `optimize` has been called."""
        return self._trainings.num_folds

    @property
    def training(self) -> Training:
        """The problem ready to train, once `optimize` has been called."""
        return self._trainings.training

    @property
    def runner(self) -> Runner:
        """What trains networks; its cohort widths are the stored ones."""
        return self._trainings.runner

    @property
    def weights(self) -> Weights:
        """What is kept of trials."""
        return self._trainings.weights

    @property
    def keep(self) -> int:
        """The best trials of which results are kept, from now on."""
        return self._trainings.keep

    @keep.setter
    def keep(self, number: int) -> None:
        self._trainings.keep = number

    @property
    def trained(self) -> bool:
        """Whether this process has trained anything."""
        return self._trainings.trained

    def configure(self, budget: Any = None, num_splits: Any = None) -> int:
        """Fix the budget of every trial, or check that it is the one the study began with.

        Args:
          budget: units of each trial; None for the problem's own.
          num_splits: K of the cross-validation of a table; None for the problem's own.

        Returns:
          The budget.

        Raises:
          UserError: for a budget below 1, or another than before.
        """
        budget = self._budget(budget)
        if num_splits is None:
            num_splits = self.store.settings().get("num_folds")
        if num_splits is not None:
            num_splits = whole("the number of folds", num_splits, least=1)
        training = self.problem.training(self.space, num_splits, self.seed)
        self._agree({"budget": budget, "num_folds": training.num_members})
        return budget

    def _budget(self, given: Any) -> int:
        """Units of every trial: those given, those that the study has, or the problem's own."""
        unit = self.problem.unit
        if given is None:
            own = getattr(self.problem, "budget", None)
            given = self.store.settings().get("budget", own)
        if given is None:
            raise UserError(f"say how long trials train: optimize(..., budget=N), in {unit}s")
        return whole(f"the number of {unit}s", given, least=1)

    @property
    def programs(self) -> Programs:
        """Which shapes trials are rounded up to, once `optimize` has been called."""
        return self._trainings.programs

    @checked_call()
    def enqueue(self, configs: Sequence[Mapping[str, Any]], phase: str = "search") -> None:
        """Put configurations before a sampler's own; see `proposals.enqueue`."""
        enqueue(self.store, self.space, phase, configs)

    @checked_call()
    def optimize(
        self,
        sampler: Any,
        num_trials: Any,
        num_epochs: Any = None,
        num_folds: Any = None,
        *,
        budget: Any = None,
        time_limit: Any = None,
        race: bool = False,
        scheduler: Any = None,
        phase: str = "search",
        space: SearchSpace | None = None,
        round_size: Any = None,
        stopping: StoppingRule | None = None,
        progress: OnProgress | None = None,
        callbacks: Any = (),
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
            proposed by then is marked stopped. As long as no trial is complete, time is kept to
            complete the best so far; a quarter of the limit more may be taken for it.
          race: the same as `scheduler=schedulers.race()`: train on one fold first, and only the
            better half on the others.
          scheduler: from `schedulers`, or its name: stops trials early, or makes them
            a population that learns while it trains.
          phase: a name for this search.
          space: search here instead of in the study's space.
          round_size: proposals at a time, between which the sampler sees results; see
            `proposals.round_of` for the default. A scheduler whose brackets run in turn has rounds
            of its own.
          stopping: from `stopping`: asked before each round of proposals.
          progress: called after each wave.
          callbacks: told what happens in this call, besides those of the study; see `Callback`.

        Raises:
          UserError: for settings other than those the study began with.
        """
        num_trials = whole("the number of trials", num_trials, least=1)
        time_limit = None if time_limit is None else number("the time limit", time_limit)
        round_size = None if round_size is None else whole("round_size", round_size, least=1)
        sampler, scheduler = given.sampler_of(sampler), given.scheduler_of(scheduler, race)
        given.check_search(phase, space, stopping, progress)
        stops = scheduler if isinstance(scheduler, Scheduler) else None
        if stops is not None and stops.in_turn and not sampler.sees_scores:
            raise UserError(
                f"{stops.name}: its trials are proposed from results; give a sampler that sees "
                f"them, such as 'bayesian', not {sampler.name!r}"
            )
        num_epochs = self._budget(given.budget_of(num_epochs, budget))
        if isinstance(scheduler, PopulationScheduler):
            scheduler.units(num_epochs, self.problem.unit)  # refuses before anything is stored
        self.configure(num_epochs, num_folds)
        if isinstance(scheduler, PopulationScheduler):
            self.training.changeable(space or self.space)  # likewise, of this phase
        num_folds = self.num_folds
        # The flag and the scheduler that it stands for are the same thing, stored as the flag.
        raced = scheduler is not None and scheduler.name == schedulers.race().name
        race = race or (raced and num_folds > 1)
        self._agree({f"sampler of {phase}": sampler.name, f"race of {phase}": race})
        known_by = "none" if scheduler is None or raced else scheduler.name
        self._agree({f"scheduler of {phase}": known_by})
        if "programs" not in self.store.settings():
            together = crowds(num_trials, num_epochs, num_folds, stops)
            amount = self._trainings.amount(num_trials, num_epochs, together)
            chosen = self.training.choose(self.space, amount, self.sizing)
            self._agree({"programs": chosen.to_dict(), "costs": asdict(self.sizing.costs)})
        revive(self.store, phase, time_limit)
        with self._telling.also(callbacks):
            watch = self._watch(phase, time_limit, progress)
            rounds = Rounds(sampler, num_trials, round_size, stopping, space or self.space)
            Search(self._trainings, rounds, scheduler, watch).run()

    def job(
        self, trial_id: int, config: Config, fold: int, replicate: int = 0, num_epochs: int = 0
    ) -> Job:
        """One network to train, within this study's budget."""
        return self._trainings.job(trial_id, config, fold, replicate, num_epochs)

    @checked_call()
    def plan(
        self,
        num_trials: Any,
        num_epochs: Any = None,
        num_folds: Any = None,
        *,
        budget: Any = None,
        race: bool = False,
        scheduler: Any = None,
        num_first: Any = None,
    ) -> Plan:
        """What `optimize` with random search would compile and run, and how long that takes.

        Args:
          num_trials: as for `optimize`, like those that follow.
          num_first: trials of the first of several phases, for which programs are chosen.
        """
        num_trials = whole("the number of trials", num_trials, least=1)
        num_folds, num_first = scalar(num_folds), scalar(num_first)
        training = self.problem.training(self.space, num_folds, self.seed)
        units = given.budget_of(num_epochs, budget) or getattr(self.problem, "budget", None)
        if units is None:
            raise UserError(
                f"say how long trials train: plan(..., budget=N), in {self.problem.unit}s"
            )
        scheduler = given.scheduler_of(scheduler, race)
        units = whole(f"the number of {self.problem.unit}s", units, least=1)
        first, num_folds = num_first or num_trials, training.num_members
        if isinstance(scheduler, PopulationScheduler):
            scheduler = None  # it trains as many units
        together = crowds(first, units, num_folds, scheduler)
        amount = self._trainings.amount(first, units, together)
        configs = first_proposals(search.random(), self.space, self.seed, num_trials)
        found = training.plan(configs, self.space, amount, self.sizing, scheduler)
        if scheduler is None:
            return found
        shape = (num_trials, units, num_folds, self.problem.unit)
        return replace(found, rungs=rungs_in_words(*shape, scheduler))

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
        return retraining.schedule_of(self._trainings, trial_id)

    @checked_call()
    def replay(self, trial_id: int | None = None) -> Replay:
        """Train the schedule of a trial alone; what is stored stays as it is.

        In the same program on the same kind of device the curves are the same bit for bit.

        Args:
          trial_id: the best one by default.

        Raises:
          UserError: for a trial that was not trained.
        """
        return retraining.replay(self._trainings, trial_id)

    @checked_call()
    def rerun(
        self,
        trial_ids: Sequence[int],
        replicate: int,
        time_limit: float | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Train trials once more on every fold with other seeds: other weights, other order."""
        watch = self._watch("rerun", time_limit, progress)
        retraining.rerun(self._trainings, trial_ids, replicate, watch)

    def kept(self, member: MemberKey) -> PyTree:
        """What is kept of (trial, fold, replicate): weights, say.

        Raises:
          KeyError: if it was not kept.
        """
        config = self.training.complete(self.store.trials()[member[0]].config)
        return self.weights.get(member, self.training, self.programs.signature(config))

    @checked_call()
    def refit(self, trial_id: int) -> PyTree:
        """What a trial's configuration gives when it is trained on all rows that are no test rows.

        With early stopping it trains for the mean of the folds' best epochs: no row is left to
        validate on. `reduce_on_plateau` then watches the training loss.

        Raises:
          UserError: for a problem without rows.
        """
        retraining.refit(self._trainings, trial_id, self._watch("refit", None, None))
        return self.kept((trial_id, self.training.refit_member or 0, 0))

    @checked_call()
    def ask(self, n: Any, sampler: Sampler | str = "random") -> list[outside.Asked]:
        """Propose n trials for somebody else to train; see `outside.ask`."""
        n = whole("the number of trials to ask for", n, least=1)
        return outside.ask(self.store, given.sampler_of(sampler), self.space, self.seed, n)

    @checked_call()
    def tell(self, configs: Any, values: Any) -> list[int]:
        """Write the objective of trials that were trained elsewhere; see `outside.tell`."""
        sign = self.problem.objective.sign
        told = outside.tell(self.store, self.space, configs, values, sign)
        self._telling.begin()
        self._telling.ended(told)
        return told

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial in `trial_id` order: phase, status, score, ..., hyperparameters."""
        return trials.to_frame(self.store)

    @property
    def lineage(self) -> "pd.DataFrame":
        """One row per generation and member of each population: its parent, values, score."""
        return lineages.to_frame(self.store, self.problem.objective.sign)

    @property
    def workers(self) -> "pd.DataFrame":
        """Who trained what, one row per training of another process: worker, trial, member
        (`fold`), replicate, in the order in which they ended."""
        return views.workers(self.store)

    @property
    def members(self) -> "pd.DataFrame":
        """One row per training: trial, member (`fold`), replicate, score, units."""
        return views.members(self.store, self.problem.objective.sign)

    @checked_call()
    def pareto(
        self, objectives: Sequence[Any], directions: Sequence[Any] | None = None
    ) -> "pd.DataFrame":
        """The completed trials that no other is better than in all of several objectives.

        Args:
          objectives: two or more of: the problem's own (also "score"), "num_parameters" (real
            numbers that are kept of a trial: the weights of a network), any scalar metric (after
            the unit that counts, a mean over splits and seeds), a hyperparameter that is a number.
          directions: "minimize" or "maximize" for each; by default the problem's for its own
            objective, and "minimize" for the others.

        Returns:
          One row per trial, best in the first objective first: `trial_id`, the objectives, the
          hyperparameters.

        Raises:
          UserError: for an objective that there is not, or fewer than two.
        """
        names = [objectives] if isinstance(objectives, str) else list(objectives)
        where = (self.store, self.training, self.programs, self.problem.objective)
        return fronts.front(*where, names, directions)

    def curves(self) -> "pd.DataFrame":
        """Scalar metrics, one row per trial, member, replicate and unit."""
        return views.curves(self.store)

    @checked_call()
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

    def save_orbax(self, path: str | Path, **static: Any) -> None:
        """Write what is kept of trials as one checkpoint of Orbax, sharded over the devices.

        It holds `trial_ids` [n], `members` [n] and `result`, each leaf with a leading axis n.

        Args:
          path: of a directory that is not there yet.
          **static: as for `population`.
        """
        save = later("integrations.weights", "save_population")
        is_here = self._trainings.placement is None
        save(self.population(**static), path, self._devices if is_here else jax.local_devices())

    @property
    def best(self) -> Incumbent:
        """The completed trial with the best score.

        Raises:
          MachineError: if every trial diverged or none is complete.
        """
        return incumbent_of(self.store, self.problem, self.training, self.kept, self.refit)
