"""What a finished wave leaves behind: weights first, then one transaction."""

from typing import NamedTuple

import numpy as np
from safetensors.numpy import load, save

from jaxopt_lab import trials
from jaxopt_lab.predictor import Weights
from jaxopt_lab.runner import Result, WaveReport
from jaxopt_lab.store import Store
from jaxopt_lab.tasks import Prepared, TabularTask
from jaxopt_lab.types import Status

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
    """Write the weights, then members, trials and the wave's cost in one transaction.

    Args:
      store: of the study.
      weights: of the study; those of trials that no longer count are dropped.
      task: scores losses in the target's units.
      prepared: the task's data by fold; the last fold is the refit.
      report: the finished wave.
      phase: its name.
      expected: seconds to compile its program and to run it.
    """
    num_folds, budget = len(prepared.folds) - 1, store.settings()["num_epochs"]
    kept = store.best_trials(KEPT_TRIALS)
    worst = store.score(kept[-1]) if len(kept) == KEPT_TRIALS else None
    found = [_judge(store, task, prepared, result) for result in report.results]
    for entry in found:
        job = entry.result.job
        if not job.resumable and _may_be_kept(store, entry, num_folds, budget, worst):
            weights.put((job.trial_id, job.fold, job.replicate), entry.result.params)
    with store.transaction():
        for entry in found:
            _write_member(store, entry)
        for trial_id in dict.fromkeys(r.job.trial_id for r in report.results):
            if trials.settle(store, trial_id, num_folds, budget):
                store.drop_states([trial_id])
        _add_expected(store, str(report.wave.signature), expected)
        store.add_wave(
            phase,
            report.seconds,
            report.compile_seconds,
            len(report.results),
            sum(r.job.num_epochs for r in report.results),
            str(report.wave.signature),
        )
    weights.keep_only([*store.best_trials(KEPT_TRIALS), *store.trials_with(Status.PENDING)])


class _Entry(NamedTuple):
    """A result as it is written."""

    result: Result
    score: float | None
    reason: str
    epoch: int
    curves: dict[str, np.ndarray]


def _may_be_kept(
    store: Store, entry: _Entry, num_folds: int, budget: int, worst: float | None
) -> bool:
    """Whether a network's weights may be wanted; not if its trial is worse than those kept.

    Writing them safely costs more than training a small network.

    Args:
      store: of the study.
      entry: a network.
      num_folds: K.
      budget: epochs of a network trained to the end.
      worst: score of the last of the trials kept; None if there is room.
    """
    job = entry.result.job
    if job.fold == num_folds or job.replicate:
        return True
    if entry.score is None:
        return False
    if worst is None:
        return True
    scores: dict[int, float | None] = {job.fold: entry.score}
    for member in store.members_of(job.trial_id) if num_folds > 1 else ():
        of_fold = member["fold"] < num_folds and member["replicate"] == 0
        if of_fold and member["num_epochs"] == budget:
            scores.setdefault(member["fold"], member["score"])
    known = [score for score in scores.values() if score is not None]
    if len(known) < len(scores):
        return False
    return len(known) < num_folds or float(np.mean(known)) <= worst


def _add_expected(store: Store, program: str, seconds: tuple[float, float]) -> None:
    """Add to what the study should have taken so far, program by program."""
    found = store.settings().get("expected", {})
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
        store.keep_state(job.trial_id, job.fold, pack_state(entry.result.state))


def pack_state(state: list[np.ndarray]) -> bytes:
    """Arrays to bytes; `unpack_state` takes them back bit for bit."""
    return save({str(i): np.asarray(leaf, order="C") for i, leaf in enumerate(state)})


def unpack_state(content: bytes) -> list[np.ndarray]:
    """Read what `pack_state` wrote."""
    found = load(content)
    return [found[str(i)] for i in range(len(found))]
