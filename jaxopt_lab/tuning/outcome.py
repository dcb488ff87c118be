"""What a finished search comes to: winner, ensemble, baselines, and the files that say so."""

import importlib.metadata
import json
import math
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab import analysis
from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.types import Config, Status
from jaxopt_lab.datasets import Table, TargetLoss
from jaxopt_lab.problems.mlp import hyperparameters, optimizers
from jaxopt_lab.problems.mlp.network import count_parameters
from jaxopt_lab.problems.mlp.programs import members_of
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.problems.tabular.effects import permutation_importance
from jaxopt_lab.problems.tabular.intervals import (
    REPORTED_COVERAGE,
    Residuals,
    interval_scores,
)
from jaxopt_lab.problems.tabular.other_kinds import Other
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble
from jaxopt_lab.problems.tabular.task import Prepared, to_target
from jaxopt_lab.problems.tabular.temperatures import UNTEMPERED, Temperatures, tempered
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.study import fronts, trials
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import (
    by_target,
    calibration,
    ensemble,
    other_candidates,
    ranking,
    with_members,
)
from jaxopt_lab.tuning.other_candidates import Candidate

#: Baseline -> metric -> value (of several targets target -> this), and baseline -> why it could not
#: be fitted.
BaselineScores = tuple[dict[str, Any], dict[str, str]]
SCHEMA = 1
#: Trials that the ensemble may choose from.
NUM_CANDIDATES = 20


def write(
    study: Study,
    prefer: str,
    started: float,
    seconds_before: float,
    kinds: str,
    baselines: Callable[[], BaselineScores],
) -> dict[str, Any]:
    """Choose the winner, refit it, build the ensemble, score both, and write every file.

    Args:
      study: whose search is done.
      prefer: "best" or "small".
      started: `time.monotonic()` at the start of this session.
      seconds_before: of earlier sessions.
      kinds: of the ensemble's members: "networks" or "all".
      baselines: what `baselines_meanwhile` gave.

    Returns:
      The content of `best.json`.
    """
    ranked, failed = ranking.candidates(study), dict[str, str]()
    winner = ranked[0] if prefer == "best" else smallest_within_error(study, ranked)
    models = final_predictor(study, winner, ranked, kinds=kinds, failed=failed)
    held_out = _held_out(study, models, baselines)
    best = ranked[0]
    row, waves = study.store.trials()[winner], study.store.waves()
    config = hyperparameters.complete(row.config)
    members = [m for m in study.store.members_of(winner) if m.fold < study.num_folds]
    small = smallest_within_error(study, ranked)
    content = {
        "schema": SCHEMA,
        "trial_id": winner,
        "hyperparameters": row.config,
        "optax": _optax(study, config),
        "split": _split(study.problem.table),
        "validation": {
            "metric": study.problem.metric,
            "mean": row.score,
            "standard_error": row.standard_error,
            "folds": [m.score for m in members if m.replicate == 0],
            "rerun": [m.score for m in members if m.replicate > 0],
            **_before_reruns(study),
        },
        **with_members.told(study),
        **held_out,
        "ensemble": {
            "networks": sum(w > 0 for w in models.ensemble),
            "trials": study.recall("ensemble", list),
            "members": study.recall("ensemble members", list),
        },
        **({"failed_candidates": failed} if failed else {}),
        "efficiency": {
            "parameters": _count(study, config),
            "microseconds_per_row": {
                "single": _microseconds(models, study, single=True),
                "ensemble": _microseconds(models, study, single=False),
            },
            "best_trial": best,
            "smallest_within_one_standard_error": small,
            "its_parameters": _count(study, _config(study, small)),
        },
        "num_parameters": sizes_of(study),
        "analysis": _analysis(study),
        "trials": trials.counts(study.store),
        "seconds": {
            "total": round(seconds_before + time.monotonic() - started, 1),
            "compile": round(sum(w.compile_seconds for w in waves), 1),
            "train": round(sum(w.seconds - w.compile_seconds for w in waves), 1),
        },
        "parameters": _count(study, config),
        "versions": versions(),
    }
    if study.directory is not None:
        models.save(study.directory / "model")
        write_file(study.directory / "best.json", to_json(content))
    return content


def sizes_of(study: Study) -> dict[str, int]:
    """Trial -> weights of its network, of completed trials; empty where all are of one size."""
    mine = study.store.trials(status=Status.COMPLETED)
    found = fronts.sizes(study.training, study.programs, mine)
    if len(set(found)) < 2:
        return {}
    return {str(t.trial_id): size for t, size in zip(mine, found, strict=True)}


