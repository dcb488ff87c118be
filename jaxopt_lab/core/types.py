"""Array aliases, and the status codes of a trial."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lab.core.status import Config, Status

PyTree = Any
PRNGKey = jax.Array
Params = PyTree
Scalar = Float[Array, ""]
IntScalar = Int[Array, ""]
BoolScalar = Bool[Array, ""]
#: What reaches the pure functions of a trial: name -> scalar array, or a static Python value.
Hparams = Mapping[str, Any]

__all__ = [
    "BoolScalar",
    "Config",
    "Hparams",
    "IntScalar",
    "PRNGKey",
    "Params",
    "PyTree",
    "Scalar",
    "Status",
]
