"""Trained networks that leave the study: predict, save to a folder, load anywhere.

How a model folder is written and read is in `model_folder`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.types import Config, Params
from jaxopt_lab.datasets import Encoder, TargetLoss, TargetTransform, TargetTransforms
from jaxopt_lab.datasets.target_losses import SQUARED
from jaxopt_lab.problems.tabular import model_checks, model_folder, onnx_model, other_kinds
from jaxopt_lab.problems.tabular.intervals import Residuals, around, conformal_quantile
from jaxopt_lab.problems.tabular.networks import Network, apply_network, architecture_of
from jaxopt_lab.problems.tabular.other_kinds import Other
from jaxopt_lab.problems.tabular.task import Prepared, TabularTask, Transform, to_averaged
from jaxopt_lab.problems.tabular.temperatures import UNTEMPERED, Temperatures, tempered
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.storage.packing import flatten, unflatten
from jaxopt_lab.storage.validation import undamaged

#: Of `model.json`.
SCHEMA = model_folder.SCHEMA


@dataclass(frozen=True, eq=False)
class Predictor:
    """One network, or a weighted average of several, with what it takes to feed them.

    Attributes:
      task: "regression" or "classification".
      target_name: the column that is predicted; of several targets their names, to be shown.
      classes: labels of a classification.
      encoders: one per fold that a network was trained on.
      transforms: target transforms, likewise; empty for classification.
      networks: the networks; the first is the single winner.
      ensemble: weight of each network; all on the first where there is none. With those of
        `others` they sum to 1.
      residuals: of held-out rows, for intervals; None for classes, and where nobody kept them.
      others: members of the ensemble that are no networks.
      loss: that a number was learnt by, which says what of its distribution is predicted.
      temperatures: of class probabilities.
      targets: the columns that are predicted together where there are several; () for one.
    """

    task: str
    target_name: str
    classes: tuple[Any, ...]
    encoders: tuple[Encoder, ...]
    transforms: tuple[Transform, ...]
    networks: tuple[Network, ...]
    ensemble: tuple[float, ...]
    residuals: Residuals | None = None
    others: tuple[Other, ...] = ()
    loss: TargetLoss = SQUARED
    temperatures: Temperatures = UNTEMPERED
    targets: tuple[str, ...] = ()

    def predict(self, frame: Any, single: bool = False) -> np.ndarray:
        """Predict rows.

        Args:
          frame: a pandas frame with the feature columns the study saw; others are ignored.
          single: use the single network where there is an ensemble.

        Returns:
          [n] in the target's units, or [n] class labels; [n, T] of several targets, each in its own
          units, in the order of `targets`.

        Raises:
          UserError: for what is no frame, and naming the columns that are missing.
        """
        found = self.predict_raw(frame, single)
        if self.task == "regression":
            return found
        return _labels(self.classes)[found.argmax(axis=1)]

    def predict_raw(self, frame: Any, single: bool = False) -> np.ndarray:
        """Like `predict`, but class probabilities [n, c] for a classification."""
        return self.predict_encoded(self.encode(frame, single), single)

    def encode(self, frame: Any, single: bool = False) -> dict[int, np.ndarray]:
        """What `predict_encoded` takes: encoder -> rows [n, F], of those that predictions need.

        Trees and kernels read a table by an encoder of their own; theirs are numbered behind the
        others.
        """
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            raise UserError(
                f"rows to predict are a pandas frame, not {type(frame).__name__}: "
                "lab.datasets.load_frame(...) reads one from a file"
            )
        used = {n.encoder for n, w in zip(self.networks, self._weights(single), strict=True) if w}
        found = {}
        for place, other in enumerate(() if single else self.others):
            if other.reader is None:
                used.add(other.encoder)
            else:
                found[len(self.encoders) + place] = other.read(frame)
        return {**{i: self.encoders[i].transform(frame) for i in sorted(used)}, **found}

    def _weights(self, single: bool) -> tuple[float, ...]:
        return (1.0, *[0.0] * (len(self.networks) - 1)) if single else self.ensemble

    def predict_encoded(self, encoded: dict[int, np.ndarray], single: bool = False) -> np.ndarray:
        """Like `predict_raw`, of rows that `encode` has read with the same `single`."""
        total: Any = 0.0
        for network, weight in zip(self.networks, self._weights(single), strict=True):
            if weight:
                outputs = apply_network(network, encoded[network.encoder])
                total = total + weight * to_averaged(outputs, self._transform(network.encoder))
        for place, other in enumerate(() if single else self.others):
            feeds = other.encoder if other.reader is None else len(self.encoders) + place
            outputs = other.model.predict(encoded[feeds])
            total = total + other.weight * to_averaged(outputs, self._transform(other.encoder))
        if self.transforms:
            found = self.transforms[0].from_learnt(total)
        else:
            found = tempered(total, self.temperature(single))
        wrong = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(axis=1))
        if len(wrong):
            raise MachineError(
                f"the model gives no finite prediction of data row {wrong[0] + 1} "
                f"({len(wrong)} of {len(found)} rows): a network of it has diverged or is damaged"
            )
        return found

    def temperature(self, single: bool = False) -> float:
        """That of the single network's probabilities, or of the ensemble's."""
        return self.temperatures.single if single else self.temperatures.ensemble

    def _transform(self, encoder: int) -> Transform | None:
        """That of the target on an encoder's rows; None for classes."""
        return self.transforms[encoder] if self.transforms else None

    def predict_interval(self, frame: Any, coverage: Any = 0.9, single: bool = False) -> np.ndarray:
        """Predict ranges that hold the truth of a new row with a given probability.

        See `intervals` for what is proved of them and what is measured.

        Args:
          frame: as in `predict`.
          coverage: the probability, between 0 and 1.
          single: use the single network where there is an ensemble.

        Returns:
          [n, 2] float64, lower and upper ends in the target's units; [n, T, 2] of several targets.
          All of a target are equally wide on the scale that was learnt: where that is a logarithm,
          by the same factor.

        Raises:
          UserError: for classes, a quantile, a model without residuals, or a coverage that needs
            more rows.
        """
        self.interval_distance(coverage, single)  # what cannot be is said first
        return self.interval_around(self.predict_raw(frame, single), coverage, single)

    def interval_around(
        self, predicted: np.ndarray, coverage: Any, single: bool = False
    ) -> np.ndarray:
        """The same [n, 2] about predictions [n] that are known; [n, T, 2] about [n, T]."""
        distance, transform = self.interval_distance(coverage, single), self.transforms[0]
        if not isinstance(transform, TargetTransforms):
            return around(predicted, distance, transform.log)
        each = zip(predicted.T, distance, transform.parts, strict=True)
        return np.stack([around(p, float(d), part.log) for p, d, part in each], axis=1)

    def interval_distance(self, coverage: Any, single: bool = False) -> Any:
        """How far the ends of an interval lie from the prediction, on the scale that was learnt, a
        float; of several targets float64 [T].

        Raises:
          UserError: as `predict_interval`.
        """
        if self.task != "regression":
            raise UserError(
                f"intervals need a number to predict, and {self.target_name!r} holds classes: "
                "their probabilities say how sure the model is"
            )
        if self.loss.name == "quantile":
            raise UserError(
                f"the model predicts {self.loss.predicts} of {self.target_name!r}, an end of an "
                "interval and not its middle; tune with the loss squared, absolute or huber for "
                "intervals, or one model for each end"
            )
        if self.residuals is None:
            raise UserError(
                "the model has no residuals for intervals, as those of earlier versions; run the "
                "tune command of its study again, which adds them without a search"
            )
        known = self.residuals.single if single else self.residuals.ensemble
        if known.ndim == 2:
            return np.array([conformal_quantile(column, coverage) for column in known.T])
        return conformal_quantile(known, coverage)

    def save(self, directory: str | Path) -> None:
        """Write the model folder.

        Raises:
          MachineError: if the disk is full or the folder cannot be written.
        """
        content = {
            "schema": self._schema,
            "task": self.task,
            "target_name": self.target_name,
            "classes": list(self.classes),
            "encoders": [encoder.to_dict() for encoder in self.encoders],
            "transforms": [transform.to_dict() for transform in self.transforms],
            "networks": [
                {"architecture": n.architecture, "encoder": n.encoder} for n in self.networks
            ],
            "ensemble": list(self.ensemble),
            **self.loss.describe(),
            **({"targets": list(self.targets)} if self.targets else {}),
        }
        if self.others:
            content["others"] = [other_kinds.described(other) for other in self.others]
        if self.temperatures != UNTEMPERED:
            content["temperatures"] = self.temperatures._asdict()
        model_folder.publish(
            Path(directory),
            content,
            [flatten(n.params) for n in self.networks],
            asdict(self.residuals) if self.residuals else None,
            [other.model.to_arrays() for other in self.others],
        )

    def save_onnx(self, path: Any, single: bool = False) -> None:
        """Write the networks as one ONNX model, from encoded rows to predictions.

        Args:
          path: of the file. Its inputs are `rows_I`, float32 [n, F], for each encoder I that
            `encode` tells; its output is `prediction` float64 [n] in the target's units, [n, T] of
            several targets, or `probabilities` float64 [n, c].
          single: write the single network where there is an ensemble.

        Raises:
          UserError: if the ensemble has members that are no networks.
          MachineError: if ONNX is not installed (extra `onnx`), or the file cannot be written.
        """
        model = onnx_model.model_of(self, single)
        write_file(Path(path).expanduser(), model.SerializeToString())

    @classmethod
    def load(cls, directory: str | Path) -> "Predictor":
        """Read a model folder.

        Raises:
          UserError: if it is missing, damaged, changed or of a later version.
        """
        folder = Path(directory)
        content, weights, residuals, arrays = model_folder.read(folder)
        several = "targets" in content
        transform: Any = TargetTransforms if several else TargetTransform

        def restored() -> "Predictor":
            networks = zip(content["networks"], weights, strict=True)
            others = zip(content.get("others", []), arrays, strict=True)
            model = cls(
                content["task"],
                content["target_name"],
                tuple(content["classes"]),
                tuple(Encoder.from_dict(e) for e in content["encoders"]),
                tuple(transform.from_dict(t) for t in content["transforms"]),
                tuple(
                    Network(n["architecture"], unflatten(w), n["encoder"], several)
                    for n, w in networks
                ),
                tuple(content["ensemble"]),
                Residuals(**residuals) if residuals else None,
                tuple(other_kinds.restored(table, found) for table, found in others),
                TargetLoss.described(content),
                Temperatures(**content.get("temperatures", {})),
                tuple(content.get("targets", ())),
            )
            model_checks.check(model)
            return model

        return undamaged(f"the model in {folder}", restored)

    @property
    def _schema(self) -> int:
        """The least that holds the model."""
        if any(other.name == other_kinds.KERNEL for other in self.others):
            return 8
        if self.targets:
            return 7
        if self.temperatures != UNTEMPERED:
            return 6
        if any(encoder.near for encoder in self.encoders):
            return 5
        if self.loss != SQUARED:
            return 4
        if self.others or any("ensemble_size" in n.architecture for n in self.networks):
            return 3
        return 2 if self.residuals else 1


