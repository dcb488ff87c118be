"""What a time limit leaves: at least one complete trial, where that can be had in time."""

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.types import Status
from jaxopt_lab.schedulers import Scheduler
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.study.trainings import Trainings


def units_kept(trainings: Trainings, stops: Scheduler | None, num_trials: int) -> int:
    """Units of budget, one wave after another, that complete what the first wave began.

    Args:
      trainings: of the study.
      stops: who stops trials; None if all train to the end, member by member.
      num_trials: of the phase.
    """
    budget, members = trainings.budget, trainings.num_folds
    brackets = () if stops is None else stops.brackets(num_trials, budget, members)
    if all(rung.num_epochs == budget for bracket in brackets for rung in bracket):
        members -= 1  # of which it trained one to the end
    return -(-members // len(trainings.devices)) * budget


def promising(trainings: Trainings, phase: str) -> list[Trial]:
    """The pending trials that are best so far, as many as one cohort trains: company is free.

    They are compared by their first member, at the greatest age that any of them has.
    """
    store = trainings.store
    rows = {row.trial_id: row for row in store.trials(phase, Status.PENDING)}
    found = [
        member
        for member in store.members_of(*rows)
        if member.fold == 0 and member.replicate == 0 and member.score is not None
    ]
    oldest = max((member.num_units for member in found), default=0)
    ranked = sorted((m.score, m.trial_id) for m in found if m.num_units == oldest)
    jobs = [trainings.job(i, rows[i].config, 0) for _, i in ranked]
    alike = [job for job in jobs if _company(job) == _company(jobs[0])]
    width = trainings.runner.width(jobs[0].program) if jobs else 0
    return [rows[job.trial_id] for job in alike[:width]]


def _company(job: Job) -> tuple[object, ...]:
    """What is the same for all trials of a cohort."""
    return job.program, job.program.group(job.config)
