"""The models that a search ends with: the refitted winner and a greedy ensemble."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.types import Config
from jaxopt_lab.datasets import Table, TargetLoss
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.tabular.intervals import Residuals
from jaxopt_lab.problems.tabular.other_kinds import Other
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble
from jaxopt_lab.problems.tabular.task import Prepared, to_averaged
from jaxopt_lab.problems.tabular.temperatures import UNTEMPERED, Temperatures
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import calibration, ensemble, other_candidates
from jaxopt_lab.tuning.committees import PLAIN
from jaxopt_lab.tuning.other_candidates import Candidate

#: Trials that the ensemble may choose from.
NUM_CANDIDATES = 20


def final_predictor(
    study: Study,
    winner: int,
    ranked: list[int],
    num_candidates: int = NUM_CANDIDATES,
    kinds: str = "networks",
    failed: dict[str, str] | None = None,
) -> Predictor:
    """The refitted winner first, then the members of the ensemble with their weights.

    A trial's weight is shared by its networks: one per fold, and for the winner the refit too,
    which was trained on more rows than any of them. Models of other kinds are fitted again to all
    rows that are no test rows.

    Args:
      study: whose search is done.
      winner: the trial that is refitted.
      ranked: completed trials, best first.
      num_candidates: trials that the ensemble may choose from; 0 for no ensemble.
      kinds: "networks", or "all" for boosted trees and linear models, too.
      failed: receives name -> reason where one of these cannot be fitted.
    """
    if winner != ranked[0]:
        ranked = [winner, *(i for i in ranked if i != winner)]
    others = _others(study, {} if failed is None else failed) if kinds == "all" else []
    chosen = ensemble_weights(study, ranked[:num_candidates], others)
    networks = [(config_of(study, winner), study.refit(winner), study.num_folds)]
    weights = [0.0]
    for trial_id, weight in chosen.trials.items():
        share = weight / (study.num_folds + (trial_id == winner))
        if trial_id == winner:
            weights[0] = share
        for fold in range(study.num_folds):
            params = study.kept((trial_id, fold, 0))
            networks.append((config_of(study, trial_id), params, fold))
            weights.append(share)
    if not chosen.trials and not chosen.others:
        weights = [1.0]
    models = assemble(study.problem, prepared_rows(study), networks, weights)
    return replace(
        models,
        residuals=_residuals(study, winner, chosen, others),
        others=_refitted(study, chosen.others, others, len(models.encoders) - 1),
        temperatures=_temperatures(study, winner, chosen, others),
    )


def _others(study: Study, failed: dict[str, str]) -> list[Candidate]:
    """Candidates that are no networks."""
    table, prepared = study.problem.table, prepared_rows(study)
    where = (table, prepared, study.num_folds, study.seed, failed)
    return other_candidates.candidates(*where, study.problem.target_loss)


def _refitted(
    study: Study, chosen: dict[str, float], others: Sequence[Candidate], place: int
) -> tuple[Other, ...]:
    """Models of other kinds, fitted to all rows that are no test rows."""
    prepared = prepared_rows(study)
    rows = study.problem.table.take(prepared.development)
    transform = prepared.transforms[-1] if prepared.transforms else None
    committees = {other.name: other.committee or PLAIN for other in others}
    found = []
    for name, weight in chosen.items():
        try:
            where = (rows, prepared.encoders[-1], transform, study.seed, weight, place)
            how = (study.problem.target_loss, committees[name])
            found.append(other_candidates.fit(name, *where, *how))
        except ValueError as error:
            raise MachineError(
                f"{name} fits the folds but not all rows: {error}; run again with --ensemble "
                "networks"
            ) from None
    return tuple(found)


class Chosen(NamedTuple):
    """Members of an ensemble and their weights, which sum to 1; none where there is no ensemble.

    Attributes:
      trials: trial_id -> weight.
      others: name of a model of another kind -> weight.
    """

    trials: dict[int, float]
    others: dict[str, float]


def ensemble_weights(study: Study, ranked: list[int], others: Sequence[Candidate] = ()) -> Chosen:
    """Greedy ensemble of trials, chosen on the rows that each fold's networks did not see.

    Args:
      study: whose search is done.
      ranked: the trials that may be chosen.
      others: models of other kinds that may be chosen.
    """
    names, predictions = [], []
    for trial_id in ranked:
        members = _of_folds(study, trial_id)
        kept = all(study.weights.has((trial_id, f, 0)) for f in range(study.num_folds))
        if len(members) == study.num_folds and kept:
            names.append(trial_id)
            predictions.append(_predicted(study, members))
    if not names:
        return Chosen({}, {})
    predictions += [other.predicted for other in others]
    table, truth = _out_of_fold(study)
    if study.problem.is_regression:
        scale = target_scale(study)
        loss = partial(_error, study.problem.target_loss, scale, weights=table.weights)
    else:
        loss = partial(_log_loss, weights=table.weights)
    weights = [float(w) for w in ensemble.greedy(np.stack(predictions), truth, loss)]
    trained = {n: w for n, w in zip(names, weights, strict=False) if w > 0}
    beside = zip((other.name for other in others), weights[len(names) :], strict=True)
    chosen = Chosen(trained, {n: w for n, w in beside if w > 0})
    study.recall("ensemble", lambda: [[n, w] for n, w in chosen.trials.items()], again=True)
    labels = [*(f"trial {n}" for n in names), *(other.name for other in others)]
    told = [
        {"name": label, "weight": weight, "out_of_fold": loss(predicted, truth)}
        for label, weight, predicted in zip(labels, weights, predictions, strict=True)
        if weight > 0 or label not in [f"trial {n}" for n in names]
    ]
    study.recall("ensemble members", lambda: told, again=True)
    return chosen


def _of_folds(study: Study, trial_id: int) -> list[TrainedMember]:
    """A trial's networks, one per fold, without reruns and refit."""
    members = study.store.member_arrays(trial_id)
    return [m for m in members if m.fold < study.num_folds and m.replicate == 0]


