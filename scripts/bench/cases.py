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
      hidden_size: neurons of each hidden layer, or units of the recurrent one; of images, the
        channels of the first of two convolutions.
      batch_size: rows per step.
      num_trials: networks, or configurations of which each trains `num_seeds`.
      dropout: rate after each hidden layer.
      num_epochs: epochs of each network.
      num_layers: hidden layers.
      num_rows: training rows; there are no validation rows.
      num_features: columns; channels of a sequence.
      width: cohort width of our engine; 0 for its own formula.
      model: "mlp"; "gru" on masked sequences; "cnn" on images; "function" for a whole training of
        an MLP as one function.
      size: steps of a sequence; rows and columns of an image.
      num_seeds: trainings of each configuration.
      activation: of the MLP.
      chain: whether gradients are clipped by their norm and the rate falls along a cosine.
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
    model: str = "mlp"
    size: int = 1
    num_seeds: int = 1
    activation: str = "relu"
    chain: bool = False

    @property
    def name(self) -> str:
        """As in the output, `mlp-3x64-b32-n64-dropout0.2` say."""
        shape = f"{self.num_layers}x{self.hidden_size}"
        shape += f"-t{self.size}" if self.size > 1 else ""
        name = f"{self.model}-{shape}-b{self.batch_size}-n{self.num_trials}"
        name += f"x{self.num_seeds}" if self.num_seeds > 1 else ""
        name += f"-{self.activation}" if self.activation != "relu" else ""
        name += "-chain" if self.chain else ""
        return name + (f"-dropout{self.dropout:g}" if self.dropout else "")

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole population."""
        epochs = self.num_trials * self.num_seeds * self.num_epochs
        return epochs * -(-self.num_rows // self.batch_size)

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
        """Inputs [num_rows, ...] and standardised targets [num_rows], float32."""
        random = np.random.default_rng(0)
        if self.model == "gru":
            return self._sequences(random)
        if self.model == "cnn":
            return self._images(random)
        x = random.standard_normal((self.num_rows, self.num_features))
        y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * random.standard_normal(self.num_rows)
        return _standardised(x, y)

    def _sequences(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """[rows, steps, channels + 1]: the last channel is the mask; a fading sum of the first."""
        steps = np.arange(self.size)
        lengths = random.integers(self.size // 2, self.size + 1, self.num_rows)
        real = (steps < lengths[:, None]).astype(float)
        x = random.standard_normal((self.num_rows, self.size, self.num_features))
        fading = real * 0.9 ** (lengths[:, None] - 1 - steps).clip(0)
        y = (fading * (x[..., 0] + x[..., 1] * x[..., 2])).sum(axis=1)
        return _standardised(np.concatenate([x * real[..., None], real[..., None]], axis=-1), y)

    def _images(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """[rows, size, size, 1]: how bright the brightest patch of 3 x 3 is."""
        x = random.standard_normal((self.num_rows, self.size, self.size, 1))
        patches = np.lib.stride_tricks.sliding_window_view(x[..., 0], (3, 3), axis=(1, 2))
        return _standardised(x, patches.mean(axis=(3, 4)).max(axis=(1, 2)))


def _standardised(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


#: Model -> its case, where it differs from that of the MLP.
CASES: dict[str, dict[str, Any]] = {
    "mlp": {},
    "gru": {
        "num_layers": 1,
        "hidden_size": 32,
        "size": 24,
        "num_features": 6,
        "num_rows": 2048,
        "num_trials": 32,
    },
    "cnn": {
        "num_layers": 2,
        "hidden_size": 16,
        "size": 8,
        "num_rows": 1024,
        "batch_size": 64,
        "num_trials": 32,
    },
    "function": {"num_layers": 2, "hidden_size": 32, "num_rows": 1024, "num_seeds": 4},
}
#: The cases of the executor `kernel`, in what differs from the MLP's.
KERNEL_CASES: tuple[dict[str, Any], ...] = (
    {"chain": True},
    {"chain": True, "dropout": 0.2},
    {"batch_size": 128},
    {"num_layers": 2, "hidden_size": 32},
    {"num_layers": 2, "hidden_size": 16, "num_trials": 16384},
    {"num_layers": 2, "activation": "tanh", "batch_size": 64},
    {"num_layers": 2, "hidden_size": 128},
    {"num_layers": 4},
)
