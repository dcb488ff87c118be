"""Members of an ensemble that are no networks: boosted trees, linear models and a kernel
regression, as plain arrays."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import numpy as np
from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from jaxopt_lab.datasets import Encoder
from jaxopt_lab.problems.tabular.kernels import Kernel
from jaxopt_lab.problems.tabular.trees import LARGEST, Trees
from jaxopt_lab.storage.validation import Text

TREES = ("hist_gradient_boosting", "lightgbm")
LINEAR = ("ridge", "logistic_regression")
KERNEL = "kernel_regression"


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear model of encoded columns.

    Attributes:
      kernel: [F, o] float64.
      bias: [o] float64.

    Raises:
      ValueError: if they are not that.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        for name, rank in (("kernel", 2), ("bias", 1)):
            array = getattr(self, name)
            if array.dtype != np.float64 or array.ndim != rank:
                raise ValueError(f"a linear model's {name} is {array.dtype} of rank {array.ndim}")
            if not (np.abs(array) <= LARGEST).all():
                raise ValueError(f"a linear model's {name} must be finite")
        if self.kernel.shape[1] != len(self.bias):
            raise ValueError("a linear model's kernel does not fit its bias")

    @property
    def num_outputs(self) -> int:
        """Numbers that are predicted for a row."""
        return len(self.bias)

    @property
    def num_features(self) -> int:
        """Encoded columns."""
        return len(self.kernel)

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs float64 [n, o] of encoded rows [n, F]."""
        # Not a product of matrices, whose rounding depends on how many rows come together.
        return np.einsum("nf,fo->no", inputs.astype(np.float64), self.kernel) + self.bias

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Both arrays by name."""
        return {"kernel": self.kernel, "bias": self.bias}


class Other(NamedTuple):
    """A model of another kind, its share of the ensemble, and what feeds it.

    Attributes:
      name: one of `TREES` or `LINEAR`, or `KERNEL`.
      weight: of the ensemble.
      model: whose outputs are those of a network: the standardised target, or logits.
      encoder: place of the encoder that feeds a linear model, and of the target's transform.
      reader: what reads a table for trees or a kernel; None for a linear model.
    """

    name: str
    weight: float
    model: Trees | Linear | Kernel
    encoder: int
    reader: Encoder | None = None

    def read(self, frame: Any, kin: np.ndarray | None = None) -> np.ndarray:
        """Rows [n, F] of a frame as its own reader gives them; `kin` as in `Encoder.transform`."""
        assert self.reader is not None
        read = self.reader.transform if isinstance(self.model, Kernel) else self.reader.raw
        return read(frame, kin)


@with_config(ConfigDict(extra="forbid"))
class OtherTable(TypedDict):
    """What `model.json` says of an `Other`; its arrays are with the weights."""

    name: Literal[
        "hist_gradient_boosting", "lightgbm", "ridge", "logistic_regression", "kernel_regression"
    ]
    weight: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
    encoder: Annotated[int, Field(ge=0, le=2**20, strict=True)]
    reader: NotRequired[dict[Text, Any]]


def described(other: Other) -> dict[str, Any]:
    """The content of an `OtherTable`."""
    found = {"name": other.name, "weight": other.weight, "encoder": other.encoder}
    return found if other.reader is None else {**found, "reader": other.reader.to_dict()}


def restored(table: OtherTable, arrays: dict[str, np.ndarray]) -> Other:
    """An `Other` from what was stored.

    Raises:
      Exception: of any kind, if the parts are none.
    """
    name = table["name"]
    kind: Any = Trees if name in TREES else Kernel if name == KERNEL else Linear
    reader = None if kind is Linear else Encoder.from_dict(table["reader"])
    return Other(name, table["weight"], kind(**arrays), table["encoder"], reader)


def check(other: Other, encoders: tuple[Encoder, ...], num_outputs: int) -> None:
    """See that a model fits what feeds it and what it predicts.

    Raises:
      ValueError: saying what does not.
    """
    if other.encoder >= len(encoders):
        raise ValueError(f"{other.name} has no encoder")
    if other.model.num_outputs != num_outputs:
        raise ValueError(f"{other.name} has {other.model.num_outputs} outputs, not {num_outputs}")
    wanted = other.model.num_features
    if other.reader is None:
        if encoders[other.encoder].num_features != wanted:
            raise ValueError(f"{other.name} needs {wanted} encoded columns")
    elif isinstance(other.model, Kernel):
        if other.reader.num_features != wanted:
            raise ValueError(f"{other.name} needs {wanted} encoded columns")
    elif other.reader.num_raw < wanted:
        raise ValueError(f"{other.name} looks at column {wanted} of {other.reader.num_raw}")
