"""Trained networks that leave the study: predict, save to a folder, load anywhere.

A model folder is `weights.safetensors` and `model.json`: numbers and text, nothing that executes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

from jaxopt_lab.core.devices import on_host
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import Config, Params
from jaxopt_lab.datasets import Encoder, TargetTransform
from jaxopt_lab.problems import Prepared, TabularTask
from jaxopt_lab.problems.mlp.network import PaddedMLP
from jaxopt_lab.problems.tabular.task import to_target
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.storage.packing import flatten, unflatten

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
_ROWS = 4096


class Network(NamedTuple):
    """One trained network: its architecture (arguments of `PaddedMLP`), weights and encoder."""

    architecture: dict[str, Any]
    params: Params
    encoder: int


@dataclass(frozen=True, eq=False)
class Predictor:
    """One network, or a weighted average of several, with what it takes to feed them.

    Attributes:
      task: "regression" or "classification".
      target_name: the column that is predicted.
      classes: labels of a classification.
      encoders: one per fold that a network was trained on.
      transforms: target transforms, likewise; empty for classification.
      networks: the networks; the first is the single winner.
      ensemble: weight of each network, summing to 1; all on the first where there is none.
    """

    task: str
    target_name: str
    classes: tuple[Any, ...]
    encoders: tuple[Encoder, ...]
    transforms: tuple[TargetTransform, ...]
    networks: tuple[Network, ...]
    ensemble: tuple[float, ...]

    def predict(self, frame: "pd.DataFrame", single: bool = False) -> np.ndarray:
        """Predict rows.

        Args:
          frame: with the feature columns the study saw; others are ignored.
          single: use the single network where there is an ensemble.

        Returns:
          [n] in the target's units, or [n] class labels.

        Raises:
          UserError: naming the columns that are missing.
        """
        found = self.predict_raw(frame, single)
        if self.task == "regression":
            return found
        return _labels(self.classes)[found.argmax(axis=1)]

    def predict_raw(self, frame: "pd.DataFrame", single: bool = False) -> np.ndarray:
        """Like `predict`, but class probabilities [n, c] for a classification."""
        weights = (1.0, *[0.0] * (len(self.networks) - 1)) if single else self.ensemble
        encoded: dict[int, np.ndarray] = {}
        total: Any = 0.0
        for network, weight in zip(self.networks, weights, strict=True):
            if not weight:
                continue
            index = network.encoder
            if index not in encoded:
                encoded[index] = self.encoders[index].transform(frame)
            outputs = apply_network(network, encoded[index])
            transform = self.transforms[index] if self.transforms else None
            if transform is not None and transform.log:
                total = total + weight * np.log(to_target(outputs, transform))
            else:
                total = total + weight * to_target(outputs, transform)
        return np.exp(total) if self.transforms and self.transforms[0].log else total

    def save(self, directory: str | Path) -> None:
        """Write the model folder.

        Raises:
          MachineError: if the disk is full or the folder cannot be written.
        """
        arrays = {
            f"{i}/{name}": np.ascontiguousarray(value)
            for i, network in enumerate(self.networks)
            for name, value in flatten(network.params).items()
        }
        content = {
            "schema": SCHEMA,
            "task": self.task,
            "target_name": self.target_name,
            "classes": list(self.classes),
            "encoders": [encoder.to_dict() for encoder in self.encoders],
            "transforms": [transform.to_dict() for transform in self.transforms],
            "networks": [
                {"architecture": n.architecture, "encoder": n.encoder} for n in self.networks
            ],
            "ensemble": list(self.ensemble),
        }
        write_file(Path(directory) / "weights.safetensors", save(arrays))
        write_file(Path(directory) / "model.json", json.dumps(content).encode())

    @classmethod
    def load(cls, directory: str | Path) -> "Predictor":
        """Read a model folder.

        Raises:
          UserError: if it is missing, damaged or of a later version.
        """
        folder = Path(directory)
        try:
            content = json.loads((folder / "model.json").read_text())
            if content["schema"] > SCHEMA:
                raise UserError(f"{folder} was written by a later version; upgrade jaxopt-lab")
            arrays = load((folder / "weights.safetensors").read_bytes())
            networks = tuple(
                Network(n["architecture"], _params_of(arrays, i), n["encoder"])
                for i, n in enumerate(content["networks"])
            )
            return cls(
                content["task"],
                content["target_name"],
                tuple(content["classes"]),
                tuple(Encoder.from_dict(e) for e in content["encoders"]),
                tuple(TargetTransform.from_dict(t) for t in content["transforms"]),
                networks,
                tuple(content["ensemble"]),
            )
        except FileNotFoundError as error:
            raise UserError(
                f"no model in {folder}: {Path(error.filename).name} is missing"
            ) from None
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the model in {folder} is damaged: {error}") from None


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
            Network(_architecture(c, num_outputs), p, folds.index(f)) for c, p, f in networks
        ),
        ensemble=tuple(weights),
    )


def _architecture(config: Config, num_outputs: int) -> dict[str, Any]:
    """The arguments of `models.mlp.PaddedMLP` for a complete configuration."""
    return {
        "num_layers": config["num_layers"],
        "hidden_size": config["hidden_size"],
        "num_outputs": num_outputs,
        "activations": [config["activation"]],
    }


def apply_network(network: Network, inputs: np.ndarray) -> np.ndarray:
    """Outputs float32 [n, o] of one network; chunks of one size, so that it compiles once."""
    num_rows = len(inputs)
    size = min(_ROWS, max(1, num_rows))
    width = np.shape(network.params["hidden_0"]["kernel"])[0]
    inputs = np.pad(inputs, [(0, -num_rows % size), (0, width - inputs.shape[1])])
    kinds = tuple(network.architecture["activations"])
    model = PaddedMLP(**{**network.architecture, "activations": kinds})
    # Where there is no CPU backend, as in training: else a GPU multiplies with 10 bits of mantissa.
    with on_host(), jax.default_matmul_precision("highest"):
        chunks = [
            np.asarray(_apply(model, network.params, inputs[i : i + size]))
            for i in range(0, len(inputs), size)
        ]
    return np.concatenate(chunks)[:num_rows]


@partial(jax.jit, static_argnums=0)
def _apply(model: PaddedMLP, params: Params, inputs: Any) -> Any:
    unread = jnp.zeros((), jnp.int32)
    hparams = dict.fromkeys(("hidden_size", "initialization", "activation"), unread)
    return model.apply({"params": params}, jnp.asarray(inputs), hparams)


def _params_of(arrays: Mapping[str, np.ndarray], index: int) -> dict[str, Any]:
    head = f"{index}/"
    return unflatten({k[len(head) :]: v for k, v in arrays.items() if k.startswith(head)})
