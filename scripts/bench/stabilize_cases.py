"""Cases with a known cause: a healthy configuration, and the one thing that breaks it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_lab import datasets
from jaxopt_lab import problems as tasks
from jaxopt_lab.problems.mlp.data import classification, regression
from jaxopt_lab.problems.mlp.recurrent import make_rnn
from jaxopt_lab.problems.mlp.rows import RowsTask

#: Where the tables and `.ts` files are.
DATA = Path("../shared/data")


@dataclass(frozen=True)
class Problem:
    """A task and the configuration that trains well on it.

    Attributes:
      make: number of training rows (None: all), number of validation rows -> task.
      hparams: healthy.
      epochs: of each training.
    """

    make: Callable[[int | None, int | None], RowsTask]
    hparams: Mapping[str, Any]
    epochs: int


@dataclass(frozen=True)
class Case:
    """A problem broken in one way; `cause` is "no_problem" for the healthy one.

    Attributes:
      problem: key of `PROBLEMS`.
      cause: what must be found; of two, joined with "+", either.
      half: "setting" if thresholds were set on it, else "reporting".
      changes: hyperparameters that break it.
      train_rows: fewer rows to train on.
      valid_rows: fewer rows to validate on.
      epochs: more of them, where there are fewer rows.
      spoil: what breaks the rows.
    """

    problem: str
    cause: str
    half: str = "reporting"
    changes: Mapping[str, Any] = field(default_factory=dict)
    train_rows: int | None = None
    valid_rows: int | None = None
    epochs: int | None = None
    spoil: Callable[[RowsTask], RowsTask] | None = None

    @property
    def name(self) -> str:
        """`problem/cause`."""
        return f"{self.problem}/{self.cause}"

    def healthy(self) -> "Case":
        """The same problem unbroken."""
        return Case(self.problem, "no_problem")

    def task(self) -> RowsTask:
        """Rows and loss."""
        task = PROBLEMS[self.problem].make(self.train_rows, self.valid_rows)
        return task if self.spoil is None else self.spoil(task)

    @property
    def hparams(self) -> dict[str, Any]:
        """Configuration."""
        return {**PROBLEMS[self.problem].hparams, **self.changes}

    @property
    def num_epochs(self) -> int:
        """Of each training."""
        return self.epochs or PROBLEMS[self.problem].epochs


def split(
    inputs: np.ndarray,
    targets: np.ndarray,
    train_rows: int | None,
    valid_rows: int | None,
    **options: Any,
) -> RowsTask:
    """A random fifth validates; rows beyond the given numbers are left out."""
    order = np.random.default_rng(0).permutation(len(inputs))
    num_valid = len(order) // 5
    valid, train = order[:num_valid][:valid_rows], order[num_valid:][:train_rows]
    rows = np.concatenate([valid, train])
    return RowsTask(inputs[rows], targets[rows], valid_rows=np.arange(len(valid)), **options)


@cache
def table_rows(name: str, target: str, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A table encoded as `jaxopt-lab tune` encodes it."""
    source = "lucas_houses" if name == "lucas" else str(DATA / f"{name}.csv.gz")
    table = datasets.load_table(source, target=target)
    rows = np.random.default_rng(1).permutation(len(table))[:num_rows]
    arrays = tasks.tabular(table.take(rows), numeric="standard").fold_arrays(0)
    return arrays.inputs[0], arrays.targets[0]


def table(name: str, target: str, num_rows: int) -> Callable[..., RowsTask]:
    """A table as a problem."""

    def make(train_rows: int | None, valid_rows: int | None) -> RowsTask:
        inputs, targets = table_rows(name, target, num_rows)
        return split(inputs, targets, train_rows, valid_rows, criterion=regression())

    return make


def friedman(train_rows: int | None, valid_rows: int | None) -> RowsTask:
    """A made-up table: Friedman's first function with noise, standardised."""
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(2000, 10, noise=1.0, random_state=0)
    targets = (targets - targets.mean()) / targets.std()
    inputs = 2 * inputs - 1
    return split(inputs, targets, train_rows, valid_rows, criterion=regression())


def digits(train_rows: int | None, valid_rows: int | None) -> RowsTask:
    """Images of digits, 8 x 8."""
    from sklearn.datasets import load_digits

    inputs, targets = load_digits(return_X_y=True)
    inputs = (inputs - 8.0) / 8.0
    return split(inputs, targets, train_rows, valid_rows, criterion=classification(10))


