"""Whether the parts of a model folder fit together: it may be damaged, or written elsewhere."""

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from jaxopt_lab.datasets import Encoder, TargetTransforms
from jaxopt_lab.datasets.column_codes import CategoryCode
from jaxopt_lab.datasets.target_losses import SQUARED
from jaxopt_lab.problems.mlp.network import layer_shapes
from jaxopt_lab.problems.tabular import other_kinds
from jaxopt_lab.problems.tabular.networks import Network
from jaxopt_lab.problems.tabular.temperatures import UNTEMPERED
from jaxopt_lab.problems.tabular.trees import LARGEST
from jaxopt_lab.storage.packing import flatten

if TYPE_CHECKING:
    from jaxopt_lab.problems.tabular.predictor import Predictor


def check(model: "Predictor") -> None:
    """See that its parts fit together.

    Raises:
      ValueError: saying what does not.
    """
    if model.task == "classification" and len(set(model.classes)) != max(len(model.classes), 2):
        raise ValueError("a classification needs two different classes or more")
    if len(model.transforms) != (len(model.encoders) if model.task == "regression" else 0):
        raise ValueError(f"{len(model.transforms)} target transforms do not fit the encoders")
    if len(model.ensemble) != len(model.networks):
        raise ValueError(f"{len(model.ensemble)} weights of {len(model.networks)} networks")
    total = sum(model.ensemble) + sum(other.weight for other in model.others)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the weights of the networks sum to {total:g}, not 1")
    if model.residuals is not None and model.task != "regression":
        raise ValueError("a classification has no residuals")
    if model.loss != SQUARED and model.task != "regression":
        raise ValueError("a classification has no loss of numbers")
    if model.temperatures != UNTEMPERED and model.task == "regression":
        raise ValueError("a regression has no temperatures of probabilities")
    readers = [other.reader for other in model.others if other.reader is not None]
    for encoder in (*model.encoders, *readers):
        _check_encoder(encoder)
    _check_targets(model)
    num_outputs = len(model.targets) or 1 if model.task == "regression" else len(model.classes)
    for other in model.others:
        other_kinds.check(other, model.encoders, num_outputs)
    for i, network in enumerate(model.networks):
        if not network.encoder < len(model.encoders):
            raise ValueError(f"network {i} has no encoder")
        num_features = model.encoders[network.encoder].num_features
        _check_weights(i, network, num_features, num_outputs)


def _check_targets(model: "Predictor") -> None:
    """See that transforms and residuals are those of the targets.

    Raises:
      ValueError: saying what does not fit.
    """
    number = len(model.targets) or 1
    if number > 1 and model.task != "regression":
        raise ValueError("a classification has one target")
    if len(set(model.targets)) != len(model.targets):
        raise ValueError("several targets have different names")
    for transform in model.transforms:
        parts = transform.parts if isinstance(transform, TargetTransforms) else (transform,)
        if len(parts) != number:
            raise ValueError(f"{len(parts)} target transforms of {number} targets")
        if not all(isinstance(part.log, bool) for part in parts):
            raise ValueError("log of a target transform must be true or false")
    if model.residuals is not None:
        for values in (model.residuals.single, model.residuals.ensemble):
            if values.shape[1:] != ((number,) if model.targets else ()):
                raise ValueError(f"residuals do not fit {number} targets")


def _check_encoder(encoder: Encoder) -> None:
    """See that an encoder can encode: kinds of its learned values, and two rows of odd cells.

    Raises:
      Exception: of any kind, if not.
    """
    for code in encoder.codes:
        if isinstance(code, CategoryCode):
            texts, flags, numbers = (code.column, *code.categories), [code.pooled], []
        else:
            texts = (code.column, code.part, code.date_format or "")
            flags = [code.marked]
            numbers = [code.median, code.mean, code.scale, *code.edges, *code.quantiles]
            if any(low > high for low, high in pairwise(code.quantiles)):
                raise ValueError(f"column {code.column!r}: quantiles must not fall")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"column {code.column!r}: names and labels must be text")
        if not all(isinstance(flag, bool) for flag in flags):
            raise ValueError(f"column {code.column!r}: a flag must be true or false")
        if any(isinstance(n, bool) or not abs(n) <= LARGEST for n in numbers):
            raise ValueError(f"column {code.column!r}: learned numbers must be finite")
    import pandas as pd

    odd = pd.DataFrame({name: [None, "2020-01-31"] for name in encoder.columns}, dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not np.isfinite(encoder.transform(odd)).all():
            raise ValueError("an encoder gives values that are not finite")


def _check_weights(index: int, network: Network, num_features: int, num_outputs: int) -> None:
    """Hold the arrays of a network against its architecture.

    Raises:
      ValueError: naming the first array that is missing, of another shape or not finite.
    """
    shape = network.architecture
    size, layers = shape["hidden_size"], shape["num_layers"]
    if shape["num_outputs"] != num_outputs:
        raise ValueError(f"network {index} has {shape['num_outputs']} outputs, not {num_outputs}")
    flat, inputs = flatten(network.params), num_features
    # Columns are padded to the widest encoder of the study.
    if "hidden_0/kernel" in flat and np.ndim(flat["hidden_0/kernel"]) == 2:
        inputs = max(num_features, len(flat["hidden_0/kernel"]))
    members = shape.get("ensemble_size", 1), shape.get("ensemble_form", "mini")
    wanted = {
        f"{name}/{leaf}": tuple(found)
        for name, layer in layer_shapes(inputs, size, layers, num_outputs, *members).items()
        for leaf, found in layer.items()
    }
    if flat.keys() != wanted.keys():
        odd = sorted(flat.keys() ^ wanted.keys())[0]
        raise ValueError(f"network {index} does not fit its weights: {odd}")
    for name, array in flat.items():
        if array.shape != wanted[name] or array.dtype != np.float32:
            raise ValueError(f"{name} of network {index} has shape {array.shape} {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of network {index} holds a weight that is not finite")