def _labels(classes: tuple[Any, ...]) -> np.ndarray:
    """Labels as an array; whole numbers that no integer type holds stay Python's."""
    if any(isinstance(label, int) and abs(label) >= 2**63 for label in classes):
        return np.asarray(classes, dtype=object)
    return np.asarray(classes)


def assemble(
    task: TabularTask,
    prepared: Prepared,
    networks: Sequence[tuple[Config, Params, int]],
    weights: Sequence[float],
) -> Predictor:
    """Put trained networks into a `Predictor`.

    Args:
      task: that they were trained on.
      prepared: its encoders and transforms by fold.
      networks: (complete configuration, weights, fold) each; the first is the single winner.
      weights: of the ensemble, one per network.
    """
    folds = sorted({fold for _, _, fold in networks})
    table, num_outputs = task.table, task.criterion.num_outputs
    return Predictor(
        task=table.task,
        target_name=table.target_name,
        classes=table.classes,
        encoders=tuple(prepared.encoders[f] for f in folds),
        transforms=tuple(prepared.transforms[f] for f in folds) if prepared.transforms else (),
        networks=tuple(
            Network(architecture_of(c, num_outputs), p, folds.index(f), bool(table.targets))
            for c, p, f in networks
        ),
        ensemble=tuple(weights),
        loss=task.target_loss,
        targets=tuple(target.name for target in table.targets),
    )
