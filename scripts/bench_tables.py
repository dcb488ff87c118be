"""How good are our networks on tables? Single, ensemble, ensemble of all kinds; against boosting.

    pip install 'jaxopt-lab[bench]'
    pip install 'lightgbm>=4.7' xgboost catboost    # those of them that are to be compared
    python scripts/bench_tables.py DATA --out scripts/results/tables.jsonl
    python scripts/bench_tables.py DATA --quick

DATA is a folder with the tables of `TABLES` as NAME.csv.gz, there or in its folder `tables`. Of
each table a fifth of the rows is held out by the seed; every model learns from the same other rows
and the same target, its logarithm where `tune` would learn that.

- `single`, `ensemble`, `ensemble_all`: one search by `tune` with its defaults; the winner, the
  greedy ensemble of networks, and that of all kinds of models.
- `hist_gradient_boosting`, `lightgbm`, `xgboost`, `catboost`: as they come.
- `lightgbm_tuned`, `xgboost_tuned`, `catboost_tuned`: the best of 30 trials of Optuna's TPE by
  three folds of the training rows with early stopping, fitted again to all of them for the mean of
  the best numbers of trees.

What is not installed is left out and named. A line per table, seed and model: `error` on the test
rows (`metric`), seconds to train, microseconds to predict a row, versions. What stands in the file
of `--out` is not measured again. The last line is a summary of the models that every table has:
mean rank by the mean error over seeds, wins, and geometric means of the ratios to untuned
HistGradientBoosting and to the best of the other models.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Table -> target, and columns that would give it away.
TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "car_prices": ("Price", ()),
    "windsor_houses": ("price", ()),
    "wage": ("wage", ()),
    "stackoverflow": ("Salary", ()),
    "chicago": ("ridership", ()),
    "deliveries": ("time_to_delivery", ()),
    "hotel_rates": ("avg_price_per_room", ()),
    "meats": ("fat", ("water", "protein")),
    "hpc_data": ("class", ()),
    "mlc_churn": ("churn", ()),
    "wa_churn": ("churn", ()),
    "taxi": ("tip", ()),
    "lending_club": ("Class", ()),
    "ames": ("Sale_Price", ()),
    "concrete": ("compressive_strength", ()),
    "lucas_houses": ("price", ()),
}
QUICK = ("car_prices", "windsor_houses", "meats")
OURS = ("single", "ensemble", "ensemble_all")
LIBRARIES = ("lightgbm", "xgboost", "catboost")
REFERENCE = "hist_gradient_boosting"
TEST_FRACTION = 0.2
NUM_INNER = 3
MAX_TREES, PATIENCE = 2000, 50
#: Rows that are predicted at a time.
BATCH = 1000


class Data:
    """A table split by a seed, as peers take it."""

    def __init__(self, table: Any, seed: int) -> None:
        from jaxopt_lab import datasets
        from jaxopt_lab.datasets.baselines import tree_frames

        rows, held = datasets.test_split(table, TEST_FRACTION, seed)
        table, _ = datasets.decided_on(table, rows)
        self.table, self.seed = table, seed
        self.train, self.test = table.take(rows), table.take(held)
        self.inputs, self.test_inputs = tree_frames(self.train, self.test)
        self.is_classes = bool(table.classes)
        self.target = np.log(self.train.target) if table.log_target else self.train.target
        self.inner = datasets.table_folds(self.train, NUM_INNER, seed)

    @property
    def metric(self) -> str:
        if self.is_classes:
            return "log_loss"
        return "log_rmse" if self.table.log_target else "rmse"

    def predict(self, model: Any, frame: Any) -> np.ndarray:
        """In the target's units, or probabilities of all classes."""
        if not self.is_classes:
            found = np.asarray(model.predict(frame), np.float64)
            return np.exp(found) if self.table.log_target else found
        chance = np.zeros((len(frame), self.table.num_classes))
        chance[:, np.asarray(model.classes_, int)] = model.predict_proba(frame)
        return chance

    def error(self, predicted: np.ndarray) -> float:
        from jaxopt_lab import datasets

        score = datasets.classification_scores if self.is_classes else datasets.regression_scores
        return float(score(self.test.target, predicted)[self.metric])


