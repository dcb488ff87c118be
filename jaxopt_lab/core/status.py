"""The status codes of a trial and its configuration: what can be read without JAX."""

from enum import StrEnum
from typing import Any

#: A configuration: hyperparameter name -> Python scalar, as a sampler proposes it.
Config = dict[str, Any]


class Status(StrEnum):
    """What has become of a trial."""

    PENDING = "pending"
    COMPLETED = "completed"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
