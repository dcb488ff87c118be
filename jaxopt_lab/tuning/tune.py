"""The whole job: wide search, analysis, refined search, reruns, winner, ensemble, files."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_lab import analysis, schedulers, search
from jaxopt_lab import problems as tasks
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.scalars import scalar, whole
from jaxopt_lab.core.types import Status
from jaxopt_lab.datasets import (
    Table,
    TargetLoss,
    decided_on,
    different_rows,
    find_encoding,
    find_location,
    most_time_folds,
    rarest,
    test_split,
)
from jaxopt_lab.planning.costs import Costs
from jaxopt_lab.planning.plan import Plan
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.search import stopping
from jaxopt_lab.search.prior import centre_of
from jaxopt_lab.spaces.distributions import Choice, LogUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import trials
from jaxopt_lab.study.callbacks import Progress
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import by_target, outcome, ranking, with_members
from jaxopt_lab.tuning.other_candidates import ENSEMBLES

#: Floating-point operations that the default number of trials may cost.
DEFAULT_WORK = 6e12
#: Shares of a time limit after which the wide search, the refined one and the reruns stop.
SHARES = {"wide": 0.4, "refined": 0.75, "rerun": 0.85, "members": 1.0}
#: Trials that are rerun with other seeds before one of them wins.
NUM_RERUN = 3
#: Searches that make sense in one phase only.
ONE_PHASE = ("grid",)
#: Bayesian search proposes a third of its trials at a time, but no fewer than these: a race of
#: less than four stops next to nothing.
MIN_ROUND = 4
#: It starts from so many results inside them; those of the wide search count.
NUM_KNOWN = 6
#: Columns that say where a row is are looked for, or not; an encoding of numbers is chosen.
AUTO, NONE = "auto", "none"
#: How trials are stopped early, or not at all.
SCHEDULERS = (*schedulers.REGISTRY, schedulers.NONE)


@dataclass(frozen=True)
class Settings:
    """What the user asked for; None stands for the documented formula.

    Attributes:
      trials: configurations in all, half of them in the refined ranges.
      folds: K of the cross-validation; 1 is one hold-out split.
      epochs: of each network.
      seed: of everything.
      search: key of `search.REGISTRY`; before "bayesian" the wide search is quasi-random.
      scheduler: key of `schedulers.REGISTRY`, or "none". "race" trains on one fold first, and the
        better half on the others. "bohb" searches in one phase, by results at all ages.
      scheduler_settings: of the scheduler; its defaults where missing.
      space: where to search; `default_space` if None.
      test_fraction: share of the rows that is held out to the end; 0 for none.
      time_limit: seconds; searching stops in time for the winner to be refitted.
      widen: whether refined ranges and choices may leave those of the user's `space`. The ranges
        of `default_space` always grow where the best trials crowd an end.
      prefer: "best", or "small": the smallest network within one standard error of it.
      ensemble: what it is made of: "networks", or "all" for boosted trees and linear models, too,
        where they help. A study that is done can be run again with the other.
      members: train the winner's configuration once more as networks of so many members that share
        their kernels; 1 for none. They win, or join the ensemble, where they score better.
      loss: what a number is learnt by, and trials are compared by: "squared", "absolute", "huber"
        or "quantile"; see `datasets.TargetLoss`.
      quantile: of the loss "quantile", between 0 and 1.
      numeric: encoding of numeric columns; "auto" is "piecewise_linear", but "standard" where that
        makes more columns than there are rows and tells less: see `datasets.find_encoding`.
      num_bins: of `piecewise_linear`; None stands for a formula from the rows.
      near: two columns that say where a row is, by which the nearest training rows tell what they
        cost; "auto" looks for them, "none" does not.
      prior: hyperparameters believed to be good; the first trials are drawn around them.
      stop_at: stop searching once a trial's score is at most this.
      stop_improvement: stop once the greatest expected improvement stays below this share of the
        best trial's standard error over folds.
      costs: of the devices, from `sizing.read_costs`; None for shipped ones.
      memory_limit: bytes that training may take on all devices together.
      cohort_width: the most trials that train together on a device.
    """

    trials: Any = None
    folds: Any = None
    epochs: Any = None
    seed: Any = 0
    search: str = "bayesian"
    scheduler: str = "race"
    scheduler_settings: Mapping[str, Any] | None = None
    space: SearchSpace | None = None
    test_fraction: Any = 0.2
    time_limit: Any = None
    widen: bool = False
    prefer: str = "best"
    ensemble: Any = "networks"
    members: Any = 1
    loss: Any = "squared"
    quantile: Any = None
    numeric: str = AUTO
    num_bins: Any = None
    near: Any = AUTO
    prior: Mapping[str, Any] | None = None
    stop_at: Any = None
    stop_improvement: Any = None
    costs: Costs | None = None
    memory_limit: Any = None
    cohort_width: Any = None

    def __post_init__(self) -> None:
        check_search(self.search, self.scheduler, self.scheduler_settings)
        if self.prefer not in ("best", "small"):
            raise UserError(f"prefer must be best or small, got {self.prefer!r}")
        check_ensemble(self.ensemble)
        TargetLoss(self.loss, scalar(self.quantile))  # refuses what cannot be
        for name in ("trials", "folds", "epochs"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole(name, getattr(self, name), least=1))
        object.__setattr__(self, "members", whole("members", self.members, least=1))
        hyperparameters.check_value("ensemble_size", self.members)
        for field in fields(self):
            object.__setattr__(self, field.name, scalar(getattr(self, field.name)))
        if self.time_limit is not None and not self.time_limit > 0:
            raise UserError(f"the time limit must be above 0 seconds, got {self.time_limit:g}")
        if isinstance(self.near, str) and self.near not in (AUTO, NONE):
            raise UserError(f"near must be two columns, auto or none; got {self.near!r}")
        if not 0 <= self.test_fraction < 1:
            raise UserError(
                f"the test fraction must be at least 0 and below 1, got {self.test_fraction:g}"
            )


def check_search(name: str, scheduler: str, settings: Mapping[str, Any] | None) -> None:
    """Refuse a search or a scheduler that is unknown, or both where they do not go together.

    Raises:
      UserError: in one line, with the names that there are.
    """
    if name not in search.REGISTRY:
        known = ", ".join(search.REGISTRY)
        hint = did_you_mean(name, search.REGISTRY)
        raise UserError(f"unknown search {name!r}.{hint} Known: {known}")
    made = schedulers.make(scheduler, settings)
    if getattr(made, "in_turn", False) and not search.REGISTRY[name]().sees_scores:
        raise UserError(
            f"scheduler {scheduler}: its trials are proposed from results; give --search "
            f"bayesian, not {name}"
        )


def check_ensemble(kinds: Any) -> None:
    """Refuse an ensemble of what is not known.

    Raises:
      UserError: in one line.
    """
    if kinds not in ENSEMBLES:
        raise UserError(f"ensemble must be networks or all, got {kinds!r}")


def default_space(num_rows: int) -> SearchSpace:
    """The space that is searched unless the user gives one.

    Args:
      num_rows: training rows; more of them allow larger batches and networks.
    """
    base = 32 if num_rows < 5000 else 64 if num_rows < 10000 else 128
    size = 64 if num_rows < 2000 else 128
    return SearchSpace(
        learning_rate=LogUniform(3e-4, 2e-2),
        batch_size=Choice([base, 2 * base]),
        num_layers=Choice([2, 3, 4]),
        hidden_size=Choice([size, 2 * size]),
        dropout=Uniform(0.0, 0.4),
        weight_decay=LogUniform(1e-5, 1.0),
        activation=Choice(["relu", "gelu", "silu"]),
        warmup_fraction=Uniform(0.0, 0.2),
        optimizer="adamw",
        schedule="cosine",
    )


def default_budget(num_rows: int, num_features: int) -> tuple[int, int, int]:
    """Trials, folds and epochs from the size of the training table; never from a clock.

    K = 5 below 5,000 rows, 3 below 15,000, else 1: a hold-out of thousands of rows. E = 600,000 /
    rows, between 30 and 60. N so that N (1 + K) / 2 networks of 3 layers of 160 neurons cost about
    `DEFAULT_WORK`, between 16 and 64.

    Args:
      num_rows: rows that are not test rows.
      num_features: encoded columns.
    """
    folds = 5 if num_rows < 5000 else 3 if num_rows < 15000 else 1
    epochs = min(max(round(6e5 / num_rows), 30), 60)
    parameters = num_features * 160 + 2 * 160 * 160
    training = 6.0 * parameters * num_rows * epochs * ((folds - 1) / folds or 0.8)
    num_trainings = (1 + folds) / 2
    return min(max(round(DEFAULT_WORK / (training * num_trainings)), 16), 64), folds, epochs


def run(
    table: Table,
    settings: Settings,
    directory: str | Path,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = print,
    *,
    callbacks: Sequence[Any] = (),
    placement: Any = None,
) -> dict[str, Any]:
    """Tune a network on a table, or go on where the same call stopped before.

    Args:
      table: from `datasets.load_table`.
      settings: what the user asked for.
      directory: receives `study.sqlite`, `best.json`, `model/` and `test_predictions.csv`.
      progress: called after each wave.
      say: takes one line of text at a time.
      callbacks: told what happens; see `Callback`.
      placement: where networks are trained; see `Study`.

    Returns:
      The content of `best.json`.

    Raises:
      UserError: for settings that cannot be, or differ from those the directory began with.
      MachineError: if no trial was completed, or the disk is full.
    """
    started = time.monotonic()
    study, budget, notes = _begin(table, settings, directory, callbacks, say, placement)
    for note in notes:
        say(f"note: {note}")
    try:
        before = seconds_before(study.store)
        begun = len(study.store.waves())
        search_phases(study, settings, budget, progress, say)
        with outcome.baselines_meanwhile(study) as baselines:
            train_again(study, settings, progress, say)
            how = (settings.prefer, started, before, settings.ensemble, baselines)
            content = outcome.write(study, *how)
        for name, reason in content.get("failed_candidates", {}).items():
            say(f"note: {name} cannot be fitted to this table for the ensemble: {reason}")
        for name, reason in content.get("failed_baselines", {}).items():
            say(f"note: the baseline {name} cannot be fitted to this table: {reason}")
        if not study.store.decisions("session") or study.trained:
            num_waves = len(study.store.waves())
            with study.store.transaction():
                study.store.decide("session", time.monotonic() - started)
                study.store.decide("session waves", [begun, num_waves])
        return content
    finally:
        study.close()


def seconds_before(store: Store) -> float:
    """What earlier sessions on a study took.

    A session that came to its end has stored its seconds and which waves it trained. Of one that
    was stopped there are its waves only.
    """
    waves, ended = store.waves(), store.decisions("session")
    spans = store.decisions("session waves")
    if len(spans) < len(ended):  # of an earlier version, which did not tell them
        return max(sum(ended, 0.0), sum((w.seconds for w in waves), 0.0))
    known = {number for begin, end in spans for number in range(begin, end)}
    return sum(ended, 0.0) + sum(
        (wave.seconds for number, wave in enumerate(waves) if number not in known), 0.0
    )


def plan(table: Table, settings: Settings, say: Callable[[str], None] = lambda text: None) -> Plan:
    """What `run` would compile and train, as if all trials were known at once.

    Reruns of the best, refits and half-filled waves between the rounds of a search come on top.

    Args:
      table: from `datasets.load_table`.
      settings: what the user asked for.
      say: takes a line about trials, folds and epochs.

    Raises:
      UserError: as `run`.
    """
    study, (num_trials, num_folds, num_epochs), notes = _begin(table, settings, None)
    for note in notes:
        say(f"note: {note}")
    say(_budget_in_words(settings, num_trials, num_folds, num_epochs))
    try:
        return study.plan(
            num_trials,
            num_epochs,
            num_folds,
            scheduler=_scheduler(settings),
            num_first=num_trials if is_one_phase(settings) else _num_wide(num_trials),
        )
    finally:
        study.close()


def _begin(
    table: Table,
    settings: Settings,
    directory: str | Path | None,
    callbacks: Sequence[Any] = (),
    say: Callable[[str], None] | None = None,
    placement: Any = None,
) -> tuple[Study, tuple[int, int, int], list[str]]:
    """A study, how many trials, folds and epochs it gets, and notes on that."""
    notes: list[str] = []
    by_target.refuse_others(table, settings.ensemble)
    rows: Any = np.arange(len(table))
    if settings.test_fraction:
        rows, _ = test_split(table, settings.test_fraction, settings.seed)
        table, notes = decided_on(table, rows)
    near = near_columns(table.take(rows), settings.near, notes)
    task = tasks.tabular(
        table,
        test_fraction=settings.test_fraction,
        numeric=number_encoding(table.take(rows), settings.numeric, settings.num_bins, notes),
        num_bins=settings.num_bins,
        loss=settings.loss,
        quantile=settings.quantile,
        near=near,
    )
    num_rows = round(len(table) * (1 - settings.test_fraction))
    space = settings.space or default_space(num_rows)
    prepared = task.prepare(settings.folds or 1, settings.seed)
    trials_, folds, epochs = default_budget(num_rows, prepared.arrays.inputs.shape[2])
    left = [name for name in table.kinds if name not in prepared.encoders[-1].columns]
    if left:
        notes.append(f"left out, for the training rows have one value of it: {', '.join(left)}")
    if table.classes and not settings.folds:
        least, label = rarest(different_rows(table.take(prepared.development)), table.classes)
        if least < folds:
            notes.append(f"{least} folds instead of {folds}: class {label} has no more rows")
            folds = least
    if table.groups is not None and not settings.folds:
        number = len(np.unique(table.groups[prepared.development]))
        if number < folds:
            notes.append(f"{number} folds instead of {folds}: there are no more groups")
            folds = number
    if table.times is not None and not settings.folds:
        number = most_time_folds(table.times[prepared.development], folds)
        if number < folds:
            few = f"{number} folds" if number > 1 else "one hold-out split"
            notes.append(f"{few} instead of {folds} folds: there are too few different times")
            folds = number
    # What cannot be folded is refused before anything is written.
    task.prepare(settings.folds or folds, settings.seed)
    study = Study(
        task,
        space,
        directory,
        settings.seed,
        costs=settings.costs,
        memory_limit=settings.memory_limit,
        cohort_width=settings.cohort_width,
        callbacks=callbacks,
        say=say,
        placement=placement,
    )
    budget = (settings.trials or trials_, settings.folds or folds, settings.epochs or epochs)
    return study, budget, notes


def near_columns(table: Table, asked: Any, notes: list[str]) -> Any:
    """Two columns that say where a row is, or None.

    Args:
      table: rows that are no test rows.
      asked: two columns, `AUTO` or `NONE`.
      notes: receives a line where columns were found.
    """
    if asked != AUTO:
        return None if asked == NONE else asked
    found = find_location(table)
    if found is None:
        return None
    first, second = found.columns
    notes.append(
        f"{first!r} and {second!r} say where a row is: what the nearest training rows have is a "
        f"feature, too, for neighbours explain {found.gain:.0%} of what columns alone do not "
        "(--near none: not)"
    )
    return found.columns


def number_encoding(table: Table, asked: Any, num_bins: Any, notes: list[str]) -> Any:
    """How numbers are encoded.

    Args:
      table: rows that are no test rows.
      asked: an encoding, or `AUTO`.
      num_bins: that were asked for, which says that there are to be bins.
      notes: receives a line where there are none.
    """
    if asked != AUTO:
        return asked
    found = find_encoding(table) if num_bins is None else "piecewise_linear"
    if found != "piecewise_linear":
        notes.append(
            "numbers are taken as they are: encoded by bins they are more columns than there are "
            "rows, and tell less (--numeric piecewise_linear: bins all the same)"
        )
    return found


def _budget_in_words(settings: Settings, trials: int, folds: int, epochs: int) -> str:
    """Trials by phase, folds and epochs, and which of them are stopped early."""
    wide = trials if is_one_phase(settings) else _num_wide(trials)
    phases = f"{wide} of the wide search"
    if trials > wide:
        phases += f", {trials - wide} of the refined one"
    again = min(NUM_RERUN, trials)
    split = f"{folds} folds" if folds > 1 else "one hold-out split"
    race = settings.scheduler == "race" and folds > 1 and not settings.scheduler_settings
    early = "; the worse half trains on the first fold only" if race else ""
    more = ""
    if settings.members > 1:
        rates = len(with_members.RATES)
        more = f", the winner with {settings.members} members at {rates} learning rates"
    return (
        f"{trials} trials ({phases}), {split}, {epochs} epochs{early}; then the best {again} again "
        f"with other seeds{more}, and the winner on all rows"
    )


def is_one_phase(settings: Settings) -> bool:
    """Whether there is no refined search: the wide one is exhaustive, or learns by itself."""
    found = _scheduler(settings)
    if isinstance(found, schedulers.PopulationScheduler):
        return True  # its members find better values by themselves
    return settings.search in ONE_PHASE or (found is not None and found.in_turn)


def _num_wide(num_trials: int) -> int:
    """Trials of the wide search."""
    return math.ceil(num_trials / 2)


def _stopping(settings: Settings) -> stopping.StoppingRule | None:
    rules = []
    if settings.stop_at is not None:
        rules.append(stopping.target(settings.stop_at))
    if settings.stop_improvement is not None:
        rules.append(stopping.small_improvement(settings.stop_improvement))
    return stopping.any_of(*rules) if rules else None


def _scheduler(
    settings: Settings,
) -> schedulers.Scheduler | schedulers.PopulationScheduler | None:
    found: schedulers.Scheduler | schedulers.PopulationScheduler | None = schedulers.make(
        settings.scheduler, settings.scheduler_settings
    )
    return found


def search_phases(
    study: Study,
    settings: Settings,
    budget: tuple[int, int, int],
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> None:
    """Wide search, analysis, refined search."""
    num_trials, folds, epochs = budget
    is_bayesian = settings.search == "bayesian"

    def phase(name: str, total: int, space: SearchSpace) -> None:
        limit = settings.time_limit and settings.time_limit * SHARES[name]
        sampler, round_size = search.REGISTRY[settings.search](), None
        if is_bayesian and name == "wide" and not is_one_phase(settings):
            sampler = search.quasi_random()
        elif is_bayesian and name == "refined":
            sampler = search.bayesian(num_initial=NUM_KNOWN)
            round_size = max(MIN_ROUND, math.ceil(total / 3))
        if settings.prior and name == "wide":
            sampler = search.with_prior(sampler, _prior(study, settings.prior))
        study.optimize(
            sampler,
            total,
            epochs,
            folds,
            time_limit=limit,
            scheduler=_scheduler(settings),
            phase=name,
            space=space,
            round_size=round_size,
            stopping=_stopping(settings),
            progress=progress,
        )

    if is_one_phase(settings):
        phase("wide", num_trials, study.space)
    else:
        wide = study.recall("wide trials", lambda: _num_wide(num_trials))
        phase("wide", min(wide, num_trials), study.space)
        if num_trials > wide:
            refined = study.recall("refined space", lambda: refine(study, settings, say))
            phase("refined", num_trials - wide, SearchSpace.from_dict(refined))
    for decision in study.store.decisions("enough")[:1]:
        say(f"stopped searching: {decision['reason']}")


def train_again(
    study: Study,
    settings: Settings,
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> None:
    """The best of a search with other seeds, and the winner with members."""
    limit = settings.time_limit and settings.time_limit * SHARES["rerun"]
    best = ranking.searched(study)[:NUM_RERUN]
    likely = best[0] if best and settings.prefer == "best" else None
    study.rerun(best, 1, limit, progress, likely=likely)
    if settings.members > 1:
        limit = settings.time_limit and settings.time_limit * SHARES["members"]
        with_members.train(study, settings.members, limit, progress, say)


def _prior(study: Study, believed: Mapping[str, Any]) -> dict[str, Any]:
    """What is believed of the parameters that are searched.

    Raises:
      UserError: if it contradicts what the space fixes, or what the study began with.
    """
    searched = {}
    everywhere = hyperparameters.complete(study.space.fixed)
    for name, value in believed.items():
        if name in study.space.parameters or name not in everywhere:
            searched[name] = value
        elif everywhere[name] != value:
            raise UserError(f"prior: {name} is {everywhere[name]!r} in every trial, got {value!r}")
    centre_of(study.space, searched)  # before it is written for ever
    if study.recall("prior", lambda: searched) != searched:
        raise UserError("the study began with another prior; give the same, or another directory")
    return searched


def refine(study: Study, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Narrow the ranges to where the best trials of the wide search lie."""
    rows = [t for t in study.store.trials() if t.status != Status.PENDING]
    scores = [math.nan if t.score is None else t.score for t in rows]
    bad = [t.status == Status.INFEASIBLE for t in rows]
    configs = [t.config for t in rows]
    for finding in analysis.boundary_findings(study.space, configs, scores, bad):
        say(finding.text)
    if not trials.ranking(study.store):
        return study.space.to_dict()
    # Ranges that nobody wrote may grow; more layers or neurons would cost more than was planned.
    ranges = [n for n, d in study.space.parameters.items() if not math.isfinite(d.cardinality)]
    widen = settings.widen or (ranges if settings.space is None else ())
    refined = analysis.refine(study.space, configs, scores, bad, widen=widen)
    for name in refined.fixed:
        hyperparameters.check_value(name, refined.fixed[name])
    return refined.to_dict()
