"""One temperature for class probabilities, which makes them as sure as they are right.

Logits are divided by it before the softmax. Of an ensemble, whose members' probabilities are
averaged, their logarithms are the logits. Above 1 it makes a model less sure, below 1 surer; which
class is likeliest stays as it is.

Source: Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks",
arXiv:1706.04599, section 4.2.
"""

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

#: What a probability counts as at least before its logarithm is taken.
LEAST = float(np.finfo(np.float64).tiny)
#: Beyond these a model says next to nothing, or is sure of everything.
LOWEST, HIGHEST = 0.25, 16.0


class Temperatures(NamedTuple):
    """Those of the single network and of the ensemble; 1 leaves probabilities as they are."""

    single: float = 1.0
    ensemble: float = 1.0


#: Of models whose probabilities stay as they are.
UNTEMPERED = Temperatures()
Temperature = Annotated[float, Field(ge=LOWEST, le=HIGHEST, allow_inf_nan=False, strict=True)]


@with_config(ConfigDict(extra="forbid"))
class TemperatureTable(TypedDict):
    """What `model.json` says of them."""

    single: Temperature
    ensemble: Temperature


def tempered(chance: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, c] float64 raised to the power 1 / temperature, rows summing to 1 again.

    Args:
      chance: [n, c], rows that sum to 1.
      temperature: above 0; 1 returns `chance` itself.

    Examples:
      >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(3)
      array([[0.667, 0.333]])
    """
    if temperature == 1.0:
        return chance
    logits = np.log(np.maximum(chance, LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
