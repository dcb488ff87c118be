"""One trained network of a model: what it is, and what it says of encoded rows."""

from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.types import Config, Params
from jaxopt_lab.problems.mlp import forward
from jaxopt_lab.problems.mlp.programs import members_of

#: Rows that are predicted together: a power of two between these.
_FEW_ROWS, _ROWS = 64, 4096


class Network(NamedTuple):
    """One trained network: its architecture (arguments of `PaddedMLP`), weights and encoder, and
    whether its outputs are several numbers, no classes."""

    architecture: dict[str, Any]
    params: Params
    encoder: int
    several: bool = False


def architecture_of(config: Config, num_outputs: int) -> dict[str, Any]:
    """The arguments of `models.mlp.PaddedMLP` for a complete configuration."""
    return {
        "num_layers": config["num_layers"],
        "hidden_size": config["hidden_size"],
        "num_outputs": num_outputs,
        "activations": [config["activation"]],
        **(members_of(config) if config["ensemble_size"] > 1 else {}),
    }


def apply_network(network: Network, inputs: np.ndarray) -> np.ndarray:
    """Outputs float32 [n, o] of one network, with members those of their mean prediction; in chunks
    that are filled up, so that a row's outputs do not depend on whether others are predicted with
    it."""
    num_rows = len(inputs)
    size = min(_ROWS, max(_FEW_ROWS, 1 << (num_rows - 1).bit_length()))
    inputs = np.pad(inputs, [(0, -num_rows % size), (0, 0)])
    (activation,) = network.architecture["activations"]
    depth = network.architecture["num_layers"]
    chunks = [
        forward.outputs(network.params, depth, activation, inputs[i : i + size])
        for i in range(0, len(inputs), size)
    ]
    if network.architecture.get("ensemble_size", 1) > 1:
        chunks = [forward.averaged(outputs, network.several) for outputs in chunks]
    return np.concatenate(chunks)[:num_rows]
