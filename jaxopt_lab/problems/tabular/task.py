"""A table as a task: split, fold, encode, and score in the target's own units."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import softmax

from jaxopt_lab import datasets
from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.tracing.executors import checked_executor
from jaxopt_lab.datasets import Encoder, Table, TargetLoss, TargetTransform, TargetTransforms
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.data import (
    Criterion,
    FoldArrays,
    classification,
    lay_out,
    regression,
    weighted,
)
from jaxopt_lab.spaces.space import SearchSpace

#: That of one target, or those of several.
Transform = TargetTransform | TargetTransforms

if TYPE_CHECKING:
    import pandas as pd

    from jaxopt_lab.problems.tabular.training import TabularTraining

#: K of the cross-validation unless another is given.
DEFAULT_FOLDS = 5


class Prepared(NamedTuple):
    """A task made ready for a number of folds.

    Attributes:
      arrays: rows of the development table by fold; the last fold is the refit.
      encoders: one per fold, fitted on its training rows.
      transforms: one per fold for regression; empty for classification.
      constant_losses: validation loss of a constant predictor, per fold.
      folds: (training rows, validation rows) into the development table.
      development: rows of the table that are not test rows.
      test: held-out rows of the table; may be empty.
    """

    arrays: FoldArrays
    encoders: list[Encoder]
    transforms: list[Transform]
    constant_losses: list[float]
    folds: list[tuple[np.ndarray, np.ndarray]]
    development: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class TabularTask:
    """Predict a column of a table, or several columns of numbers together.

    Attributes:
      table: all rows.
      test_fraction: share of the rows never seen in tuning; 0 for none.
      numeric: encoding of numeric columns: standard, quantile or piecewise_linear.
      num_bins: bins of piecewise_linear; None takes `datasets.default_num_bins`.
      splits: (training rows, validation rows) of each fold, as indices into the rows that are no
        test rows; None makes folds of all of them.
      share_programs: whether rows and columns are padded to sizes that other tables have, too, so
        that studies of like tables in one process compile once.
      loss: what a number is learnt by: squared, absolute, huber or quantile (see
        `datasets.TargetLoss`). Trials are compared by it, on the scale that is learnt.
      quantile: of the loss quantile, between 0 and 1.
      near: two columns of numbers that say where a row is. Means of the target over the nearest
        training rows, a row itself apart, are encoded columns, too. None for none.
      executor: "vmap", "map" or "kernel"; None leaves the choice to the planner.
    """

    table: Table
    test_fraction: float = 0.0
    numeric: str = "piecewise_linear"
    num_bins: int | None = None
    splits: Sequence[tuple[np.ndarray, np.ndarray]] | None = None
    share_programs: bool = False
    loss: Any = "squared"
    quantile: Any = None
    near: Any = None
    executor: Any = None
    _cache: dict[tuple[int, int], Prepared] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        checked_executor(self.executor)
        if not 0.0 <= self.test_fraction < 1.0:
            raise UserError(
                f"test fraction must be at least 0 and below 1, got {self.test_fraction}"
            )
        if self.target_loss.name != "squared" and not self.is_regression:
            raise UserError(
                f"the loss {self.loss} needs a number to predict, and {self.table.target_name!r} "
                "holds classes, which are learnt by cross-entropy"
            )
        if self.near is not None:
            object.__setattr__(self, "near", datasets.checked_location(self.near, self.table))
        if self.num_bins is None:
            rows = round(len(self.table) * (1 - self.test_fraction))
            object.__setattr__(self, "num_bins", datasets.default_num_bins(rows))

    def __getstate__(self) -> dict[str, Any]:
        """What a worker is sent: it encodes the table anew."""
        return {**vars(self), "_cache": {}}

    @property
    def is_regression(self) -> bool:
        """Whether the target is a number."""
        return self.table.task == "regression"

    @property
    def target_loss(self) -> TargetLoss:
        """What a number is learnt by."""
        return TargetLoss(self.loss, self.quantile)

    @property
    def criterion(self) -> Criterion:
        """Loss and metrics on the encoded target."""
        number = len(self.table.targets) or 1
        if self.is_regression:
            plain = regression(self.target_loss, number)
        else:
            plain = classification(self.table.num_classes)
        return plain if self.table.weights is None else weighted(plain, number)

    @property
    def metric(self) -> str:
        """The score that trials are compared by; lower is better."""
        if not self.is_regression:
            return "log_loss"
        if self.table.targets:
            return self.target_loss.shared_metric
        return self.target_loss.metric(self.table.log_target)

    @property
    def objective(self) -> Objective:
        """The metric, minimised."""
        return Objective(self.metric)

    @property
    def unit(self) -> str:
        """Networks train by epochs."""
        return "epoch"

    @property
    def location(self) -> str:
        """Where its table was read from; "" for a DataFrame."""
        return self.table.path

    def check(self, space: SearchSpace) -> None:
        """Every name and value must be of the registry.

        Raises:
          UserError: naming the hyperparameter and what would be right.
        """
        extremes = space.extremes()
        hyperparameters.check_values(extremes)
        monitors = extremes.get("early_stopping_monitor", ())
        if self.is_regression and hyperparameters.CALIBRATED_LOSS in monitors:
            raise UserError(
                f"early_stopping_monitor: {hyperparameters.CALIBRATED_LOSS} is of classes, and "
                f"{self.table.target_name!r} is a number; use loss"
            )

    def describe(self) -> dict[str, Any]:
        """What makes this task the same task when a study is opened again."""
        return {
            "kind": "tabular",
            "sha256": self.table.sha256,
            "target": self.table.target_name,
            "task": self.table.task,
            "log_target": self.table.log_target,
            **_described(self.table),
            "test_fraction": self.test_fraction,
            "numeric": self.numeric,
            "num_bins": self.num_bins,
            **self.table.roles,
            **({"keep_split_column": True} if self.table.keep_split_column else {}),
            **({} if self.table.equal is None else {"equal_rows": "together"}),
            **({} if self.splits is None else {"splits": _digest(self.splits)}),
            **({"share_programs": True} if self.share_programs else {}),
            **({} if self.executor is None else {"executor": self.executor}),
            **self.target_loss.describe(),
            **({} if self.near is None else {"near": list(self.near)}),
        }

    def training(self, space: SearchSpace, num_splits: int | None, seed: int) -> "TabularTraining":
        """Ready to train; arguments as for `prepare`. Programs do not depend on the space."""
        from jaxopt_lab.problems.tabular.training import TabularTraining

        del space
        return TabularTraining(
            self, self.prepare(DEFAULT_FOLDS if num_splits is None else num_splits, seed)
        )

    def prepare(self, num_folds: int, seed: int) -> Prepared:
        """Split, fold and encode; everything is fitted on training rows only.

        Args:
          num_folds: K; 1 is one hold-out split.
          seed: of the splits.
        """
        key = (num_folds, seed)
        if key not in self._cache:
            self._cache[key] = self._prepare(num_folds, seed)
        return self._cache[key]

    def fold_arrays(self, seed: int) -> FoldArrays:
        """Rows by fold of one hold-out split."""
        return self.prepare(1, seed).arrays

    def _prepare(self, num_folds: int, seed: int) -> Prepared:
        table = self.table
        development, test = np.arange(len(table)), np.zeros(0, np.int64)
        if self.test_fraction:
            development, test = datasets.test_split(table, self.test_fraction, seed)
        rows = table.take(development)
        kinds = datasets.telling_columns(rows.frame, rows.kinds) if len(test) else rows.kinds
        if self.splits is None:
            folds = datasets.table_folds(rows, num_folds, seed)
        else:
            folds = [(np.asarray(train), np.asarray(valid)) for train, valid in self.splits]
        folds = [*folds, (np.arange(len(rows)), np.zeros(0, np.int64))]
        encoders, inputs, targets, transforms, losses = [], [], [], [], []
        for train, valid in folds:
            encoder = self._fit(rows.take(train), kinds)
            transform = None
            if self.is_regression:
                transform = datasets.fit_target(rows.take(train), self.target_loss.is_robust)
                transforms.append(transform)
                targets.append(transform.forward(rows.target))
            else:
                targets.append(rows.target.astype(np.int32))
            kin = np.full(len(rows), -1)
            if self.near is not None:
                learnt = rows.take(train)
                kin[train] = datasets.kin_of(learnt)
                outputs = datasets.outputs_of(learnt, transform)
                encoder = encoder.with_near(self.near, learnt.frame, outputs, kin[train])
            encoders.append(encoder)
            inputs.append(encoder.transform(rows.frame, kin))
            losses.append(self._constant_loss(targets[-1], train, valid, rows.weights))
            if rows.weights is not None:
                targets[-1] = _with_weights(targets[-1], rows.weights, train, valid)
        arrays = lay_out(inputs, targets, folds, rounded=self.share_programs)
        return Prepared(arrays, encoders, transforms, losses, folds, development, test)

    def _fit(self, rows: Table, kinds: Mapping[str, Any]) -> Encoder:
        return datasets.fit_encoder(
            rows.frame,
            kinds,
            numeric=self.numeric,
            num_bins=self.num_bins,
            date_formats=rows.date_formats,
            readings=rows.readings,
        )

    def _constant_loss(
        self,
        target: np.ndarray,
        train: np.ndarray,
        valid: np.ndarray,
        weights: np.ndarray | None,
    ) -> float:
        """Loss of the training rows' best constant on validation rows, but no less than on the
        training rows: a few validation rows may lie next to it by chance."""
        counts = np.ones(len(target)) if weights is None else weights
        if self.is_regression:
            loss, columns = self.target_loss, target.reshape(len(target), -1).T
            constants = [loss.constant(column[train], counts[train]) for column in columns]
            each = [loss.of(t - c) for t, c in zip(columns, constants, strict=True)]
            losses = each[0] if len(each) == 1 else np.mean(each, axis=0)
        else:
            share = np.bincount(target[train], counts[train], self.table.num_classes)
            losses = -np.log(np.maximum(share / counts[train].sum(), 1e-12))[target]
        sides = [rows for rows in (train, valid) if len(rows)]
        return max(float(np.average(losses[rows], weights=counts[rows])) for rows in sides)

    def score(self, loss: float, fold: int, prepared: Prepared) -> float:
        """Turn a mean validation loss into the metric.

        Args:
          loss: mean loss of the standardised target, or cross-entropy in nats.
          fold: whose transform to use.
          prepared: from `prepare`.

        Returns:
          `TargetLoss.score` (of squared errors the root of their mean) in the (logarithmic) units
          of the target, without unit for several targets, or log loss.
        """
        if not self.is_regression:
            return loss
        if self.table.targets:
            return self.target_loss.score(loss, 1.0)
        return self.target_loss.score(loss, float(prepared.transforms[fold].scale))

    def scores(
        self, truth: np.ndarray, predicted: np.ndarray, scale: Any = 1.0
    ) -> dict[str, float]:
        """All metrics of predictions, in the target's own units.

        Args:
          truth: [n], in these units, or class indices; of several targets [n, T].
          predicted: [n], in these units, or probabilities [n, c]; of several targets [n, T].
          scale: of the target's standardisation, which Huber's loss depends on; [T] of several.

        Returns:
          Of several targets only what they have in common; `scores_by_target` has the others.
        """
        if self.table.targets:
            each = self.scores_by_target(truth, predicted, scale)
            return {self.metric: self.shared_score(each, scale)}
        if self.is_regression:
            how = (self.target_loss, self.table.log_target, scale)
            return datasets.loss_scores(truth, predicted, *how)
        return datasets.classification_scores(truth, predicted)

    def scores_by_target(
        self, truth: np.ndarray, predicted: np.ndarray, scale: np.ndarray
    ) -> dict[str, dict[str, float]]:
        """Of several targets the metrics of each in its own units, as `scores` takes them."""
        return {
            target.name: datasets.loss_scores(
                truth[:, i], predicted[:, i], self.target_loss, target.log, float(scale[i])
            )
            for i, target in enumerate(self.table.targets)
        }

    def shared_score(self, each: Mapping[str, Mapping[str, float]], scale: np.ndarray) -> float:
        """What several targets' metrics come to together, see `TargetLoss.shared`."""
        loss = self.target_loss
        found = [each[target.name][loss.metric(target.log)] for target in self.table.targets]
        return loss.shared(found, scale)