def _split(table: Table) -> dict[str, Any]:
    """How rows were split and weighted, and by which columns."""
    kind = next((role for role in ("group", "time") if role in table.roles), "random")
    columns = {"column": table.roles.get(kind), "weights": table.roles.get("weights")}
    return {"by": kind, **{k: v for k, v in columns.items() if v is not None}}


def _before_reruns(study: Study) -> dict[str, Any]:
    """The trial that was first before the best were trained with other seeds, if they were."""
    first, rerun = ranking.searched(study)[0], ranking.over_seeds(study)
    if first not in rerun:
        return {}
    found = {"trial_id": first, "mean": study.store.trials()[first].score}
    return {"before_reruns": {**found, "with_reruns": rerun[first]}}


def smallest_within_error(study: Study, ranked: list[int]) -> int:
    """The completed trial with the fewest weights within one standard error of the best."""
    rows = study.store.trials()
    scores = {i: score for i in ranked if (score := rows[i].score) is not None}
    limit = scores[ranked[0]] + (rows[ranked[0]].standard_error or 0.0)
    near = [i for i, score in scores.items() if score <= limit] or ranked[:1]
    return min(near, key=lambda i: (_count(study, _config(study, i)), scores[i]))


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
    networks = [(_config(study, winner), study.refit(winner), study.num_folds)]
    weights = [0.0]
    for trial_id, weight in chosen.trials.items():
        share = weight / (study.num_folds + (trial_id == winner))
        if trial_id == winner:
            weights[0] = share
        for fold in range(study.num_folds):
            params = study.kept((trial_id, fold, 0))
            networks.append((_config(study, trial_id), params, fold))
            weights.append(share)
    if not chosen.trials and not chosen.others:
        weights = [1.0]
    models = assemble(study.problem, _prepared(study), networks, weights)
    return replace(
        models,
        residuals=_residuals(study, winner, chosen, others),
        others=_refitted(study, chosen.others, len(models.encoders) - 1),
        temperatures=_temperatures(study, winner, chosen, others),
    )


def _others(study: Study, failed: dict[str, str]) -> list[Candidate]:
    """Candidates that are no networks."""
    table, prepared = study.problem.table, _prepared(study)
    where = (table, prepared, study.num_folds, study.seed, failed)
    return other_candidates.candidates(*where, study.problem.target_loss)


def _refitted(study: Study, chosen: dict[str, float], place: int) -> tuple[Other, ...]:
    """Models of other kinds, fitted to all rows that are no test rows."""
    prepared = _prepared(study)
    rows = study.problem.table.take(prepared.development)
    transform = prepared.transforms[-1] if prepared.transforms else None
    found = []
    for name, weight in chosen.items():
        try:
            where = (rows, prepared.encoders[-1], transform, study.seed, weight, place)
            found.append(other_candidates.fit(name, *where, study.problem.target_loss))
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
            predictions.append(np.concatenate([_decode(study, m) for m in members]))
    if not names:
        return Chosen({}, {})
    predictions += [other.predicted for other in others]
    table, truth = _out_of_fold(study)
    if study.problem.is_regression:
        loss = partial(_error, study.problem.target_loss, _scale(study), weights=table.weights)
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
    folds = _prepared(study).folds[: study.num_folds]
    rows = np.concatenate([valid for _, valid in folds])
    table = study.problem.table.take(_prepared(study).development[rows])
    if not study.problem.is_regression:
        return table, table.target
    return table, _prepared(study).transforms[-1].to_learnt(table.target)


def _residuals(
    study: Study, winner: int, chosen: Chosen, others: Sequence[Candidate]
) -> Residuals | None:
    """Absolute errors on out-of-fold rows of the winner and of the ensemble; None for classes, and
    for quantiles, which are no middle of an interval."""
    if not study.problem.is_regression or study.problem.target_loss.name == "quantile":
        return None
    _, truth = _out_of_fold(study)
    transforms = _prepared(study).transforms

    def predicted(trial_id: int) -> np.ndarray:
        members = _of_folds(study, trial_id)
        found = [to_target(m.outputs, transforms[m.fold]) for m in members]
        return transforms[-1].to_learnt(np.concatenate(found))

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
    sizes = [len(valid) for _, valid in _prepared(study).folds[: study.num_folds]]
    fold = np.repeat(np.arange(len(sizes)), sizes)

    def predicted(trial_id: int) -> np.ndarray:
        return np.concatenate([_decode(study, m) for m in _of_folds(study, trial_id)])

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


