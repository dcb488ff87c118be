"""What a finished wave leaves behind, in one transaction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxopt_lab.core.runner import Result, WaveReport
from jaxopt_lab.core.types import Status
from jaxopt_lab.problems.contract import Training
from jaxopt_lab.storage.packing import pack_state
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import trials
from jaxopt_lab.study.weights import Weights

#: The kind of decision that says who trained a wave.
WORKER = "worker"
#: Trials whose weights are kept for ensembles.
KEPT_TRIALS = 20


def write_wave(
    store: Store,
    weights: Weights,
    training: Training,
    report: WaveReport,
    phase: str,
    expected: tuple[float, float],
    keep: int = KEPT_TRIALS,
) -> None:
    """Write weights, members, trials and the wave's cost in one transaction.

    Args:
      store: of the study.
      weights: of the study; those of trials that no longer count are dropped, but for trials that
        were refitted, which somebody chose.
      training: judges members.
      report: the finished wave.
      phase: its name.
      expected: seconds to compile its program and to run it.
      keep: the best trials of which results are kept.
    """
    num_folds, budget = training.num_members, int(store.setting("budget"))
    found = [
        _Entry(result, judged(training, result, _before(store, result)))
        for result in report.results
    ]
    worthy = _worth_keeping(store, found, num_folds, budget, keep)
    with store.transaction():
        for entry in worthy:
            job = entry.result.job
            member = (job.trial_id, job.fold, job.replicate)
            weights.put(member, entry.result.params, training)
        store.add_members([entry.member for entry in found])
        for result in report.results:
            if result.state is not None:
                member = (result.job.trial_id, result.job.fold, 0)
                store.keep("state", member, pack_state(result.state))
        trial_ids = list(dict.fromkeys(r.job.trial_id for r in report.results))
        store.drop("state", trials.settle(store, trial_ids, num_folds, budget))
        write_cost(store, report, phase, expected)
        pending = store.trials_with(Status.PENDING, among=sorted(weights.trials))
        refitted = {trial_id for trial_id, fold, _ in weights.members if fold == num_folds}
        weights.keep_only([*store.best_trials(keep), *pending, *refitted])


def judged(training: Training, result: Result, before: TrainedMember | None) -> TrainedMember:
    """A training as it is stored, with what was before it.

    Args:
      training: judges.
      result: from the runner.
      before: what it goes on from, if it does.
    """
    job, (score, reason, best_unit, curves, outputs) = result.job, training.judge(result, before)
    facts = (job.trial_id, job.fold, job.replicate, score, reason, best_unit)
    return TrainedMember(*facts, job.start + job.num_units, curves, outputs)


def write_cost(store: Store, report: WaveReport, phase: str, expected: tuple[float, float]) -> None:
    """Write what a wave cost, and what it was expected to; inside a transaction."""
    _add_expected(store, str(report.wave.program), expected)
    if report.worker:
        jobs = [result.job for result in report.results]
        members = [[job.trial_id, job.fold, job.replicate] for job in jobs]
        facts = {"worker": report.worker, "members": members, "seconds": report.seconds}
        store.decide(WORKER, facts)
    store.add_wave(
        phase,
        report.seconds,
        report.compile_seconds,
        len(report.results),
        sum(r.job.num_units for r in report.results),
        str(report.wave.program),
    )


class _Entry(NamedTuple):
    """A result as it is written."""

    result: Result
    member: TrainedMember


def _worth_keeping(
    store: Store, found: Sequence[_Entry], num_folds: int, budget: int, keep: int
) -> list[_Entry]:
    """The networks whose weights may be wanted: those of trials that can still be among the best.

    Writing weights safely costs more than training a small network.

    Args:
      store: of the study.
      found: networks of a wave.
      num_folds: K.
      budget: epochs of a network trained to the end.
      keep: the best trials of which results are kept.
    """
    ended = [entry for entry in found if not entry.result.job.resumable]
    scores: dict[int, dict[int, float | None]] = {}
    for entry in ended:
        job = entry.result.job
        if job.fold < num_folds and not job.replicate:
            scores.setdefault(job.trial_id, {})[job.fold] = entry.member.score
    for member in store.members_of(*scores) if num_folds > 1 else ():
        of_fold = member.fold < num_folds and member.replicate == 0
        if of_fold and member.num_units == budget:
            scores[member.trial_id].setdefault(member.fold, member.score)
    infeasible = {i for i, mine in scores.items() if None in mine.values()}
    means = {
        i: trials.mean([score for score in mine.values() if score is not None])
        for i, mine in scores.items()
        if i not in infeasible and len(mine) == num_folds
    }
    ranked = sorted([*store.best_scores(keep), *means.values()])
    worst = ranked[keep - 1] if len(ranked) >= keep else np.inf
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


def _before(store: Store, result: Result) -> TrainedMember | None:
    """The stored member that a training goes on from, if it does."""
    job = result.job
    if not job.start:
        return None
    return next(m for m in store.member_arrays(job.trial_id) if m.fold == job.fold)
