"""Trials trained again: alone by their schedule, with other seeds, on all rows."""

from collections.abc import Sequence

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.study import lineages, trials
from jaxopt_lab.study.lineages import Stage
from jaxopt_lab.study.replays import Replay, Trained, cut, train_schedule
from jaxopt_lab.study.trainings import Trainings
from jaxopt_lab.study.watch import Watch


def schedule_of(trainings: Trainings, trial_id: int) -> list[Stage]:
    """The values that a trial's state was trained with, from its root on; one stage for a trial of
    no population."""
    store = trainings.store
    row = store.trials()[trial_id]
    units = max((m.num_units for m in store.members_of(trial_id)), default=0)
    generations = lineages.generations_of(store)
    return lineages.schedule_of(generations, trial_id, row.config, row.score, units)


def replay(trainings: Trainings, trial_id: int | None) -> Replay:
    """See `Study.replay`."""
    store = trainings.store
    trial_id = trials.best_trial(store) if trial_id is None else trial_id
    if not 0 <= trial_id < store.num_trials():
        raise UserError(f"there is no trial {trial_id}; give a number below {store.num_trials()}")
    stages = schedule_of(trainings, trial_id)
    members = [
        m
        for m in store.member_arrays(trial_id)
        if m.replicate == 0 and m.fold < trainings.training.num_members
    ]
    if not members or not stages[-1].units:
        raise UserError(f"trial {trial_id} was not trained; replay another one")
    found = _train(trainings, stages, [m.fold for m in members])
    frame = lineages.schedule_frame(stages, trainings.problem.objective.sign)
    return Replay(frame, [t.member.curves for t in found], [m.curves for m in members])


def rerun(trainings: Trainings, trial_ids: Sequence[int], replicate: int, watch: Watch) -> None:
    """See `Study.rerun`."""
    done = {member.key for member in trainings.store.members()}
    rows = trainings.store.trials()
    schedules = {i: schedule_of(trainings, i) for i in trial_ids}
    jobs = [
        trainings.job(i, rows[i].config, fold, replicate)
        for fold in range(trainings.num_folds)
        for i in trial_ids
        if (i, fold, replicate) not in done and len(schedules[i]) == 1
    ]
    for i, stages in schedules.items():
        left = [k for k in range(trainings.num_folds) if (i, k, replicate) not in done]
        if left and len(stages) > 1:
            _write(trainings, i, stages, left, replicate)
    trainings.run(jobs, watch)


def refit(trainings: Trainings, trial_id: int, watch: Watch) -> None:
    """See `Study.refit`; what comes of it is kept as that of the refit's member."""
    training, store = trainings.training, trainings.store
    if training.refit_member is None:
        raise UserError(
            "only tables are refitted on all rows and predicted for by the study; a module of your "
            "own is applied: best.module.apply(best.variables, inputs)"
        )
    if trainings.weights.has((trial_id, training.refit_member, 0)):
        return
    config = training.complete(store.trials()[trial_id].config)
    best = trials.mean_best_epochs(store, trial_id, trainings.num_folds)
    units = training.refit_units(config, best)
    stages = cut(schedule_of(trainings, trial_id), units or trainings.budget)
    if len(stages) > 1:
        _write(trainings, trial_id, stages, [training.refit_member], 0)
        return
    trainings.run([trainings.job(trial_id, config, training.refit_member, num_epochs=units)], watch)


def _train(
    trainings: Trainings, stages: Sequence[Stage], folds: Sequence[int], replicate: int = 0
) -> list[Trained]:
    root = stages[0]
    trainings.fix_widths([trainings.job(root.trial_id, root.config, fold) for fold in folds])
    where = (trainings.runner, trainings.training, trainings.job)
    return train_schedule(*where, stages, folds, replicate)


def _write(
    trainings: Trainings, trial_id: int, stages: Sequence[Stage], folds: Sequence[int], seeds: int
) -> None:
    """Train a schedule on other rows or with other seeds, and keep the results."""
    for trained in _train(trainings, stages, folds, seeds):
        member = trained.member._replace(trial_id=trial_id, replicate=seeds)
        with trainings.store.transaction():
            trainings.store.add_members([member])
            params = trained.result.params
            trainings.weights.put((trial_id, member.fold, seeds), params, trainings.training)
