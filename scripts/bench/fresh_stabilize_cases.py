"""Cases that no rule has seen: other data, networks of one's own, every optimizer.

What a person would say was written down with each before it ran. Each ran once on the rules that
`results/stabilize_newer_cpu.jsonl` names beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import numpy as np
import optax

import jaxopt_lab as lab
from bench.more_stabilize_cases import file
from jaxopt_lab.problems.mlp.rows import RowsTask


@dataclass(frozen=True)
class Fresh:
    """A case, with the interface of `stabilize_cases.Case`.

    Attributes:
      problem: name.
      cause: what must be found.
      why: what a person would say, and by what.
      make: whether its rows are spoilt -> task or problem.
      given: the healthy configuration.
      changes: hyperparameters that break it.
      num_epochs: of each training.
      spoil: whether its rows are spoilt; None where they are not.
      half: the rules are reported on it.
    """

    problem: str
    cause: str
    why: str
    make: Callable[[bool], Any]
    given: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)
    num_epochs: int = 40
    spoil: bool | None = None
    half: str = "reporting"

    @property
    def name(self) -> str:
        """`problem/cause`."""
        return f"{self.problem}/{self.cause}"

    @property
    def hparams(self) -> dict[str, Any]:
        """Configuration."""
        return {**self.given, **self.changes}

    def task(self) -> Any:
        """Rows and loss."""
        return self.make(bool(self.spoil))

    def healthy(self) -> "Fresh":
        """The same problem unbroken."""
        return replace(self, cause="no_problem", changes={}, spoil=None)


class Mlp(nn.Module):
    """Two hidden layers."""

    outputs: int = 1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(2):
            x = nn.relu(nn.Dense(32)(x))
        x = nn.Dense(self.outputs)(x)
        return x[..., 0] if self.outputs == 1 else x


class Cnn(nn.Module):
    """Of images of 8 x 8."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for channels in (8, 16):
            x = nn.relu(nn.Conv(channels, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class Gru(nn.Module):
    """One layer, read at its end."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        outputs: Any = nn.RNN(nn.GRUCell(16))(x)
        return nn.Dense(1)(outputs[:, -1])[:, 0]


SOFTMAX = optax.softmax_cross_entropy_with_integer_labels


def _standard(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean(0)) / values.std(0)).astype(np.float32)


def _table(name: str, target: str, rows: int, outlying: int = 0) -> Callable[[bool], RowsTask]:
    def make(spoilt: bool) -> RowsTask:
        task = file(name, target, rows)(None, None)
        if not spoilt:
            return task
        inputs = task.inputs.copy()
        train = np.setdiff1d(np.arange(len(inputs)), task.valid_rows)
        spread = np.flatnonzero(inputs.std(0) > 0.5)[0]
        inputs[train[7 : 7 + outlying], spread] = np.linspace(-900.0, 1300.0, outlying)
        return replace(task, inputs=inputs)

    return make


def _diabetes(spoilt: bool) -> Any:
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True)
    targets = _standard(targets)
    if spoilt:
        targets[[11, 140, 260, 401]] = [55.0, -70.0, 90.0, 60.0]
    return lab.supervised(
        Mlp,
        (_standard(inputs), targets),
        loss=optax.squared_error,
        optimizer=lambda h: optax.adam(h["learning_rate"], b2=h["b2"]),
        batch_size=32,
    )


def _classes(spoilt: bool) -> Any:
    from sklearn.datasets import make_classification

    inputs, targets = make_classification(
        1200, 12, n_informative=6, n_classes=3, flip_y=0.03, random_state=5
    )
    inputs = _standard(inputs) * np.float32(250.0 if spoilt else 1.0)
    return lab.supervised(
        lambda: Mlp(3),
        (inputs, targets.astype(np.int32)),
        loss=SOFTMAX,
        optimizer=lambda h: optax.sgd(h["learning_rate"], momentum=0.9),
        batch_size=32,
    )


def _friedman(spoilt: bool) -> Any:
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(1300, 8, noise=2.0, random_state=9)
    valid = np.arange(14 if spoilt else 300)
    return lab.supervised(
        Mlp,
        (2 * inputs.astype(np.float32) - 1, _standard(targets)),
        loss=optax.squared_error,
        optimizer=lambda h: optax.adam(h["learning_rate"], b2=h["b2"]),
        splits=[(np.arange(300, 1300), valid)],
        batch_size=32,
    )


def _images(chain: Callable[[Any], Any]) -> Callable[[bool], Any]:
    def make(spoilt: bool) -> Any:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (digits.images[..., None] / 8 - 1).astype(np.float32)[:1200]
        labels = digits.target[:1200].astype(np.int32)
        return lab.supervised(Cnn, (images, labels), loss=SOFTMAX, optimizer=chain, batch_size=32)

    return make


def _series(spoilt: bool) -> Any:
    rng = np.random.default_rng(41)
    steps = rng.normal(size=(900, 12, 2)).astype(np.float32)
    fading = 0.8 ** np.arange(12)[::-1]
    targets = (steps[..., 0] * fading).sum(1) + 0.5 * steps[:, -1, 1] + rng.normal(0, 0.3, 900)
    return lab.supervised(
        Gru,
        (steps, _standard(targets)),
        loss=optax.squared_error,
        optimizer=lambda h: optax.adamw(h["learning_rate"], b2=h["b2"]),
        batch_size=32,
    )


def _deliveries(spoilt: bool) -> Any:
    task = file("deliveries", "time_to_delivery", 1000)(None, None)
    train = np.setdiff1d(np.arange(len(task.inputs)), task.valid_rows)
    return lab.supervised(
        Mlp,
        (task.inputs, task.targets),
        loss=optax.squared_error,
        optimizer=lambda h: optax.adam(h["learning_rate"], b2=h["b2"]),
        splits=[(train, np.asarray(task.valid_rows))],
        batch_size=32,
    )


def _moons(spoilt: bool) -> Any:
    from sklearn.datasets import make_moons

    inputs, targets = make_moons(1200, noise=0.35, random_state=3)
    flipped = np.random.default_rng(3).random(1200) < 0.1
    return lab.supervised(
        lambda: Mlp(2),
        (inputs.astype(np.float32), np.where(flipped, 1 - targets, targets).astype(np.int32)),
        loss=SOFTMAX,
        optimizer=lambda h: optax.rmsprop(h["learning_rate"], decay=h["b2"]),
        batch_size=32,
    )


TABLE = {"hidden_size": 32, "num_layers": 2, "batch_size": 32, "early_stopping": False}
ADAM = {"learning_rate": 1e-3, "b2": 0.999}
FRESH = [
    Fresh(
        "deliveries",
        "learning_rate_too_high",
        "momentum at 30 times a usual rate: lower it",
        _table("deliveries", "time_to_delivery", 1000),
        {**TABLE, "optimizer": "momentum", "learning_rate": 5e-3},
        {"learning_rate": 0.15},
    ),
    Fresh(
        "hotel_rates",
        "small_batch_noise",
        "Lion with batches of 4 instead of 32: the batch is small",
        _table("hotel_rates", "avg_price_per_room", 1000),
        {**TABLE, "optimizer": "lion", "learning_rate": 2e-4, "b2": 0.99},
        {"batch_size": 4},
    ),
    Fresh(
        "stackoverflow",
        "no_problem",
        "salaries, noisy by nature, a small rate: nothing is wrong",
        _table("stackoverflow", "Salary", 1000),
        {**TABLE, "optimizer": "adamw", "learning_rate": 3e-4},
        num_epochs=30,
    ),
    Fresh(
        "windsor-lots",
        "outliers",
        "four training rows have a value of hundreds in a standardised column: those rows",
        _table("windsor_houses", "lotsize", 546, outlying=4),
        {**TABLE, "optimizer": "adamw", "learning_rate": 1e-3},
        spoil=True,
    ),
    Fresh(
        "diabetes-module",
        "outliers",
        "four targets of 55 to 90 standard deviations, some validate: those rows",
        _diabetes,
        ADAM,
        spoil=True,
    ),
    Fresh(
        "classes-module",
        "bad_scale",
        "inputs of a standard deviation of 250: standardise them",
        _classes,
        {"learning_rate": 0.01},
        spoil=True,
    ),
    Fresh(
        "friedman-module",
        "evaluation_noise",
        "14 validation rows: validate on more",
        _friedman,
        ADAM,
        spoil=True,
    ),
    Fresh(
        "cnn-sgd",
        "no_problem",
        "momentum at a usual rate on digits: nothing is wrong",
        _images(lambda h: optax.sgd(h["learning_rate"], momentum=0.9)),
        {"learning_rate": 0.01},
        num_epochs=30,
    ),
    Fresh(
        "cnn-lion",
        "learning_rate_too_high",
        "Lion at 30 times a usual rate: lower it",
        _images(lambda h: optax.lion(h["learning_rate"], b2=h["b2"])),
        {"learning_rate": 2e-4, "b2": 0.99},
        {"learning_rate": 6e-3},
        num_epochs=30,
    ),
    Fresh(
        "gru-fading",
        "no_problem",
        "AdamW at a usual rate: nothing is wrong",
        _series,
        ADAM,
        num_epochs=30,
    ),
    Fresh(
        "deliveries-module",
        "learns_nothing",
        "Adam at a thousandth of a usual rate: it learns nothing, raise the rate",
        _deliveries,
        ADAM,
        {"learning_rate": 1e-6},
    ),
    Fresh(
        "moons-module",
        "no_problem",
        "a tenth of the labels wrong, RMSprop at a small rate: nothing is wrong",
        _moons,
        {"learning_rate": 5e-4, "b2": 0.99},
        num_epochs=30,
    ),
]