def lightgbm(data: Data, trees: int, chosen: dict[str, Any], patience: int | None) -> Any:
    import lightgbm

    kind = lightgbm.LGBMClassifier if data.is_classes else lightgbm.LGBMRegressor
    names = {"depth": "max_depth", "leaf_rows": "min_child_samples", "rows": "subsample"}
    settings = {names.get(name, name): value for name, value in chosen.items()}
    if "columns" in settings:
        settings["colsample_bytree"] = settings.pop("columns")
        settings["num_leaves"] = min(2 ** settings["max_depth"], 256)
        settings |= {"reg_lambda": settings.pop("l2"), "subsample_freq": 1}
    model = kind(n_estimators=trees, random_state=data.seed, verbose=-1, **settings)

    def fit(inputs: Any, target: np.ndarray, valid: Any = None) -> Any:
        more: dict[str, Any] = {}
        if valid is not None and patience:
            stop = lightgbm.early_stopping(patience, verbose=False)
            more = {"eval_X": (valid[0],), "eval_y": (valid[1],), "callbacks": [stop]}
        return model.fit(inputs, target, **more)

    return model, fit, lambda: model.best_iteration_


def xgboost(data: Data, trees: int, chosen: dict[str, Any], patience: int | None) -> Any:
    import xgboost

    kind = xgboost.XGBClassifier if data.is_classes else xgboost.XGBRegressor
    names = {"depth": "max_depth", "leaf_rows": "min_child_weight", "rows": "subsample"}
    names |= {"columns": "colsample_bytree", "l2": "reg_lambda"}
    settings = {names.get(name, name): value for name, value in chosen.items()}
    model = kind(
        n_estimators=trees,
        random_state=data.seed,
        enable_categorical=True,
        early_stopping_rounds=patience,
        **settings,
    )

    def fit(inputs: Any, target: np.ndarray, valid: Any = None) -> Any:
        watched = {} if valid is None else {"eval_set": [valid], "verbose": False}
        return model.fit(inputs, target, **watched)

    return model, fit, lambda: model.best_iteration + 1


def catboost(data: Data, trees: int, chosen: dict[str, Any], patience: int | None) -> Any:
    import catboost

    kind = catboost.CatBoostClassifier if data.is_classes else catboost.CatBoostRegressor
    names = {"leaf_rows": "min_data_in_leaf", "rows": "subsample", "columns": "rsm"}
    names |= {"l2": "l2_leaf_reg"}
    settings = {names.get(name, name): value for name, value in chosen.items()}
    if "subsample" in settings:
        settings["bootstrap_type"] = "Bernoulli"
    text = list(data.inputs.select_dtypes("category"))
    model = kind(
        iterations=trees,
        random_seed=data.seed,
        cat_features=text,
        verbose=False,
        allow_writing_files=False,
        **settings,
    )

    def plain(frame: Any) -> Any:
        words = {name: frame[name].astype(object).fillna("missing").astype(str) for name in text}
        return frame.assign(**words)

    def fit(inputs: Any, target: np.ndarray, valid: Any = None) -> Any:
        more: dict[str, Any] = {}
        if valid is not None:
            more = {"eval_set": (plain(valid[0]), valid[1]), "early_stopping_rounds": patience}
        model.fit(plain(inputs), target, **more)
        return Plain(model, plain)

    return model, fit, lambda: model.tree_count_


class Plain:
    """A model that takes labels as text."""

    def __init__(self, model: Any, plain: Callable[[Any], Any]) -> None:
        self.model, self.plain = model, plain

    @property
    def classes_(self) -> Any:
        return self.model.classes_

    def predict(self, frame: Any) -> Any:
        return self.model.predict(self.plain(frame))

    def predict_proba(self, frame: Any) -> Any:
        return self.model.predict_proba(self.plain(frame))


MAKERS = {"lightgbm": lightgbm, "xgboost": xgboost, "catboost": catboost}
DEFAULT_TREES = {"lightgbm": 100, "xgboost": 100, "catboost": 1000}


def fit_default(name: str, data: Data, trials: int) -> tuple[Any, dict[str, Any]]:
    """A library's model as it comes."""
    del trials
    if name == REFERENCE:
        from sklearn import ensemble

        suffix = "Classifier" if data.is_classes else "Regressor"
        kind = getattr(ensemble, f"HistGradientBoosting{suffix}")
        model = kind(categorical_features="from_dtype", random_state=data.seed)
        return model.fit(data.inputs, data.target), {}
    _, fit, _ = MAKERS[name](data, DEFAULT_TREES[name], {}, None)
    return fit(data.inputs, data.target), {}


