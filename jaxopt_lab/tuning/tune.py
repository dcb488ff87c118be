"""The whole job, from a table to files that predict, or on from where it stopped."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_lab import problems as tasks
from jaxopt_lab.datasets import (
    Table,
    decided_on,
    different_rows,
    find_location,
    most_time_folds,
    rarest,
    test_split,
)
from jaxopt_lab.planning.plan import Plan
from jaxopt_lab.problems.tabular.other_kinds import KERNEL
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study.callbacks import Progress
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import held_out, other_candidates, outcome, with_members
from jaxopt_lab.tuning.number_columns import BINS, begun_with, number_encoding, number_of_bins
from jaxopt_lab.tuning.phases import (
    NUM_RERUN,
    is_one_phase,
    num_wide,
    scheduler_of,
    search_phases,
    train_again,
)
from jaxopt_lab.tuning.settings import AUTO, NONE, Settings, default_budget, default_space


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
        with held_out.baselines_meanwhile(study) as baselines:
            train_again(study, settings, progress, say)
            how = (settings.prefer, started, before, settings.ensemble, baselines)
            content = outcome.write(study, *how)
        for name, reason in content.get("failed_candidates", {}).items():
            say(f"note: {name} cannot be fitted to this table for the ensemble: {reason}")
        for name, reason in content.get("failed_baselines", {}).items():
            say(f"note: the baseline {name} cannot be fitted to this table: {reason}")
        if any(m["name"] == KERNEL and m["weight"] for m in content["ensemble"]["members"]):
            say(
                "note: the ensemble has a kernel regression, which holds the training rows: who "
                "gets the model gets these"
            )
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
            scheduler=scheduler_of(settings),
            num_first=num_trials if is_one_phase(settings) else num_wide(num_trials),
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
    other_candidates.check_targets(table, settings.ensemble)
    rows: Any = np.arange(len(table))
    if settings.test_fraction:
        rows, _ = test_split(table, settings.test_fraction, settings.seed)
        table, notes = decided_on(table, rows)
    known = table.take(rows)
    near = near_columns(known, settings.near, notes)
    numeric = number_encoding(known, settings.numeric, settings.num_bins, notes)
    asked = (settings.numeric if numeric == BINS else numeric, settings.num_bins)
    task = tasks.tabular(
        table,
        test_fraction=settings.test_fraction,
        numeric=numeric,
        num_bins=number_of_bins(known, *asked, begun_with(directory), notes),
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


def _budget_in_words(settings: Settings, trials: int, folds: int, epochs: int) -> str:
    """Trials by phase, folds and epochs, and which of them are stopped early."""
    wide = trials if is_one_phase(settings) else num_wide(trials)
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