def _calibration(
    study: Study, models: Predictor, truth: np.ndarray, predicted: dict[str, np.ndarray]
) -> dict[str, Any]:
    """What temperatures did to out-of-fold rows, and those that are kept to test rows."""
    if study.problem.is_regression:
        return {}
    told = {name: dict(found) for name, found in study.recall("calibration", dict).items()}
    for name, chance in predicted.items():
        plain = tempered(chance, 1 / models.temperature(name == "single"))
        scores = [study.problem.scores(truth, p)["log_loss"] for p in (plain, chance)]
        told[name]["test_log_loss"] = dict(zip(("before", "after"), scores, strict=True))
    return {"calibration": told}


def _prepared(study: Study) -> Prepared:
    """The table's rows by fold."""
    prepared: Prepared = study.training.prepared  # type: ignore[attr-defined]
    return prepared


def _decode(study: Study, member: TrainedMember) -> np.ndarray:
    """Outputs of a member [n, o] -> the target, on its log scale where it has one [n, 1 or c]."""
    if not study.problem.is_regression:
        return to_target(member.outputs, None)
    transform = _prepared(study).transforms[member.fold]
    return member.outputs.astype(np.float64) * transform.scale + transform.mean


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


def _scale(study: Study) -> Any:
    """Of the target's standardisation on all rows that are no test rows, [T] of several targets; 1
    of classes."""
    transforms = _prepared(study).transforms
    return transforms[-1].scale if transforms else 1.0


def _log_loss(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray | None) -> float:
    picked = predicted[np.arange(len(truth)), truth]
    return float(-np.average(np.log(np.maximum(picked, 1e-12)), weights=weights))


def _config(study: Study, trial_id: int) -> Config:
    return hyperparameters.complete(study.store.trials()[trial_id].config)


def _count(study: Study, config: Config) -> int:
    """Weights of a configuration's own network, without padding."""
    num_features = _prepared(study).arrays.inputs.shape[2]
    size, depth = config["hidden_size"], config["num_layers"]
    outputs = study.problem.criterion.num_outputs
    return count_parameters(num_features, size, depth, outputs, **members_of(config))


def _optax(study: Study, config: Config) -> str:
    steps = steps_per_epoch(len(_prepared(study).development), config["batch_size"])
    return optimizers.to_optax(config, steps, int(study.store.settings()["budget"]))


@contextmanager
def baselines_meanwhile(study: Study) -> Iterator[Callable[[], BaselineScores]]:
    """Gives what fits the baselines, or waits for them.

    The last trainings, of the best again and of the refit, are few and leave cores idle. So the
    baselines of a large table, which take a while, are fitted on a thread of their own while the
    block runs. It is a daemon: nobody waits for it after Ctrl-C.
    """
    from threadpoolctl import threadpool_limits

    from jaxopt_lab.datasets.baselines import ROWS_PER_THREAD

    table, prepared = study.problem.table, _prepared(study)

    def fit() -> BaselineScores:
        failed: dict[str, str] = {}
        train, test = table.take(prepared.development), table.take(prepared.test)
        how = (study.seed, failed, study.problem.target_loss, _scale(study))
        return by_target.fit_baselines(train, test, *how), failed

    if study.store.decisions("baselines") or not len(prepared.test):
        yield lambda: ({}, {})  # they are not asked for
        return
    if len(prepared.development) < ROWS_PER_THREAD:
        yield fit
        return
    future: Future[BaselineScores] = Future()

    def run() -> None:
        try:
            # Threads that spin for a core which the refit has cost it more than they gain.
            with threadpool_limits(1):
                future.set_result(fit())
        except BaseException as error:
            future.set_exception(error)

    # Fitting changes the filters of warnings, which belong to the process: they are as before.
    with warnings.catch_warnings():
        Thread(target=run, name="baselines", daemon=True).start()
        yield future.result


def _held_out(
    study: Study, models: Predictor, baselines: Callable[[], BaselineScores]
) -> dict[str, Any]:
    """Scores of the single network, the ensemble and the baselines on the test rows."""
    rows = _prepared(study).test
    if not len(rows):
        return {"test": {}, "baselines": {}, **_calibration(study, models, np.zeros(0), {})}
    test = study.problem.table.take(rows)
    single = models.predict_raw(test.frame, single=True)
    together = models.predict_raw(test.frame)
    if study.directory is not None:
        _write_predictions(study, test.target, single, together)
    scale, fitted = _scale(study), cache(baselines)
    scores = {
        "single": study.problem.scores(test.target, single, scale),
        "ensemble": study.problem.scores(test.target, together, scale),
    }
    found = study.recall("baselines", lambda: fitted()[0])
    failed = study.recall("failed baselines", lambda: fitted()[1])
    ours, of_each = {"single": single, "ensemble": together}, {}
    if test.targets:
        intervals = partial(_intervals, models, test.target, ours)
        where = (study.problem, test.target, ours, found, scale, intervals)
        of_each = {"targets": by_target.told(*where)}
        found = by_target.baselines_together(study.problem, found, scale)
    return {
        "test": scores,
        "baselines": found,
        **(of_each or _intervals(models, test.target, ours)),
        **_calibration(study, models, test.target, ours),
        **_effects(study, models, test),
        **({"failed_baselines": failed} if failed else {}),
    }


