"""What a study's directory holds, read for the report; anything may be absent."""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.store import FILE_NAME, Store

#: Curves of more trials than this are not drawn.
MAX_CURVES = 300


@dataclass(frozen=True, eq=False)
class Contents:
    """All that the page shows, as plain values.

    Attributes:
      directory: where it came from.
      best: content of `best.json`; empty if absent.
      trials: rows of the study in `trial_id` order.
      members: (trial_id, fold) -> curves by name, for the trials that are drawn.
      waves: what each wave cost.
      settings: of the study.
      refined: the refined space, if the study came that far.
      predictions: columns of `test_predictions.csv` as text; empty if absent.
      missing: a sentence for each file that is not there.
    """

    directory: Path
    best: dict[str, Any]
    trials: list[dict[str, Any]]
    members: dict[tuple[int, int], dict[str, np.ndarray]]
    waves: list[dict[str, Any]]
    settings: dict[str, Any]
    refined: SearchSpace | None
    predictions: dict[str, list[str]]
    missing: list[str] = field(default_factory=list)

    @property
    def task(self) -> dict[str, Any]:
        """The description of the task; empty if unknown."""
        return dict(self.settings.get("task", {}))

    @property
    def target(self) -> str:
        """The column that is predicted."""
        return str(self.task.get("target", "target"))

    @property
    def is_regression(self) -> bool:
        """Whether the target is a number, as far as is known."""
        if "task" in self.task:
            return bool(self.task["task"] == "regression")
        return "accuracy" not in self.best.get("test", {}).get("single", {})

    @property
    def metric(self) -> str:
        """The score that trials are compared by."""
        known = self.best.get("validation", {}).get("metric")
        if known:
            return str(known)
        if not self.is_regression:
            return "log_loss"
        return "log_rmse" if self.task.get("log_target") else "rmse"

    @property
    def space(self) -> SearchSpace | None:
        """The study's space, if there is a study."""
        table = self.settings.get("space")
        return SearchSpace.from_dict(table) if table else None

    @property
    def winner(self) -> int | None:
        """The trial that won: of `best.json`, else the best completed one."""
        if "trial_id" in self.best:
            return int(self.best["trial_id"])
        done = [t for t in self.trials if t["status"] == Status.COMPLETED]
        return min(done, key=lambda t: (t["score"], t["trial_id"]))["trial_id"] if done else None

    @property
    def finished(self) -> list[dict[str, Any]]:
        """Trials that completed, diverged, or lost a race after one fold."""
        return [
            t for t in self.trials if t["score"] is not None or t["status"] == Status.INFEASIBLE
        ]

    @property
    def scores(self) -> Float[np.ndarray, " n"]:
        """Scores of `finished`; NaN where infeasible."""
        return np.array([_number(t["score"]) for t in self.finished], np.float64)

    @property
    def infeasible(self) -> Bool[np.ndarray, " n"]:
        """Which of `finished` diverged."""
        return np.array([t["status"] == Status.INFEASIBLE for t in self.finished], bool)

    @property
    def configs(self) -> list[dict[str, Any]]:
        """Configurations of `finished`."""
        return [t["config"] for t in self.finished]


def read(directory: str | Path) -> Contents:
    """Read what there is.

    Raises:
      UserError: if the directory holds neither a study nor its result, or a file is damaged.
    """
    folder = Path(directory)
    missing = []
    best = _read_best(folder / "best.json")
    if not best:
        missing.append("best.json is not there: the search has not finished, or was stopped.")
    predictions = _read_predictions(folder / "test_predictions.csv")
    if not predictions:
        missing.append("test_predictions.csv is not there: no test predictions are shown.")
    if not (folder / FILE_NAME).exists():
        if not best:
            raise UserError(f"no study in {folder}: there is no {FILE_NAME} and no best.json")
        missing.append(f"{FILE_NAME} is not there: single trials and curves are not shown.")
        return Contents(folder, best, [], {}, [], {}, None, predictions, missing)
    store = Store.open(folder, read_only=True)
    try:
        trials, refined = store.trials(), store.decisions("refined space")
        space = SearchSpace.from_dict(refined[-1]) if refined else None
        found = Contents(
            folder, best, trials, {}, store.waves(), store.settings(), space, predictions, missing
        )
        found.members.update(_read_curves(store, found))
        return found
    finally:
        store.close()


def _read_curves(store: Store, found: Contents) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """All folds of the winner, and the first fold of as many other trials as are drawn."""
    ranked = sorted(found.finished, key=lambda t: (_order(t["score"]), t["trial_id"]))
    ids = [t["trial_id"] for t in ranked[:MAX_CURVES]]
    curves = {}
    for trial_id in dict.fromkeys([*([] if found.winner is None else [found.winner]), *ids]):
        for member in store.member_arrays(trial_id):
            wanted = member["fold"] == 0 or trial_id == found.winner
            if wanted and member["replicate"] == 0:
                best = {"best_epoch": np.array(member["best_epoch"])}
                curves[trial_id, member["fold"]] = {**member["curves"], **best}
    return curves


def _read_best(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no table")
    return content


def _read_predictions(path: Path) -> dict[str, list[str]]:
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, csv.Error, UnicodeDecodeError):
        return {}
    return {name: [row[name] or "" for row in rows] for name in rows[0]} if rows else {}


def _number(score: float | None) -> float:
    return math.nan if score is None else float(score)


def _order(score: float | None) -> float:
    return math.inf if score is None else float(score)