def _out_of_fold(study: Study) -> tuple[Table, np.ndarray]:
    """Validation rows of all folds in turn, and their target on the scale that is learnt."""
    folds = prepared_rows(study).folds[: study.num_folds]
    rows = np.concatenate([valid for _, valid in folds])
    table = study.problem.table.take(prepared_rows(study).development[rows])
    if not study.problem.is_regression:
        return table, table.target
    return table, prepared_rows(study).transforms[-1].to_learnt(table.target)


def _residuals(
    study: Study, winner: int, chosen: Chosen, others: Sequence[Candidate]
) -> Residuals | None:
    """Absolute errors on out-of-fold rows of the winner and of the ensemble; None for classes, and
    for quantiles, which are no middle of an interval."""
    if not study.problem.is_regression or study.problem.target_loss.name == "quantile":
        return None
    _, truth = _out_of_fold(study)

    def predicted(trial_id: int) -> np.ndarray:
        return _predicted(study, _of_folds(study, trial_id)).reshape(truth.shape)

    def errors(values: np.ndarray) -> np.ndarray:
        return np.sort(np.abs(truth - values), axis=0)

    single = errors(predicted(winner))
    if not chosen.trials and not chosen.others:
        return Residuals(single, single)
    together = sum(weight * predicted(trial_id) for trial_id, weight in chosen.trials.items())
    for other in others:
        together = together + chosen.others.get(other.name, 0.0) * other.predicted[:, 0]
    return Residuals(single, errors(np.asarray(together)))


def _temperatures(
    study: Study, winner: int, chosen: Chosen, others: Sequence[Candidate]
) -> Temperatures:
    """Those of the winner's class probabilities and of the ensemble's."""
    if study.problem.is_regression:
        return UNTEMPERED
    table, truth = _out_of_fold(study)
    sizes = [len(valid) for _, valid in prepared_rows(study).folds[: study.num_folds]]
    fold = np.repeat(np.arange(len(sizes)), sizes)

    def predicted(trial_id: int) -> np.ndarray:
        return _predicted(study, _of_folds(study, trial_id))

    single = together = predicted(winner)
    if chosen.trials or chosen.others:
        parts = [weight * predicted(trial_id) for trial_id, weight in chosen.trials.items()]
        parts += [chosen.others.get(other.name, 0.0) * other.predicted for other in others]
        together = np.sum(parts, axis=0)
    several = [False, len(sizes) > 1 and bool(chosen.trials)]
    found = [
        calibration.calibrate(chance, truth, fold, table.weights, averaged)
        for chance, averaged in zip((single, together), several, strict=True)
    ]
    told = {name: f.told() for name, f in zip(Temperatures._fields, found, strict=True)}
    study.recall("calibration", lambda: told, again=True)
    return Temperatures(*(f.temperature for f in found))


def prepared_rows(study: Study) -> Prepared:
    """The table's rows by fold."""
    prepared: Prepared = study.training.prepared  # type: ignore[attr-defined]
    return prepared


def _predicted(study: Study, members: Sequence[TrainedMember]) -> np.ndarray:
    """What models of a trial's members average, on all rows of their folds [n, T or c]: the target,
    on its log scale where it has one, within the bounds of predictions, or probabilities.
    """
    transforms = prepared_rows(study).transforms
    found = np.concatenate(
        [to_averaged(m.outputs, transforms[m.fold] if transforms else None) for m in members]
    )
    return found.reshape(len(found), -1)


def _error(
    loss: TargetLoss,
    scale: Any,
    predicted: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | None,
) -> float:
    if truth.ndim == 1:
        return loss.error(truth, predicted[:, 0], scale, weights)
    columns = zip(truth.T, predicted.T, scale, strict=True)
    return loss.shared([loss.error(t, p, float(s), weights) for t, p, s in columns], scale)


def target_scale(study: Study) -> Any:
    """Of the target's standardisation on all rows that are no test rows, [T] of several targets; 1
    of classes."""
    transforms = prepared_rows(study).transforms
    return transforms[-1].scale if transforms else 1.0


def _log_loss(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray | None) -> float:
    picked = predicted[np.arange(len(truth)), truth]
    return float(-np.average(np.log(np.maximum(picked, 1e-12)), weights=weights))


def config_of(study: Study, trial_id: int) -> Config:
    return hyperparameters.complete(study.store.trials()[trial_id].config)