def _intervals(
    models: Predictor, truth: np.ndarray, predicted: dict[str, np.ndarray], place: int | None = None
) -> dict[str, Any]:
    """Coverage and mean width of intervals about predictions of test rows, if there are any; of
    several targets those of the one in a place."""
    if models.residuals is None:
        return {}
    scores: dict[str, Any] = {}
    for name, values in predicted.items():
        try:
            ends = models.interval_around(values, REPORTED_COVERAGE, name == "single")
        except UserError:  # too few rows
            return {}
        if place is None:
            scores[name] = interval_scores(truth, ends)
        else:
            scores[name] = interval_scores(truth[:, place], ends[:, place])
    rows = len(models.residuals.single)
    return {"intervals": {"asked": REPORTED_COVERAGE, "residuals": rows, **scores}}


def _effects(study: Study, models: Predictor, test: Table) -> dict[str, Any]:
    """Permutation importance of each column on test rows, unless that takes too long."""
    metric, scale = study.problem.metric, _scale(study)

    def error(predicted: np.ndarray, truth: np.ndarray) -> float:
        return float(study.problem.scores(truth, predicted, scale)[metric])

    found = permutation_importance(models, test.frame, test.target, error, study.seed)
    if found is None:
        return {}
    columns = [
        {"name": name, "mean": float(rises.mean()), "deviation": float(rises.std())}
        for name, rises in found.columns.items()
    ]
    about = {"model": "single" if found.single else "ensemble", "metric": metric}
    about |= {"error": found.error, "rows": found.rows, "repeats": found.repeats}
    return {"effects": {**about, "columns": columns}}


def _analysis(study: Study) -> dict[str, Any]:
    """Importance, findings and verdict on the budget, over all trials with a result."""
    rows = [
        t
        for t in study.store.trials()
        if t.phase != ranking.MEMBERS and (t.score is not None or t.status == Status.INFEASIBLE)
    ]
    return analysis.summary(
        study.space,
        [t.config for t in rows],
        [math.nan if t.score is None else t.score for t in rows],
        [t.status == Status.INFEASIBLE for t in rows],
        study.seed,
        [t.phase == rows[0].phase for t in rows],
        analysis.learned(study.store),
        study.problem.unit,
    )


def _microseconds(models: Predictor, study: Study, single: bool) -> float:
    """Wall time of a prediction per row, encoding included; the second of two calls."""
    frame = study.problem.table.frame.iloc[:4096]
    models.predict_raw(frame, single)
    started = time.perf_counter()
    models.predict_raw(frame, single)
    return round((time.perf_counter() - started) / len(frame) * 1e6, 3)


def _write_predictions(
    study: Study, truth: np.ndarray, single: np.ndarray, together: np.ndarray
) -> None:
    """`test_predictions.csv`: row of the table as read, truth, single, ensemble; of several targets
    TARGET_truth, TARGET_single and TARGET_ensemble of each."""
    import pandas as pd

    classes = study.problem.table.classes
    if classes:
        names = np.asarray(classes, dtype=object)
        truth, single, together = names[truth], names[single.argmax(1)], names[together.argmax(1)]
    found = {"truth": truth, "single": single, "ensemble": together}
    if study.problem.table.targets:
        found = {
            f"{target.name}_{name}": values[:, i]
            for i, target in enumerate(study.problem.table.targets)
            for name, values in found.items()
        }
    columns = {"row": _prepared(study).test, **found}
    assert study.directory is not None
    text = pd.DataFrame(columns).to_csv(index=False)
    write_file(study.directory / "test_predictions.csv", text.encode())


def to_json(content: dict[str, Any]) -> bytes:
    """Text of `best.json`.

    JSON has no infinity and no NaN. A hyperparameter that is infinite (`clip_norm`, off) is the
    text `inf` or `-inf`; any other number that is not finite is null. Read settings with
    `storage.validation.read_setting`.
    """
    settings = {k: _setting(v) for k, v in content.get("hyperparameters", {}).items()}
    plain = _nulled({**content, "hyperparameters": settings})
    return json.dumps(plain, indent=2, allow_nan=False).encode() + b"\n"


def _setting(value: Any) -> Any:
    is_infinite = isinstance(value, float) and math.isinf(value)
    return f"{value}" if is_infinite else value


def _nulled(value: Any) -> Any:
    """The same with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _nulled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nulled(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    names = ("jaxopt-lab", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "lightgbm")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
