"""The MLP's outputs on the host: in NumPy, so that no network is compiled only to predict."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, log_softmax, logsumexp

Rows = Float[np.ndarray, "n f"]


def _gelu(x: np.ndarray) -> np.ndarray:
    """By tanh, as `jax.nn.gelu` does by default."""
    cubic = x + np.float32(0.044715) * x * x * x
    return np.float32(0.5) * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * cubic))


#: Those of `models.activations`, by name.
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "gelu": _gelu,
    "silu": lambda x: x * expit(x),
    "sigmoid": expit,
}


def outputs(
    params: Mapping[str, Any], num_layers: int, activation: str, inputs: Rows
) -> Float[np.ndarray, "*k n o"]:
    """What a `PaddedMLP` gives in evaluation.

    Args:
      params: its weights: kernel and bias of `hidden_0`, ... and `output`, float32, and adapters
        of members.
      num_layers: hidden layers.
      activation: a key of `FUNCTIONS`.
      inputs: float32 rows; columns of the first kernel beyond theirs meet zeros.

    Returns:
      Outputs [n, o]; of k members [k, n, o].
    """
    x = inputs
    # A network that overflows is found by its outputs, which are not finite.
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(num_layers):
            layer = params[f"hidden_{i}"]
            x = FUNCTIONS[activation](_dense(layer, x))
        return _dense(params["output"], x)


def averaged(
    outputs: Float[np.ndarray, "k n o"], of_numbers: bool = False
) -> Float[np.ndarray, "n o"]:
    """Outputs of the members' mean prediction: their mean, or of classes, of which there are two
    or more, the logarithm of the mean probabilities; `of_numbers` tells several numbers apart."""
    if of_numbers or outputs.shape[2] == 1:
        return np.asarray(outputs.mean(axis=0))
    logs = log_softmax(outputs, axis=2)
    return np.asarray(logsumexp(logs, axis=0) - np.float32(math.log(len(outputs))))


def _dense(layer: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Rows [n, f] of all members or [k, n, f] of each; [k, n, o] once members differ."""
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    size = x.shape[-1]
    if "r" in layer:
        x = x * np.asarray(layer["r"])[:, None, :size]
    products = x @ kernel[..., :size, :]
    if "s" in layer:
        products = products * np.asarray(layer["s"])[:, None]
    return np.asarray(products + (bias if bias.ndim == 1 else bias[:, None]))
