"""What a finished search comes to: winner, scores, findings, and the files that say so."""

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable
from typing import Any

from jaxopt_lab import analysis
from jaxopt_lab.core.types import Config, Status
from jaxopt_lab.datasets import Table
from jaxopt_lab.problems.mlp import hyperparameters, optimizers
from jaxopt_lab.problems.mlp.network import count_parameters
from jaxopt_lab.problems.mlp.programs import members_of
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.problems.tabular.predictor import Predictor
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.study import fronts, trials
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import held_out, ranking, with_members
from jaxopt_lab.tuning.final_models import config_of, final_predictor, prepared_rows
from jaxopt_lab.tuning.held_out import BaselineScores

SCHEMA = 1


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
    scores = held_out.scores_of(study, models, baselines)
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
            **_epochs(study, winner, config),
        },
        **with_members.told(study),
        **scores,
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
            "its_parameters": _count(study, config_of(study, small)),
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


def _epochs(study: Study, winner: int, config: Config) -> dict[str, Any]:
    """Which epochs of the winner count, from 1, where these are not the last."""
    if not config["early_stopping"]:
        return {}
    members = [m for m in study.store.members_of(winner) if m.replicate == 0]
    return {
        "epochs": {
            "folds": [m.best_unit + 1 for m in members if m.fold < study.num_folds],
            "refit": next(m.num_units for m in members if m.fold == study.num_folds),
            "of": int(study.store.setting("budget")),
        }
    }


def smallest_within_error(study: Study, ranked: list[int]) -> int:
    """The completed trial with the fewest weights within one standard error of the best."""
    rows = study.store.trials()
    scores = {i: score for i in ranked if (score := rows[i].score) is not None}
    limit = scores[ranked[0]] + (rows[ranked[0]].standard_error or 0.0)
    near = [i for i, score in scores.items() if score <= limit] or ranked[:1]
    return min(near, key=lambda i: (_count(study, config_of(study, i)), scores[i]))


def _count(study: Study, config: Config) -> int:
    """Weights of a configuration's own network, without padding."""
    num_features = prepared_rows(study).arrays.inputs.shape[2]
    size, depth = config["hidden_size"], config["num_layers"]
    outputs = study.problem.criterion.num_outputs
    return count_parameters(num_features, size, depth, outputs, **members_of(config))


def _optax(study: Study, config: Config) -> str:
    steps = steps_per_epoch(len(prepared_rows(study).development), config["batch_size"])
    return optimizers.to_optax(config, steps, int(study.store.settings()["budget"]))


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