def vowels(cell: str, length: int | None = None) -> Callable[..., RowsTask]:
    """Nine speakers by their vowels; padded to `length` with silence in front."""

    def make(train_rows: int | None, valid_rows: int | None) -> RowsTask:
        series, labels = [], []
        for part in ("train", "test"):
            more, names = datasets.load_ts(DATA / f"japanese_vowels_{part}.ts.gz")
            series += more
            labels += names
        inputs = datasets.pad(series)
        if length:
            inputs = np.pad(inputs, [(0, 0), (length, 0), (0, 0)])
            inputs[:, :length, -1] = 1.0
        codes, names = datasets.as_classes(labels)
        criterion = classification(len(names))
        model = make_rnn(cell)
        return split(inputs, codes, train_rows, valid_rows, criterion=criterion, make_model=model)

    return make


def adding(cell: str, length: int, num: int = 1500) -> Callable[..., RowsTask]:
    """The adding problem, target standardised."""

    def make(train_rows: int | None, valid_rows: int | None) -> RowsTask:
        inputs, targets = datasets.adding_problem(num, length, seed=0)
        targets = (targets - 1.0) * np.float32(6**0.5)
        model = make_rnn(cell)
        return split(
            inputs, targets, train_rows, valid_rows, criterion=regression(), make_model=model
        )

    return make


def clusters(train_rows: int | None, valid_rows: int | None) -> RowsTask:
    """A made-up table of four classes, a tenth of the labels wrong."""
    from sklearn.datasets import make_classification

    inputs, targets = make_classification(
        3000,
        20,
        n_informative=8,
        n_redundant=0,
        n_classes=4,
        n_clusters_per_class=2,
        flip_y=0.1,
        random_state=0,
    )
    inputs = ((inputs - inputs.mean(0)) / inputs.std(0)).astype(np.float32)
    return split(inputs, targets, train_rows, valid_rows, criterion=classification(4))


def cancer(train_rows: int | None, valid_rows: int | None) -> RowsTask:
    """Breast cancer in Wisconsin: 569 rows, two classes that can be told apart."""
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    inputs = ((inputs - inputs.mean(0)) / inputs.std(0)).astype(np.float32)
    return split(inputs, targets, train_rows, valid_rows, criterion=classification(2))


