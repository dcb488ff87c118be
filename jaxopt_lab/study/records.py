"""What a finished wave leaves behind, in one transaction."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.results import CohortResults, Result, Results, collecting_later
from jaxopt_lab.core.runner import WaveReport
from jaxopt_lab.core.types import Status
from jaxopt_lab.problems.contract import Training
from jaxopt_lab.storage.packing import pack_curves_of, pack_state, row_bytes
from jaxopt_lab.storage.rows import Member, PackedMember, TrainedMember
from jaxopt_lab.storage.store import Store, packed
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
    results, jobs = report.results, report.jobs
    with collecting_later():
        found = _found(store, training, report)
        members = [entry.member for entry in found]
        worthy = _worth_keeping(store, jobs, members, num_folds, budget, keep)
        with store.transaction():
            for i in worthy:
                weights.put(members[i].key, results[i].params, training)
            store.add_packed(found)
            for result in results if any(job.resumable for job in jobs) else ():
                if result.state is not None:
                    member = (result.job.trial_id, result.job.fold, 0)
                    store.keep("state", member, pack_state(result.state))
            trial_ids = list(dict.fromkeys(job.trial_id for job in jobs))
            over = trials.settle(store, trial_ids, num_folds, budget, members)
            store.drop("state", over)
            write_cost(store, report, phase, expected)
            pending = store.trials_with(Status.PENDING, among=sorted(weights.trials))
            refitted = {trial_id for trial_id, fold, _ in weights.members if fold == num_folds}
            weights.keep_only([*store.best_trials(keep), *pending, *refitted])


def _found(store: Store, training: Training, report: WaveReport) -> list[PackedMember]:
    """Judge the trainings of a wave: by arrays, those that go on and those from elsewhere apart."""
    results, jobs = report.results, report.jobs
    if not isinstance(results, Results) or any(job.start for job in jobs):
        return [packed(judged(training, r, _before(store, r))) for r in results]
    return [row for cohort in results.cohorts for row in _of_cohort(training, cohort)]


def _of_cohort(training: Training, cohort: CohortResults) -> Iterator[PackedMember]:
    scores, reasons, best_units, curves, outputs = training.judge_cohort(cohort)
    jobs, num_outputs = cohort.jobs, outputs.shape[-1]
    packed_curves = pack_curves_of(curves, len(jobs))
    packed_outputs = row_bytes(np.ascontiguousarray(outputs, "<f4"))
    for i, job in enumerate(jobs):
        facts = (job.trial_id, job.fold, job.replicate, scores[i], reasons[i], best_units[i])
        member = Member(*facts, job.num_units)
        yield PackedMember(member, packed_curves[i], packed_outputs[i], num_outputs)


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
        members = [[job.trial_id, job.fold, job.replicate] for job in report.jobs]
        facts = {"worker": report.worker, "members": members, "seconds": report.seconds}
        store.decide(WORKER, facts)
    store.add_wave(
        phase,
        report.seconds,
        report.compile_seconds,
        len(report.results),
        sum(job.num_units for job in report.jobs),
        str(report.wave.program),
    )


def _worth_keeping(
    store: Store,
    jobs: Sequence[Job],
    members: Sequence[Member],
    num_folds: int,
    budget: int,
    keep: int,
) -> list[int]:
    """Places of the networks whose weights may be wanted: those of trials that can still be among
    the best.

    Writing weights safely costs more than training a small network.

    Args:
      store: of the study.
      jobs: of a wave.
      members: what they came to.
      num_folds: K.
      budget: epochs of a network trained to the end.
      keep: the best trials of which results are kept.
    """
    ended = [i for i, job in enumerate(jobs) if not job.resumable]
    scores: dict[int, dict[int, float | None]] = {}
    for i in ended:
        if members[i].fold < num_folds and not members[i].replicate:
            scores.setdefault(members[i].trial_id, {})[members[i].fold] = members[i].score
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
        place
        for place in ended
        for job in [jobs[place]]
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


def note_devices(store: Store, devices: Sequence[Any]) -> None:
    """Record on how many devices of which kind a study goes on, if it was trained on others before.

    Args:
      store: the study, whose settings say on which it began.
      devices: from now on.
    """
    now = {"num_devices": len(devices), "device": devices[0].platform}
    settings = store.settings()
    began = {name: settings.get(name) for name in now}
    before = store.decisions("devices")[-1:] or [began]
    if {name: before[0][name] for name in now} != now:
        store.decide("devices", {**now, "first_wave": len(store.waves())})
