"""Cases that no rule has seen: other data, networks of one's own, every optimizer.

What a person would say was written down with each before it ran. Each ran once on the rules that
`results/stabilize_newer_cpu.jsonl` names beside it; the first twelve taught some of those that the
second twelve, from `meats` on, were run on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lab as lab
from bench import stabilize_cases
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
#: Hyperparameters -> a chain of Optax.
Chain = Callable[[Any], Any]


def _adam(hparams: Any) -> Any:
    return optax.adam(hparams["learning_rate"], b2=hparams["b2"])


def _momentum(hparams: Any) -> Any:
    return optax.sgd(hparams["learning_rate"], momentum=0.9)


def _rmsprop(hparams: Any) -> Any:
    return optax.rmsprop(hparams["learning_rate"], decay=hparams["b2"])


def _lion(hparams: Any) -> Any:
    return optax.lion(hparams["learning_rate"], b2=hparams["b2"])


def _module(
    inputs: np.ndarray,
    targets: np.ndarray,
    chain: Chain = _adam,
    network: Callable[[], nn.Module] = Mlp,
    **options: Any,
) -> Any:
    """Numbers are regressed with squared errors, whole numbers are classes; batches of 32."""
    loss = SOFTMAX if targets.dtype.kind == "i" else optax.squared_error
    return lab.supervised(
        network, (inputs, targets), loss=loss, optimizer=chain, batch_size=32, **options
    )


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
    return _module(_standard(inputs), targets)


def _classes(spoilt: bool) -> Any:
    from sklearn.datasets import make_classification

    inputs, targets = make_classification(
        1200, 12, n_informative=6, n_classes=3, flip_y=0.03, random_state=5
    )
    inputs = _standard(inputs) * np.float32(250.0 if spoilt else 1.0)
    return _module(inputs, targets.astype(np.int32), _momentum, lambda: Mlp(3))


def _friedman(spoilt: bool) -> Any:
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(1300, 8, noise=2.0, random_state=9)
    valid = np.arange(14 if spoilt else 300)
    inputs = 2 * inputs.astype(np.float32) - 1
    return _module(inputs, _standard(targets), splits=[(np.arange(300, 1300), valid)])


def _images(chain: Chain) -> Callable[[bool], Any]:
    def make(spoilt: bool) -> Any:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (digits.images[..., None] / 8 - 1).astype(np.float32)[:1200]
        labels = digits.target[:1200].astype(np.int32)
        return _module(images, labels, chain, Cnn)

    return make


def _series(spoilt: bool) -> Any:
    rng = np.random.default_rng(41)
    steps = rng.normal(size=(900, 12, 2)).astype(np.float32)
    fading = 0.8 ** np.arange(12)[::-1]
    targets = (steps[..., 0] * fading).sum(1) + 0.5 * steps[:, -1, 1] + rng.normal(0, 0.3, 900)
    return _module(
        steps,
        _standard(targets),
        lambda hparams: optax.adamw(hparams["learning_rate"], b2=hparams["b2"]),
        Gru,
    )


def _deliveries(spoilt: bool) -> Any:
    task = file("deliveries", "time_to_delivery", 1000)(None, None)
    train = np.setdiff1d(np.arange(len(task.inputs)), task.valid_rows)
    return _module(task.inputs, task.targets, splits=[(train, np.asarray(task.valid_rows))])


def _moons(spoilt: bool) -> Any:
    from sklearn.datasets import make_moons

    inputs, targets = make_moons(1200, noise=0.35, random_state=3)
    flipped = np.random.default_rng(3).random(1200) < 0.1
    targets = np.where(flipped, 1 - targets, targets).astype(np.int32)
    return _module(inputs.astype(np.float32), targets, _rmsprop, lambda: Mlp(2))


def _front_door(name: str, target: str, rows: int) -> Callable[[bool], Any]:
    """A table as the command line lays it out."""

    def make(spoilt: bool) -> Any:
        path = stabilize_cases.DATA / "tables" / f"{name}.csv.gz"
        table = lab.datasets.load_table(str(path), target=target)
        chosen = np.random.default_rng(7).permutation(len(table))[:rows]
        return lab.tasks.tabular(table.take(np.sort(chosen)))

    return make


def _riders(spoilt: bool) -> RowsTask:
    task = file("chicago", "ridership", 1000)(None, None)
    if not spoilt:
        return task
    targets = task.targets.copy()
    train = np.setdiff1d(np.arange(len(targets)), task.valid_rows)
    targets[train[[20, 200, 500]]] = [60.0, -45.0, 80.0]
    return replace(task, targets=targets)


def _impedance(spoilt: bool) -> Any:
    from sklearn.datasets import make_friedman2

    inputs, targets = make_friedman2(1000, noise=100.0, random_state=21)
    return _module(_standard(inputs), _standard(targets), _momentum)


def _frequency(spoilt: bool) -> Any:
    rng = np.random.default_rng(77)
    frequency = rng.uniform(0.2, 1.2, 800)
    phase = rng.uniform(0, 2 * np.pi, (800, 1)) + np.arange(16) * frequency[:, None]
    waves = (np.sin(phase) + rng.normal(0, 0.2, phase.shape))[..., None].astype(np.float32)
    return _module(waves, _standard(frequency), _rmsprop, Gru)


def _steps(spoilt: bool) -> Any:
    """A unit is 25 updates of plain gradient descent on draws of noisy rows."""
    rng = np.random.default_rng(13)
    inputs = jnp.asarray(rng.normal(size=(1500, 6)), jnp.float32)
    signal = np.sin(inputs[:, 0]) + 0.5 * inputs[:, 1] * inputs[:, 2]
    targets = jnp.asarray(_standard(np.asarray(signal) + rng.normal(0, 0.4, 1500)))
    train, valid, network = slice(0, 1000), slice(1000, 1500), Mlp()

    def loss(params: Any, rows: Any) -> Any:
        outputs: Any = network.apply(params, inputs[rows])
        return jnp.mean((outputs - targets[rows]) ** 2)

    def build() -> lab.Trainable:
        def init(key: Any, hparams: Any) -> Any:
            start, later = jax.random.split(key)
            return network.init(start, inputs[:1]), jax.random.key_data(later)

        def step(state: Any, hparams: Any, shared: Any) -> Any:
            def update(_: Any, carry: Any) -> Any:
                params, key = carry
                key, draw = jax.random.split(key)
                rows = jax.random.randint(draw, (32,), train.start, train.stop)
                gradient = jax.grad(loss)(params, rows)
                rate = hparams.learning_rate
                return jax.tree.map(lambda p, g: p - rate * g, params, gradient), key

            params, key = state
            carry = params, jax.random.wrap_key_data(key)
            params, key = jax.lax.fori_loop(0, 25, update, carry)
            return (params, jax.random.key_data(key)), {}

        def evaluate(state: Any, hparams: Any, shared: Any) -> Any:
            return {"loss": loss(state[0], valid)}

        return lab.Trainable(init, step, evaluate)

    return lab.from_steps(build, objective="loss", num_seeds=1)


def _units_and_rows(spoilt: bool) -> Any:
    from sklearn.datasets import make_regression

    inputs, targets = make_regression(1000, 10, n_informative=6, noise=30.0, random_state=17)
    inputs, targets = _standard(inputs), _standard(targets)
    if spoilt:
        inputs = inputs * np.float32(300.0)
        targets[[33, 444, 777]] = [70.0, -90.0, 80.0]
    return _module(inputs, targets)


def _digits(spoilt: bool) -> Any:
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    pixels = (inputs[200:1400] / 8 - 1).astype(np.float32)
    return _module(pixels, labels[200:1400].astype(np.int32), _lion, lambda: Mlp(10))


def _tumours(spoilt: bool) -> Any:
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    wrong = np.random.default_rng(5).random(len(labels)) < 0.2
    labels = np.where(wrong, 1 - labels, labels).astype(np.int32)

    def chain(hparams: Any) -> Any:
        return optax.adamw(hparams["learning_rate"], b2=hparams["b2"], weight_decay=0.05)

    return _module(_standard(inputs), labels, chain, lambda: Mlp(2))


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
        _images(_momentum),
        {"learning_rate": 0.01},
        num_epochs=30,
    ),
    Fresh(
        "cnn-lion",
        "learning_rate_too_high",
        "Lion at 30 times a usual rate: lower it",
        _images(_lion),
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
    Fresh(
        "meats",
        "learning_rate_too_high",
        "Adam at 0.03, 30 times its usual rate: lower it",
        _front_door("meats", "fat", 215),
        {**TABLE, "optimizer": "adam", "learning_rate": 1e-3},
        {"learning_rate": 0.03},
    ),
    Fresh(
        "lending",
        "no_problem",
        "who pays back, noisy by nature, AdamW at a small rate: nothing is wrong",
        _front_door("lending_club", "Class", 1200),
        {**TABLE, "optimizer": "adamw", "learning_rate": 3e-4},
        num_epochs=30,
    ),
    Fresh(
        "tips",
        "small_batch_noise",
        "Adam with batches of 4 instead of 32: the batch is small",
        _front_door("taxi", "tip", 1000),
        {**TABLE, "optimizer": "adam", "learning_rate": 3e-4},
        {"batch_size": 4},
    ),
    Fresh(
        "riders",
        "outliers",
        "three training targets of 45 to 80 standard deviations: those rows",
        _riders,
        {**TABLE, "optimizer": "rmsprop", "learning_rate": 1e-3, "b2": 0.99},
        spoil=True,
    ),
    Fresh(
        "impedance-module",
        "no_problem",
        "momentum at a usual rate on a noisy formula: nothing is wrong",
        _impedance,
        {"learning_rate": 3e-3},
    ),
    Fresh(
        "gru-frequency",
        "no_problem",
        "RMSprop at a usual rate on noisy waves: nothing is wrong",
        _frequency,
        {"learning_rate": 5e-4, "b2": 0.99},
        num_epochs=30,
    ),
    Fresh(
        "steps-sgd",
        "no_problem",
        "plain SGD at a usual rate: nothing is wrong",
        _steps,
        {"learning_rate": 0.02},
        num_epochs=48,
    ),
    Fresh(
        "steps-sgd",
        "learning_rate_too_high",
        "plain SGD at 25 times its rate: lower it",
        _steps,
        {"learning_rate": 0.02},
        {"learning_rate": 0.5},
        num_epochs=48,
    ),
    Fresh(
        "windsor-both",
        "learning_rate_too_high+small_batch_noise",
        "AdamW at 20 times its rate with batches of 4: either",
        _front_door("windsor_houses", "price", 546),
        {**TABLE, "optimizer": "adamw", "learning_rate": 1e-3},
        {"learning_rate": 0.02, "batch_size": 4},
    ),
    Fresh(
        "units-and-rows-module",
        "bad_scale+outliers",
        "inputs of 300 standard deviations and three targets of 70 to 90: either",
        _units_and_rows,
        ADAM,
        spoil=True,
    ),
    Fresh(
        "digits-lion-module",
        "learning_rate_too_high",
        "Lion at 30 times its usual rate: lower it",
        _digits,
        {"learning_rate": 2e-4, "b2": 0.99},
        {"learning_rate": 6e-3},
        num_epochs=30,
    ),
    Fresh(
        "tumours-module",
        "no_problem",
        "a fifth of the labels wrong, AdamW with some decay: nothing is wrong",
        _tumours,
        {"learning_rate": 2e-4, "b2": 0.999},
        num_epochs=30,
    ),
]
