"""What every system trains: networks, data, and each trial's own hyperparameters."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Ends of the hyperparameters' ranges; every trial converges.
LOW_RATE, HIGH_RATE = 3e-4, 3e-3
LOW_DECAY, HIGH_DECAY = 1e-5, 1e-3


class Unavailable(Exception):
    """A system cannot do a case; the message says why."""


@dataclass(frozen=True)
class Case:
    """A population of networks that differ in learning rate and weight decay only.

    Attributes:
      hidden_size: neurons of each hidden layer.
      batch_size: rows per step.
      num_trials: networks.
      dropout: rate after each hidden layer.
      num_epochs: epochs of each network.
      num_layers: hidden layers.
      num_rows: training rows; there are no validation rows.
      num_features: columns.
      width: cohort width of our engine; 0 for its own formula.
    """

    hidden_size: int = 64
    batch_size: int = 32
    num_trials: int = 64
    dropout: float = 0.0
    num_epochs: int = 8
    num_layers: int = 3
    num_rows: int = 8192
    num_features: int = 8
    width: int = 0

    @property
    def name(self) -> str:
        """As in the output, `mlp-3x64-b32-n64-dropout0.2` say."""
        shape = f"mlp-{self.num_layers}x{self.hidden_size}-b{self.batch_size}-n{self.num_trials}"
        return shape + (f"-dropout{self.dropout:g}" if self.dropout else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `Case(**data)` takes it back."""
        return asdict(self)

    @property
    def learning_rates(self) -> np.ndarray:
        """[num_trials] float32."""
        return np.geomspace(HIGH_RATE, LOW_RATE, self.num_trials).astype(np.float32)

    @property
    def weight_decays(self) -> np.ndarray:
        """[num_trials] float32, decoupled."""
        return np.geomspace(LOW_DECAY, HIGH_DECAY, self.num_trials).astype(np.float32)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [num_rows, num_features] and standardised targets [num_rows], float32."""
        random = np.random.default_rng(0)
        x = random.standard_normal((self.num_rows, self.num_features))
        y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * random.standard_normal(self.num_rows)
        y = (y - y.mean()) / y.std()
        return x.astype(np.float32), y.astype(np.float32)
