"""What a finished wave leaves behind, in one transaction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxopt_lab.core.runner import Result, WaveReport
from jaxopt_lab.core.types import Status
from jaxopt_lab.problems import Prepared, TabularTask
from jaxopt_lab.problems.tabular.predictor import Weights
from jaxopt_lab.storage.packing import pack_state
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import trials

#: A trial is infeasible if its loss exceeds this many times a constant predictor's.
INFEASIBLE_RATIO = 10.0
#: Trials whose weights are kept for ensembles.
KEPT_TRIALS = 20


def write_wave(
    store: Store,
    weights: Weights,
    task: TabularTask,
    prepared: Prepared,
    report: WaveReport,
    phase: str,
    expected: tuple[float, float],
) -> None:
    """Write weights, members, trials and the wave's cost in one transaction.

    Args:
      store: of the study.
      weights: of the study; those of trials that no longer count are dropped.
      task: scores losses in the target's units.
      prepared: the task's data by fold; the last fold is the refit.
      report: the finished wave.
      phase: its name.
      expected: seconds to compile its program and to run it.
    """
    num_folds, budget = len(prepared.folds) - 1, int(store.setting("num_epochs"))
    found = [_judge(store, task, prepared, result) for result in report.results]
    worthy = _worth_keeping(store, found, num_folds, budget)
    with store.transaction():
        for entry in worthy:
            job = entry.result.job
            weights.put((job.trial_id, job.fold, job.replicate), entry.result.params)
        for entry in found:
            _write_member(store, entry)
        trial_ids = list(dict.fromkeys(r.job.trial_id for r in report.results))
        store.drop("state", trials.settle(store, trial_ids, num_folds, budget))
        _add_expected(store, str(report.wave.signature), expected)
        store.add_wave(
            phase,
            report.seconds,
            report.compile_seconds,
            len(report.results),
            sum(r.job.num_epochs for r in report.results),
            str(report.wave.signature),
        )
        pending = store.trials_with(Status.PENDING, among=sorted(weights.trials))
        weights.keep_only([*store.best_trials(KEPT_TRIALS), *pending])


class _Entry(NamedTuple):
    """A result as it is written."""

    result: Result
    score: float | None
    reason: str
    epoch: int
    curves: dict[str, np.ndarray]


def _worth_keeping(
    store: Store, found: Sequence[_Entry], num_folds: int, budget: int
) -> list[_Entry]:
    """The networks whose weights may be wanted: those of trials that can still be among the best.

    Writing weights safely costs more than training a small network.

    Args:
      store: of the study.
      found: networks of a wave.
      num_folds: K.
      budget: epochs of a network trained to the end.
    """
    ended = [entry for entry in found if not entry.result.job.resumable]
    scores: dict[int, dict[int, float | None]] = {}
    for entry in ended:
        job = entry.result.job
        if job.fold < num_folds and not job.replicate:
            scores.setdefault(job.trial_id, {})[job.fold] = entry.score
    for member in store.members_of(*scores) if num_folds > 1 else ():
        of_fold = member["fold"] < num_folds and member["replicate"] == 0
        if of_fold and member["num_epochs"] == budget:
            scores[member["trial_id"]].setdefault(member["fold"], member["score"])
    infeasible = {i for i, mine in scores.items() if None in mine.values()}
    means = {
        i: float(np.mean([score for score in mine.values() if score is not None]))
        for i, mine in scores.items()
        if i not in infeasible and len(mine) == num_folds
    }
    ranked = sorted([*store.best_scores(KEPT_TRIALS), *means.values()])
    worst = ranked[KEPT_TRIALS - 1] if len(ranked) >= KEPT_TRIALS else np.inf
    return [
        entry
        for entry in ended
        for job in [entry.result.job]
        if job.fold == num_folds
        or job.replicate
        or (job.trial_id not in infeasible and not means.get(job.trial_id, -np.inf) > worst)
    ]


def _add_expected(store: Store, program: str, seconds: tuple[float, float]) -> None:
    """Add to what the study should have taken so far, program by program."""
    try:
        found = store.setting("expected")
    except KeyError:
        found = {}
    before = found.get(program, {"compile": seconds[0], "run": 0.0})
    found[program] = {**before, "run": before["run"] + seconds[1]}
    store.set("expected", found)


def _judge(store: Store, task: TabularTask, prepared: Prepared, result: Result) -> _Entry:
    """One network: its score, or why it has none, with its curves from the first epoch on."""
    job, curves = result.job, result.curves
    kept = np.flatnonzero(result.keep)
    epoch = job.start + (int(kept[-1]) if len(kept) else job.num_epochs - 1)
    if job.start:
        before = next(m for m in store.member_arrays(job.trial_id) if m["fold"] == job.fold)
        curves = {k: np.concatenate([before["curves"][k], v]) for k, v in curves.items()}
        epoch = epoch if len(kept) else before["best_epoch"]
    loss = curves["loss"]
    is_refit = job.fold == len(prepared.folds) - 1
    final = float(curves["train_loss"][epoch] if is_refit else loss[epoch])
    limit = INFEASIBLE_RATIO * prepared.constant_losses[job.fold]
    reason = trials.why_infeasible(final, result.diverged_at, result.last_loss, limit)
    score = None if reason else task.score(final, job.fold, prepared)
    return _Entry(result, score, reason, epoch, curves)


def _write_member(store: Store, entry: _Entry) -> None:
    job = entry.result.job
    store.add_member(
        job.trial_id,
        job.fold,
        job.replicate,
        entry.score,
        entry.reason,
        entry.epoch,
        entry.curves,
        entry.result.outputs,
        job.start + job.num_epochs,
    )
    if entry.result.state is not None:
        store.keep("state", (job.trial_id, job.fold, 0), pack_state(entry.result.state))