def to_target(outputs: np.ndarray, transform: Transform | None) -> np.ndarray:
    """Network outputs [n, o] -> target's units [n] (regression; [n, o] of several targets) or
    probabilities [n, c]."""
    if transform is not None:
        return transform.of_outputs(outputs)
    return np.asarray(softmax(outputs.astype(np.float64), axis=1))


def to_averaged(outputs: np.ndarray, transform: Transform | None) -> np.ndarray:
    """Network outputs [n, o] on the scale on which an ensemble averages: the target [n] or targets
    [n, o], the logarithm where that is learnt, or probabilities [n, c]."""
    found = to_target(outputs, transform)
    return found if transform is None else transform.to_learnt(found)


def _described(table: Table) -> dict[str, Any]:
    """What several targets are."""
    if not table.targets:
        return {}
    names, logs = zip(*table.targets, strict=True)
    return {"targets": list(names), "log_targets": list(logs)}


def _with_weights(
    target: np.ndarray, weights: np.ndarray, train: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Target or targets and weight of each row, [n, T + 1] float32; weights have mean 1 on either
    side of a fold, so that the mean of a weighted loss is the weighted mean."""
    scaled = weights.astype(np.float64)
    for rows in (train, valid):
        if len(rows):
            scaled[rows] = weights[rows] / weights[rows].mean()
    return np.column_stack([target, scaled]).astype(np.float32)


def _digest(splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """What tells splits apart."""
    digest = hashlib.sha256()
    for rows in (rows for pair in splits for rows in pair):
        digest.update(f"{len(rows)}:".encode() + np.asarray(rows, "<i8").tobytes())
    return digest.hexdigest()


def tabular(table: Table, **options: Any) -> TabularTask:
    """Make a task of a table.

    Args:
      table: from `datasets.load_table`.
      **options: `test_fraction`, `numeric`, `num_bins`, `splits`, `share_programs`, `loss`,
        `quantile`, `near`, `executor` of `TabularTask`.
    """
    return checked_call()(TabularTask)(table, **options)


def reopen(description: dict[str, Any], source: "str | Path | pd.DataFrame") -> TabularTask:
    """Make a task again from what `TabularTask.describe` gave.

    Args:
      description: of the task.
      source: its table; "" if that was a DataFrame.

    Raises:
      UserError: if the table is not there, or is another one; or for a study of something else.
    """
    if description.get("kind", "tabular") != "tabular":
        raise UserError(
            f"the study is of {description.get('source', 'a problem')}, not of a table; open it "
            "from Python: lab.Study(problem, space, directory)"
        )
    if "splits" in description:
        raise UserError(
            "the study has splits of its own, which are not stored; open it from Python: "
            "lab.Study(lab.tasks.tabular(table, splits=...), space, directory)"
        )
    if isinstance(source, str) and not source:
        raise UserError("the study's table was a DataFrame; give it: Study.load(directory, frame)")
    table = datasets.load_table(
        source,
        target=description.get("targets", description["target"]),
        task=description["task"],
        log_target=description.get("log_targets", bool(description["log_target"])),
        group=description.get("group"),
        time=description.get("time"),
        weights=description.get("weights"),
        keep_split_column=description.get("keep_split_column", False),
        max_bytes=None,  # it was read before
    )
    if table.sha256 != description["sha256"]:
        raise UserError(
            f"{table.source}: the table has changed since the study began; give it as it was"
        )
    if "equal_rows" not in description:  # of an earlier version
        table = replace(table, equal=None)
    names = ("test_fraction", "numeric", "num_bins", "share_programs", "loss", "quantile", "near")
    given = {name: description[name] for name in (*names, "executor") if name in description}
    return tabular(table, **given)
