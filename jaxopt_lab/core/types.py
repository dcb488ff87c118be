"""Array aliases, and the status codes of a trial."""

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
#: The traced part of a configuration: name -> scalar array.
Hparams = dict[str, Array]

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
