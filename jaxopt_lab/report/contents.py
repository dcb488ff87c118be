"""What a study's directory holds, read for the report; anything may be absent."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab import analysis
from jaxopt_lab.analysis.learned import Learned
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import sign_of
from jaxopt_lab.core.status import Status
from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.spaces.distributions import Choice
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.files import read_file
from jaxopt_lab.storage.store import FILE_NAME, Store
from jaxopt_lab.storage.validation import (
    generations_of,
    rungs_of,
    settings_of,
    trials_of,
    undamaged,
    waves_of,
)

#: Curves of more trials than this are not drawn.
MAX_CURVES = 300
#: Of a problem that is no table, curves of every metric are drawn: of so many of the best trials.
MAX_BEST = 10
#: Trials drawn one by one at most: more make a page that a browser is slow with.
MAX_TRIALS = 2000


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
      space: of the study, if there is one.
      refined: the refined space, if the study came that far.
      predictions: columns of `test_predictions.csv` as text; empty if absent.
      missing: a sentence for each file that is not there.
      brackets: trials that competed, and their rungs, as a scheduler decided.
      rungs: who was compared with whom, and who went on.
      generations: of populations that learnt while they trained, in order.
      trained: curves of trials that trained to the end, where `best.json` does not judge them.
    """

    directory: Path
    best: dict[str, Any]
    trials: list[dict[str, Any]]
    members: dict[tuple[int, int], dict[str, np.ndarray]]
    waves: list[dict[str, Any]]
    settings: dict[str, Any]
    space: SearchSpace | None
    refined: SearchSpace | None
    predictions: dict[str, list[str]]
    missing: list[str] = field(default_factory=list)
    brackets: list[dict[str, Any]] = field(default_factory=list)
    rungs: list[dict[str, Any]] = field(default_factory=list)
    generations: list[dict[str, Any]] = field(default_factory=list)
    trained: list[Learned] = field(default_factory=list)

    @cached_property
    def task(self) -> dict[str, Any]:
        """The description of the task; empty if unknown."""
        return dict(self.settings.get("task", {}))

    @cached_property
    def is_table(self) -> bool:
        """Whether a table was learnt, as far as is known; else it is a problem of any kind."""
        if self.task:
            return bool(self.task.get("kind", "tabular") == "tabular")
        return "direction" not in self.best.get("validation", {})

    @cached_property
    def was_swept(self) -> bool:
        """Whether one search came to the result, without a refit, an ensemble or test scores."""
        return not self.is_table or "direction" in self.best.get("validation", {})

    @cached_property
    def unit(self) -> str:
        """What a unit of a trial's budget is called."""
        return str(self.settings.get("problem unit", "epoch"))

    @cached_property
    def sign(self) -> int:
        """-1 where the objective is maximised: `trials` hold what is minimised."""
        known = self.settings.get("objective", self.best.get("validation", {}))
        return sign_of(known.get("direction", ""))

    def shown(self, score: float | None) -> float | None:
        """A score as the problem has it, from what is minimised."""
        return None if score is None else self.sign * score

    def axis_range(self, window: tuple[float, float]) -> list[float]:
        """Ends of an axis for scores as the problem has them."""
        return sorted(self.sign * end for end in window)

    @cached_property
    def target(self) -> str:
        """The column that is predicted."""
        return str(self.task.get("target", "target"))

    @cached_property
    def targets(self) -> list[str]:
        """The columns that are predicted together, if there are several."""
        return list(self.task.get("targets", self.best.get("targets", [])))

    @cached_property
    def is_regression(self) -> bool:
        """Whether the target is a number, as far as is known."""
        if "task" in self.task:
            return bool(self.task["task"] == "regression")
        return "accuracy" not in self.best.get("test", {}).get("single", {})

    @cached_property
    def loss(self) -> TargetLoss:
        """What a number was learnt by."""
        return TargetLoss.described(self.task)

    @cached_property
    def metric(self) -> str:
        """The score that trials are compared by."""
        known = self.best.get("validation", {}).get("metric")
        if known:
            return str(known)
        if "objective" in self.settings:
            return str(self.settings["objective"]["metric"])
        if not self.is_regression:
            return "log_loss"
        if self.targets:
            return self.loss.shared_metric
        return self.loss.metric(bool(self.task.get("log_target")))

    @cached_property
    def winner(self) -> int | None:
        """The trial that won: of `best.json`, else the best completed one."""
        if "trial_id" in self.best:
            return int(self.best["trial_id"])
        done = [
            t for t in self.trials if t["status"] == Status.COMPLETED and t["score"] is not None
        ]
        return min(done, key=lambda t: (t["score"], t["trial_id"]))["trial_id"] if done else None

    @cached_property
    def finished(self) -> list[dict[str, Any]]:
        """Trials that completed, diverged, or were stopped with a score."""
        return [
            t for t in self.trials if t["score"] is not None or t["status"] == Status.INFEASIBLE
        ]

    @cached_property
    def scores(self) -> Float[np.ndarray, " n"]:
        """Scores of `finished`; NaN where infeasible."""
        return np.array([_number(t["score"]) for t in self.finished], np.float64)

    @cached_property
    def infeasible(self) -> Bool[np.ndarray, " n"]:
        """Which of `finished` diverged."""
        return np.array([t["status"] == Status.INFEASIBLE for t in self.finished], bool)

    @cached_property
    def first_phase(self) -> Bool[np.ndarray, " n"]:
        """Which of `finished` are of the phase that came first."""
        phase = self.finished[0]["phase"] if self.finished else ""
        return np.array([t["phase"] == phase for t in self.finished], bool)

    @cached_property
    def configs(self) -> list[dict[str, Any]]:
        """Configurations of `finished`."""
        return [t["config"] for t in self.finished]

    @cached_property
    def drawn(self) -> list[dict[str, Any]]:
        """Those of `finished` that are drawn one by one: all, or the best and some of the others.

        Every section shows the same ones.
        """
        if len(self.finished) <= MAX_TRIALS:
            return self.finished
        order = np.argsort(np.where(np.isnan(self.scores), np.inf, self.scores), kind="stable")
        best, rest = order[: MAX_TRIALS // 3], order[MAX_TRIALS // 3 :]
        some = np.random.default_rng(0).choice(rest, MAX_TRIALS - len(best), replace=False)
        kept = {*best.tolist(), *some.tolist()}
        kept |= {i for i, t in enumerate(self.finished) if t["trial_id"] == self.winner}
        return [self.finished[i] for i in sorted(kept)]

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """What `analysis.summary` says: as `best.json` has it, else computed alike."""
        known = self.best.get("analysis", {})
        if {"importance", "interactions", "findings", "budget"} <= known.keys():
            return {"curves": self._curves(), **known}
        assert self.space is not None
        seed = int(self.settings.get("seed", 0))
        data = (self.space, self.configs, self.scores, self.infeasible)
        return analysis.summary(*data, seed, self.first_phase, self.trained, self.unit)

    def _curves(self) -> dict[str, Any]:
        """What curves say; `best.json` of an earlier version does not tell."""
        found = analysis.curve_findings(self.trained, self.unit)
        judged = analysis.readable(self.trained)
        return {"trials": len(judged), "findings": [row._asdict() for row in found]}


def read(directory: str | Path) -> Contents:
    """Read what there is.

    Raises:
      UserError: if the directory holds neither a study nor its result, or a file is damaged.
    """
    folder = Path(directory)
    missing = []
    best = read_best(folder / "best.json")
    if not best:
        missing.append("best.json is not there: the search has not finished, or was stopped.")
    predictions = _read_predictions(folder / "test_predictions.csv")
    if not (folder / FILE_NAME).exists():
        if not best:
            raise UserError(f"no study in {folder}: there is no {FILE_NAME} and no best.json")
        missing.append(f"{FILE_NAME} is not there: single trials and curves are not shown.")
        found = Contents(folder, best, [], {}, [], {}, None, None, predictions, missing)
        _miss_predictions(found)
        return found
    store = Store.open(folder, read_only=True)
    try:
        found = read_store(store, folder, best, predictions, missing)
        _miss_predictions(found)
        return found
    finally:
        store.close()


def read_store(
    store: Store,
    folder: Path,
    best: dict[str, Any] | None = None,
    predictions: dict[str, list[str]] | None = None,
    missing: Sequence[str] = (),
) -> Contents:
    """Read what an open study holds, one that is still running among them.

    Args:
      store: of the study.
      folder: by which it is named.
      best: content of `best.json`, if there is one.
      predictions: of the test rows, if there are any.
      missing: a sentence for each file that is not there.

    Raises:
      UserError: if something in it is damaged.
    """
    trials, settings = trials_of(store), settings_of(store)
    space, refined = undamaged(str(store.path), lambda: _spaces(store, settings))
    _check_values(store, space, trials)
    found = Contents(
        folder,
        best or {},
        trials,
        {},
        waves_of(store),
        settings,
        space,
        refined,
        predictions or {},
        list(missing),
        *rungs_of(store),
        generations_of(store),
    )
    curves = undamaged(str(store.path), lambda: _read_curves(store, found))
    found.members.update(curves)
    if "curves" not in found.best.get("analysis", {}):
        found.trained.extend(undamaged(str(store.path), lambda: analysis.learned(store)))
    return found


def _miss_predictions(found: Contents) -> None:
    """A table has test rows, unless the user kept none or the search has not come that far."""
    if not found.was_swept and not found.predictions:
        found.missing.append("test_predictions.csv is not there: no test predictions are shown.")


def _spaces(
    store: Store, settings: dict[str, Any]
) -> tuple[SearchSpace | None, SearchSpace | None]:
    """The study's space and the refined one, where there are any."""
    refined = store.decisions("refined space")
    wide = settings.get("space")
    try:
        return (
            SearchSpace.from_dict(wide) if wide else None,
            SearchSpace.from_dict(refined[-1]) if refined else None,
        )
    except UserError as error:
        raise UserError(f"{store.path} is damaged: {error}") from None


def _check_values(store: Store, space: SearchSpace | None, trials: list[dict[str, Any]]) -> None:
    """Values of a range are finite numbers.

    Raises:
      UserError: naming a trial with another one.
    """
    ranges = [n for n, d in space.parameters.items() if not isinstance(d, Choice)] if space else []
    for trial in trials:
        for name in ranges:
            value = trial["config"].get(name, 0)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(
                    f"{store.path} is damaged: {name} of trial {trial['trial_id']} must be a "
                    f"number, got {value!r}"
                )


def _read_curves(store: Store, found: Contents) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """All folds of the winner, and the first fold of as many other trials as are drawn."""
    ranked = sorted(found.finished, key=lambda t: (_order(t["score"]), t["trial_id"]))
    ids = [t["trial_id"] for t in ranked[: MAX_CURVES if found.is_table else MAX_BEST]]
    curves = {}
    for trial_id in dict.fromkeys([*([] if found.winner is None else [found.winner]), *ids]):
        for member in store.member_arrays(trial_id):
            wanted = member.fold == 0 or trial_id == found.winner
            if wanted and member.replicate == 0:
                curves[int(trial_id), int(member.fold)] = _drawable(member.curves)
    return curves


def _drawable(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scalar metrics by unit; of a trial that is one unit long, vectors that it returned."""
    found = {}
    for name, array in arrays.items():
        curve = array[0] if array.ndim == 2 and len(array) == 1 else array
        if curve.ndim == 1 and len(curve) and curve.dtype.kind in "iufb":
            found[name] = curve
    return found


def _read_predictions(path: Path) -> dict[str, list[str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_file(path).decode(), newline="")))
    except (OSError, csv.Error, UnicodeDecodeError):
        return {}
    names = [name for name in rows[0] if name is not None] if rows else []
    return {name: [row[name] or "" for row in rows] for name in names}


def _number(score: float | None) -> float:
    return math.nan if score is None else float(score)


def _order(score: float | None) -> float:
    return math.inf if score is None else float(score)
