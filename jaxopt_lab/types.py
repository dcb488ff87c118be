"""Array aliases and the status codes of a trial."""

from enum import StrEnum
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int

PyTree = Any
PRNGKey = jax.Array
Params = PyTree
Scalar = Float[Array, ""]
IntScalar = Int[Array, ""]
BoolScalar = Bool[Array, ""]
#: A configuration: hyperparameter name -> Python scalar, as a sampler proposes it.
Config = dict[str, Any]
#: The traced part of a configuration: name -> scalar array.
Hparams = dict[str, Array]


class Status(StrEnum):
    """What has become of a trial."""

    PENDING = "pending"
    COMPLETED = "completed"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
