"""What the final models and the baselines are worth on the test rows."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache, partial
from threading import Thread
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import Table
from jaxopt_lab.problems.tabular.effects import permutation_importance
from jaxopt_lab.problems.tabular.intervals import REPORTED_COVERAGE, interval_scores
from jaxopt_lab.problems.tabular.predictor import Predictor
from jaxopt_lab.problems.tabular.temperatures import tempered
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import by_target
from jaxopt_lab.tuning.final_models import prepared_rows, target_scale

#: Baseline -> metric -> value (of several targets target -> this), and baseline -> why it could not
#: be fitted.
BaselineScores = tuple[dict[str, Any], dict[str, str]]


def calibrated(
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


@contextmanager
def baselines_meanwhile(study: Study) -> Iterator[Callable[[], BaselineScores]]:
    """Gives what fits the baselines, or waits for them.

    The last trainings, of the best again and of the refit, are few and leave cores idle. So the
    baselines of a large table, which take a while, are fitted on a thread of their own while the
    block runs. It is a daemon: nobody waits for it after Ctrl-C.
    """
    from threadpoolctl import threadpool_limits

    from jaxopt_lab.datasets.baselines import ROWS_PER_THREAD

    table, prepared = study.problem.table, prepared_rows(study)

    def fit() -> BaselineScores:
        failed: dict[str, str] = {}
        train, test = table.take(prepared.development), table.take(prepared.test)
        how = (study.seed, failed, study.problem.target_loss, target_scale(study))
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


def scores_of(
    study: Study, models: Predictor, baselines: Callable[[], BaselineScores]
) -> dict[str, Any]:
    """Scores of the single network, the ensemble and the baselines on the test rows."""
    rows = prepared_rows(study).test
    if not len(rows):
        return {"test": {}, "baselines": {}, **calibrated(study, models, np.zeros(0), {})}
    test = study.problem.table.take(rows)
    single = models.predict_raw(test.frame, single=True)
    together = models.predict_raw(test.frame)
    if study.directory is not None:
        _write_predictions(study, test.target, single, together)
    scale, fitted = target_scale(study), cache(baselines)
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
        **calibrated(study, models, test.target, ours),
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
    metric, scale = study.problem.metric, target_scale(study)

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
    columns = {"row": prepared_rows(study).test, **found}
    assert study.directory is not None
    text = pd.DataFrame(columns).to_csv(index=False)
    write_file(study.directory / "test_predictions.csv", text.encode())