MLP = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "num_layers": 2,
    "hidden_size": 32,
    "activation": "relu",
    "l2": 0.01,
}
#: Without a penalty, gradients nearly vanish once the classes are told apart: a second moment with
#: a short memory then forgets how large they were.
FAST = {**MLP, "learning_rate": 6e-3, "batch_size": 128, "l2": 0.0}
RECURRENT = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "num_layers": 1,
    "hidden_size": 24,
    "l2": 0.01,
    "clip_norm": 1.0,
}
#: Plain gradient steps feel every exploding gradient in full.
PLAIN = {
    "optimizer": "momentum",
    "learning_rate": 5e-3,
    "batch_size": 32,
    "num_layers": 1,
    "hidden_size": 24,
    "clip_norm": 0.1,
}
PROBLEMS = {
    "concrete": Problem(table("concrete", "compressive_strength", 1030), MLP, 80),
    "lucas": Problem(table("lucas", "price", 3000), MLP, 80),
    "ames": Problem(table("ames", "Sale_Price", 2930), MLP, 80),
    "friedman": Problem(friedman, MLP, 80),
    "digits": Problem(digits, {**MLP, "l2": 3e-3}, 80),
    "clusters": Problem(clusters, MLP, 80),
    "cancer": Problem(cancer, MLP, 80),
    "vowels": Problem(vowels("gru"), RECURRENT, 80),
    "fast-digits": Problem(digits, FAST, 60),
    "fast-cancer": Problem(cancer, {**FAST, "l2": 3e-4}, 60),
    "fast-vowels": Problem(
        vowels("gru"), {**RECURRENT, "learning_rate": 1e-2, "batch_size": 32, "l2": 0.0}, 60
    ),
    "adding-40": Problem(adding("vanilla", 40), PLAIN, 40),
    "adding-60": Problem(adding("vanilla", 60), PLAIN, 40),
    "adding-50": Problem(adding("vanilla", 50), PLAIN, 40),
    "adding-36": Problem(adding("vanilla", 36), {**PLAIN, "hidden_size": 16}, 40),
    "padded-vowels": Problem(
        vowels("vanilla", 30),
        {**PLAIN, "learning_rate": 1e-2, "clip_norm": 0.3, "hidden_size": 16},
        40,
    ),
    "adding-45": Problem(adding("vanilla", 45), {**PLAIN, "hidden_size": 32}, 40),
    "late-vowels": Problem(
        vowels("vanilla", 50),
        {**PLAIN, "learning_rate": 1e-2, "clip_norm": 0.3, "hidden_size": 32},
        40,
    ),
    "long-vowels": Problem(
        vowels("vanilla", 40), {**PLAIN, "learning_rate": 1e-2, "clip_norm": 0.3}, 40
    ),
    "longer-vowels": Problem(
        vowels("vanilla", 60), {**PLAIN, "learning_rate": 1e-2, "clip_norm": 0.3}, 40
    ),
}
WIDE = {"changes": {"l2": 0.0, "hidden_size": 256, "batch_size": 32}, "epochs": 300}
#: A recurrent network is wide enough at 64.
UNPENALISED = {"changes": {"l2": 0.0, "hidden_size": 64, "batch_size": 32}, "epochs": 150}
FAST_RATE: dict[str, Any] = {"changes": {"learning_rate": 0.03}}
UNCLIPPED: dict[str, Any] = {"changes": {"clip_norm": math.inf}}
SMALL_BATCH: dict[str, Any] = {"changes": {"batch_size": 4}}
SHORT_MEMORY: dict[str, Any] = {"changes": {"b2": 0.9}}
FEW_VALID: dict[str, Any] = {"valid_rows": 20}
#: Tasks by cause: those on which thresholds were set, and those that report.
BROKEN: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "learning_rate_too_high": {
        "setting": {"concrete": FAST_RATE, "vowels": FAST_RATE},
        "reporting": {"digits": FAST_RATE, "lucas": FAST_RATE, "friedman": FAST_RATE},
    },
    "exploding_gradients": {
        "setting": {
            "adding-40": UNCLIPPED,
            "adding-45": UNCLIPPED,
            "adding-50": UNCLIPPED,
            "adding-60": UNCLIPPED,
            "long-vowels": UNCLIPPED,
            "longer-vowels": UNCLIPPED,
            "late-vowels": UNCLIPPED,
        },
        "reporting": {"adding-36": UNCLIPPED, "padded-vowels": UNCLIPPED},
    },
    "small_batch_noise": {
        "setting": {"concrete": SMALL_BATCH, "digits": SMALL_BATCH},
        "reporting": {"friedman": SMALL_BATCH, "cancer": SMALL_BATCH},
    },
    "second_moment_too_fast": {
        "setting": {"fast-digits": SHORT_MEMORY, "fast-cancer": SHORT_MEMORY},
        "reporting": {"fast-vowels": SHORT_MEMORY},
    },
    "overfitting": {
        "setting": {
            "clusters": {**WIDE, "train_rows": 200},
            "cancer": {**WIDE, "train_rows": 100},
        },
        "reporting": {
            "digits": {**WIDE, "train_rows": 200},
            "vowels": {**UNPENALISED, "train_rows": 100},
        },
    },
    "evaluation_noise": {
        "setting": {
            "lucas": FEW_VALID,
            "ames": FEW_VALID,
            "friedman": FEW_VALID,
            "digits": FEW_VALID,
        },
        "reporting": {"concrete": {"valid_rows": 10}},
    },
}
HEALTHY = ["concrete", "vowels", "digits", "lucas", "friedman", "ames", "clusters", "cancer"]


def _cases() -> list[Case]:
    found = [
        Case(problem, cause, half, **how)
        for cause, halves in BROKEN.items()
        for half, broken in halves.items()
        for problem, how in broken.items()
    ]
    for i, problem in enumerate(HEALTHY):
        half = "setting" if i < len(HEALTHY) / 2 else "reporting"
        found.append(Case(problem, "no_problem", half))
    return sorted(found, key=lambda case: case.half == "reporting")


CASES = _cases()
#: One case per cause, in about ten minutes.
QUICK = {
    "concrete/learning_rate_too_high",
    "adding-40/exploding_gradients",
    "digits/small_batch_noise",
    "fast-cancer/second_moment_too_fast",
    "clusters/overfitting",
    "lucas/evaluation_noise",
    "concrete/no_problem",
}