def fit_tuned(name: str, data: Data, trials: int) -> tuple[Any, dict[str, Any]]:
    """The best of some trials of Optuna's, fitted again to all training rows."""
    import optuna

    library = name.removesuffix("_tuned")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def loss(trial: optuna.Trial) -> float:
        chosen = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "depth": trial.suggest_int("depth", 3, 10),
            "leaf_rows": trial.suggest_int("leaf_rows", 1, 100, log=True),
            "rows": trial.suggest_float("rows", 0.5, 1.0),
            "columns": trial.suggest_float("columns", 0.4, 1.0),
            "l2": trial.suggest_float("l2", 1e-3, 10.0, log=True),
        }
        losses, lengths = [], []
        for train, valid in data.inner:
            sides = [(data.inputs.iloc[rows], data.target[rows]) for rows in (train, valid)]
            _, fit, length = MAKERS[library](data, MAX_TREES, chosen, PATIENCE)
            model = fit(*sides[0], sides[1])
            losses.append(inner_loss(model, *sides[1], data))
            lengths.append(length())
        trial.set_user_attr("trees", max(round(statistics.mean(lengths)), 1))
        trial.set_user_attr("chosen", chosen)
        return statistics.mean(losses)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=data.seed))
    study.optimize(loss, n_trials=trials)
    best = study.best_trial.user_attrs
    _, fit, _ = MAKERS[library](data, best["trees"], best["chosen"], None)
    found = {"trials": trials, "trees": best["trees"], "chosen": best["chosen"]}
    return fit(data.inputs, data.target), found


def inner_loss(model: Any, inputs: Any, target: np.ndarray, data: Data) -> float:
    """Mean squared error on the scale that is learnt, or log loss."""
    if not data.is_classes:
        return float(np.mean((np.asarray(model.predict(inputs)) - target) ** 2))
    chance = np.zeros((len(target), data.table.num_classes))
    chance[:, np.asarray(model.classes_, int)] = model.predict_proba(inputs)
    return float(-np.mean(np.log(np.maximum(chance[np.arange(len(target)), target], 1e-12))))


def peer(name: str, data: Data, trials: int) -> dict[str, Any]:
    """Fit a peer, score it, and time it."""
    started = time.perf_counter()
    model, found = (fit_tuned if name.endswith("_tuned") else fit_default)(name, data, trials)
    seconds = time.perf_counter() - started
    error = data.error(data.predict(model, data.test_inputs))
    frame = data.test_inputs.iloc[:BATCH]
    spent = timed(lambda: data.predict(model, frame)) / len(frame)
    return {"error": error, "seconds_train": seconds, "microseconds_row": spent * 1e6, **found}


def ours(data: Data, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One search; its winner, its ensemble, and the one of all kinds."""
    import jaxopt_lab as lab
    from jaxopt_lab.tuning import tune
    from jaxopt_lab.tuning.settings import Settings

    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        spent = 0.0
        for kinds, names in (("networks", OURS[:2]), ("all", OURS[2:])):
            settings = Settings(
                seed=data.seed, test_fraction=TEST_FRACTION, ensemble=kinds, **options
            )
            started = time.perf_counter()
            content = tune.run(data.table, settings, folder, say=lambda text: None)
            spent += time.perf_counter() - started
            model = lab.Predictor.load(Path(folder) / "model")
            for name in names:
                single = name == "single"
                frame = data.test.frame.iloc[:BATCH]
                row = timed(lambda: model.predict_raw(frame, single)) / len(frame)  # noqa: B023
                error = content["test"]["single" if single else "ensemble"][data.metric]
                found[name] = {"error": error, "seconds_train": spent}
                found[name] |= {"microseconds_row": row * 1e6, "trials": content["trials"]}
                if not single:
                    found[name]["members"] = content["ensemble"]["members"]
    return found


def timed(call: Callable[[], Any]) -> float:
    """Seconds of the second of two calls."""
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def load(folder: Path, name: str) -> Any:
    """A table of the folder; None if it is not there."""
    import pandas as pd

    from jaxopt_lab import datasets

    target, dropped = TABLES[name]
    paths = [folder / "tables" / f"{name}.csv.gz", folder / f"{name}.csv.gz"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    source = pd.read_csv(path).drop(columns=list(dropped)) if dropped else str(path)
    return datasets.load_table(source, target)


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Ranks, wins and ratios of the models that every table has.

    Args:
      lines: one per table, seed and model.
    """
    errors: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        errors.setdefault(line["table"], {}).setdefault(line["model"], []).append(line["error"])
    means = {t: {m: statistics.mean(e) for m, e in found.items()} for t, found in errors.items()}
    models = sorted(set.intersection(*(set(found) for found in means.values())) if means else ())
    rows = {}
    for model in models:
        ranks, wins, to_reference, to_best = [], 0, [], []
        for found in means.values():
            others = [found[name] for name in models if name != model]
            ranks.append(1 + sum(e < found[model] for e in others))
            wins += ranks[-1] == 1
            if REFERENCE in models:
                to_reference.append(math.log(found[model] / found[REFERENCE]))
            if others:
                to_best.append(math.log(found[model] / min(others)))
        rows[model] = {"mean_rank": round(statistics.mean(ranks), 3), "wins": wins}
        for name, logs in (("to_reference", to_reference), ("to_best_other", to_best)):
            if logs:
                rows[model][name] = round(math.exp(statistics.mean(logs)), 4)
    ordered = dict(sorted(rows.items(), key=lambda pair: pair[1]["mean_rank"]))
    return {"summary": ordered, "tables": len(means), "reference": REFERENCE}


def versions() -> dict[str, str]:
    names = ("jaxopt-lab", "jax", "scikit-learn", *LIBRARIES, "optuna")
    installed = [name for name in names if importlib.util.find_spec(name.replace("-", "_"))]
    found = {}
    for name in (*installed, "scikit-learn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Our networks on tables against boosting.")
    parser.add_argument("data", type=Path, help="folder of the tables")
    parser.add_argument("--out", type=Path, help="file of JSON lines; goes on where it ends")
    parser.add_argument("--tables", help="names, separated by commas (default: all)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30, help="of Optuna (default: 30)")
    parser.add_argument("--time-limit", type=float, help="seconds of each of our searches")
    parser.add_argument("--models", help="names, separated by commas (default: all)")
    parser.add_argument("--quick", action="store_true", help="three tables, few trials, one seed")
    args = parser.parse_args()
    names = args.tables.split(",") if args.tables else list(QUICK if args.quick else TABLES)
    unknown = sorted(set(names) - set(TABLES))
    if unknown:
        parser.error(f"unknown table {unknown[0]}; known: {', '.join(TABLES)}")
    options: dict[str, Any] = {"time_limit": args.time_limit} if args.time_limit else {}
    seeds, trials = args.seeds, args.trials
    if args.quick:
        seeds, trials = 1, 2
        options |= {"trials": 6, "epochs": 20}
    here = [name for name in LIBRARIES if importlib.util.find_spec(name)]
    for name in sorted(set(LIBRARIES) - set(here)):
        print(f"{name} is not installed and left out", file=sys.stderr)
    peers = [REFERENCE, *here, *(f"{name}_tuned" for name in here)]
    if importlib.util.find_spec("optuna") is None:
        print("optuna is not installed: no tuned models", file=sys.stderr)
        peers = [name for name in peers if not name.endswith("_tuned")]
    wanted = set(args.models.split(",")) if args.models else {*OURS, *peers}
    lines: list[dict[str, Any]] = []
    if args.out and args.out.exists():
        read = [json.loads(text) for text in args.out.read_text().splitlines()]
        lines = [line for line in read if "model" in line]
    known = {(line["table"], line["seed"], line["model"]) for line in lines}
    about = {"versions": versions(), "cores": os.cpu_count()}

    def put(line: dict[str, Any]) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        if args.out:
            with args.out.open("a") as handle:
                handle.write(text + "\n")

    for name in names:
        table = load(args.data, name)
        if table is None:
            print(f"{name} is not in {args.data} and left out", file=sys.stderr)
            continue
        for seed in range(seeds):
            data = Data(table, seed)
            missing = [m for m in (*OURS, *peers) if m in wanted and (name, seed, m) not in known]
            results = ours(data, options) if set(missing) & set(OURS) else {}
            for model in missing:
                found = results[model] if model in OURS else peer(model, data, trials)
                line = {"table": name, "seed": seed, "model": model, "metric": data.metric}
                line |= {"rows": len(table), **found, **about}
                lines.append(line)
                put(line)
    if lines:
        put(summary(lines))


if __name__ == "__main__":
    main()
