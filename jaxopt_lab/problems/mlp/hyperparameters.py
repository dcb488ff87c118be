"""The hyperparameters that a trial can have: meaning, default, hard limits, static or dynamic.

A *static* hyperparameter fixes a shape or a code path, so trials that differ in it need
different programs. All others are *dynamic*: traced scalars that never recompile.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter, ne
from typing import Any, Literal

import numpy as np

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.scalars import scalar
from jaxopt_lab.core.synonyms import fold

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lion")
#: Optimizers that keep a running mean or sum of gradients, and one of their squares.
FIRST_MOMENT = ("momentum", "nesterov", "adam", "adamw", "lion")
SECOND_MOMENT = ("adam", "adamw", "rmsprop")
#: Optimizers that one formula covers; lion's needs the old moment.
MERGEABLE = tuple(name for name in OPTIMIZERS if name != "lion")
ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "sigmoid")
SCHEDULES = (
    "constant",
    "cosine",
    "exponential",
    "step",
    "linear",
    "one_cycle",
    "inverse_sqrt",
    "reduce_on_plateau",
)
INITIALIZATIONS = (
    "auto",
    "he_normal",
    "he_uniform",
    "xavier_normal",
    "xavier_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
)
#: How members of a network differ besides their heads; see `members`.
ENSEMBLE_FORMS = ("mini", "full", "late")
OFF = math.inf
#: Of classes: the validation loss after the temperature that makes it least.
CALIBRATED_LOSS = "calibrated_loss"
PRECISIONS = ("float32", "bfloat16")
#: What early stopping goes by.
MONITORS = ("loss", CALIBRATED_LOSS)
#: Static hyperparameters that a program can also take as traced values: by padding, by masks, by
#: coefficients.
TRACED_STATIC = ("num_layers", "hidden_size", "activation", "optimizer")


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter.

    Attributes:
      default: the value of a trial whose search space does not name it.
      doc: what it is, with its unit.
      low: least value allowed (`exclusive_low`: must be above it).
      high: greatest value allowed (`exclusive_high`: must be below it).
      choices: the values of a category; its traced code is the index here.
      static: whether it fixes a shape or a code path.
      feature_off: a dynamic value that switches a feature off. A study in which no trial can
        have another value compiles without the feature.
    """

    default: Any
    doc: str
    low: int | float = -math.inf
    high: int | float = math.inf
    exclusive_low: bool = False
    exclusive_high: bool = False
    choices: tuple[Any, ...] = ()
    static: bool = False
    feature_off: float | None = None

    @cached_property
    def kind(self) -> Literal["category", "bool", "int", "float"]:
        """The type of its values."""
        if self.choices:
            return "category"
        if isinstance(self.default, bool):
            return "bool"
        return "int" if isinstance(self.default, int) else "float"


def _real(default: float, doc: str, low: float, high: float, **kwargs: Any) -> Hyperparameter:
    return Hyperparameter(float(default), doc, low, high, **kwargs)


REGISTRY: dict[str, Hyperparameter] = {
    "learning_rate": _real(1e-3, "peak learning rate", 0.0, math.inf),
    "optimizer": Hyperparameter("adamw", "update rule", choices=OPTIMIZERS, static=True),
    "momentum": _real(0.9, "of momentum and nesterov", 0.0, 1.0, exclusive_high=True),
    "b1": _real(0.9, "first-moment decay of adam, adamw, lion", 0.0, 1.0, exclusive_high=True),
    "b2": _real(
        0.999, "second-moment decay of adam, adamw, rmsprop, lion", 0.0, 1.0, exclusive_high=True
    ),
    "eps": _real(1e-8, "of adam, adamw, rmsprop", 0.0, 1.0, exclusive_low=True),
    "weight_decay": _real(
        0.0,
        "decoupled decay, times the learning rate; not for adam",
        0.0,
        math.inf,
        feature_off=0.0,
    ),
    "l1": _real(0.0, "penalty l1 * sum |w|", 0.0, math.inf, feature_off=0.0),
    "l2": _real(
        0.0, "penalty l2 / 2 * sum w^2 (Keras' l2 times 2)", 0.0, math.inf, feature_off=0.0
    ),
    "penalize_biases": Hyperparameter(
        False, "whether weight_decay, l1 and l2 act on biases too", static=True
    ),
    "clip_value": _real(
        OFF,
        "each gradient entry is clipped to ±this",
        0.0,
        OFF,
        exclusive_low=True,
        feature_off=OFF,
    ),
    "clip_norm": _real(
        OFF,
        "global gradient norm is clipped to this",
        0.0,
        OFF,
        exclusive_low=True,
        feature_off=OFF,
    ),
    "agc": _real(
        OFF,
        "gradient norm of a unit is clipped to this share of its weights' (arXiv:2102.06171)",
        0.0,
        OFF,
        exclusive_low=True,
        feature_off=OFF,
    ),
    "adagc": _real(
        OFF,
        "gradient norm of a tensor is clipped to this multiple of its own mean (arXiv:2502.11034)",
        0.0,
        OFF,
        exclusive_low=True,
        feature_off=OFF,
    ),
    "schedule": Hyperparameter("constant", "shape of the learning rate", choices=SCHEDULES),
    "warmup_fraction": _real(
        0.0,
        "linear warm-up, share of all steps",
        0.0,
        1.0,
        exclusive_high=True,
        feature_off=0.0,
    ),
    "final_fraction": _real(
        0.01, "last rate / peak rate of cosine, linear, exponential, one_cycle", 0.0, 1.0
    ),
    "decay_factor": _real(0.5, "of step: multiplier at each drop", 0.0, 1.0, exclusive_low=True),
    "decay_every": _real(
        0.25,
        "of step: share of the steps after warm-up between drops",
        0.0,
        1.0,
        exclusive_low=True,
    ),
    "peak_fraction": _real(
        0.3,
        "of one_cycle: share of the steps before the peak",
        0.0,
        1.0,
        exclusive_low=True,
        exclusive_high=True,
    ),
    "plateau_factor": _real(
        0.2, "reduce_on_plateau multiplies the rate by this", 0.0, 1.0, exclusive_high=True
    ),
    "plateau_patience": Hyperparameter(5, "epochs without improvement before it does", 1, 10**6),
    "plateau_cooldown": Hyperparameter(0, "epochs after a reduction that do not count", 0, 10**6),
    "plateau_floor": _real(0.01, "least multiplier it leaves; 0 where min_lr is given", 0.0, 1.0),
    "min_lr": _real(0.0, "least learning rate that reduce_on_plateau leaves", 0.0, math.inf),
    "plateau_min_delta": _real(1e-4, "least improvement of the validation loss", 0.0, math.inf),
    "batch_size": Hyperparameter(32, "rows per step", 1, 2**20, static=True),
    "num_layers": Hyperparameter(3, "hidden layers", 1, 128, static=True),
    "hidden_size": Hyperparameter(64, "neurons per hidden layer", 1, 2**16, static=True),
    "dropout": _real(
        0.0, "share of hidden units dropped", 0.0, 1.0, exclusive_high=True, feature_off=0.0
    ),
    "initialization": Hyperparameter(
        "auto",
        "of the kernels; auto: he_normal for relu, gelu, silu, xavier_normal for tanh, sigmoid",
        choices=INITIALIZATIONS,
    ),
    "activation": Hyperparameter("relu", "of the hidden layers", choices=ACTIVATIONS, static=True),
    "ema": Hyperparameter(False, "evaluate exponentially averaged weights", static=True),
    "ema_decay": _real(
        0.99, "decay per step of the averaged weights", 0.0, 1.0, exclusive_high=True
    ),
    "early_stopping": Hyperparameter(
        False, "stop after patience epochs without improvement; keep the best weights", static=True
    ),
    "early_stopping_patience": Hyperparameter(10, "epochs", 1, 10**6),
    "early_stopping_monitor": Hyperparameter(
        "loss",
        "what tells the best epoch: the validation loss, or of classes its least at any "
        "temperature from 1 on (arXiv:2501.19195)",
        choices=MONITORS,
        static=True,
    ),
    "precision": Hyperparameter(
        "float32",
        "of the hidden layers' arithmetic in training; weights, loss and updates are float32",
        choices=PRECISIONS,
        static=True,
    ),
    "ensemble_size": Hyperparameter(
        1, "members that share the kernels and predict together (TabM)", 1, 256, static=True
    ),
    "ensemble_form": Hyperparameter(
        "mini",
        "what members have of their own besides their heads; mini: an adapter of the inputs, full: "
        "adapters and biases of every layer, late: an adapter behind the first layer",
        choices=ENSEMBLE_FORMS,
        static=True,
    ),
}


_EPOCHS = "all trials train for as long; give --epochs, in Python num_epochs"
_SEED = "it is the study's; give --seed, in Python seed"
#: What is set elsewhere, and where.
NO_HYPERPARAMETERS = {
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "max_epochs", "max_iter"), _EPOCHS),
    **dict.fromkeys(("seed", "random_state", "random_seed"), _SEED),
}
#: How the words of other libraries differ in what they measure.
REMARKS = {
    "min_scale": " min_lr is the same as a rate.",
    "warmup_steps": " It is a share of all steps.",
    "warmup_epochs": " It is a share of all steps.",
    "end_value": " It is a share of learning_rate.",
    "kernel_regularizer": " The penalty is l2 / 2 * sum w^2, Keras' l2 times 2.",
    "hidden_layer_sizes": " All hidden layers are as wide; num_layers says how many there are.",
    "patience": " Or 'early_stopping_patience'.",
}


def check_value(name: str, value: Any) -> Any:
    """Check one value of a hyperparameter against its type and hard limits.

    Args:
      name: a key of `REGISTRY`.
      value: what the user gave.

    Returns:
      The value as the Python type of the hyperparameter.

    Raises:
      UserError: naming the value and what would be right.
    """
    value = scalar(value)
    # A large search gives the same few words and whole numbers again and again.
    check = _check_once if type(value) in (str, int, bool) else _check
    return check(name, value)


def _check(name: str, value: Any) -> Any:
    spec = lookup(name)
    if type(value) is float and spec.kind == "float" and spec.low < value < spec.high:
        return value
    if spec.kind == "category":
        if value not in spec.choices:
            hint = did_you_mean(str(value), spec.choices)
            raise UserError(
                f"{name}: unknown value {value!r}.{hint} Choose from: {', '.join(spec.choices)}"
            )
        return value
    if spec.kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"{name} must be true or false, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name} must be a number, got {value!r}")
    if spec.kind == "int" and not float(value).is_integer():
        raise UserError(f"{name} must be a whole number, got {value!r}")
    below = value <= spec.low if spec.exclusive_low else value < spec.low
    above = value >= spec.high if spec.exclusive_high else value > spec.high
    if math.isnan(value) or below or above:
        left, right = "(" if spec.exclusive_low else "[", ")" if spec.exclusive_high else "]"
        raise UserError(f"{name} = {value:g} is outside {left}{spec.low:g}, {spec.high:g}{right}")
    return int(value) if spec.kind == "int" else float(value)


_check_once = lru_cache(1024, typed=True)(_check)


def check_values(values: Mapping[str, Iterable[Any]]) -> None:
    """Check hyperparameter -> values, such as `SearchSpace.extremes` gives them.

    Raises:
      UserError: naming the hyperparameter and what would be right.
    """
    for name, some in values.items():
        for value in some:
            check_value(name, value)


def lookup(name: str) -> Hyperparameter:
    """Return the entry of `REGISTRY`, or raise `UserError` with the nearest name."""
    if name not in REGISTRY:
        word = fold(str(name))
        if word in NO_HYPERPARAMETERS:
            raise UserError(f"{name!r} is no hyperparameter: {NO_HYPERPARAMETERS[word]}")
        hint = did_you_mean(name, REGISTRY) + REMARKS.get(word, "")
        raise UserError(
            f"unknown hyperparameter {name!r}.{hint} Known: {', '.join(sorted(REGISTRY))}"
        )
    return REGISTRY[name]


def is_changeable(name: str) -> bool:
    """Whether another value of a hyperparameter makes sense to a network that is half trained."""
    return not lookup(name).static and name != "initialization"


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in defaults and check every value, so that all trials have the same keys."""
    given = {}
    for name, value in config.items():
        # Most of the values of a large search, without a call.
        low, high = _INSIDE.get(name, _NOWHERE)
        is_inside = type(value) is float and low < value < high
        given[name] = value if is_inside else check_value(name, value)
    # Whoever gives the floor as a rate does not want another one beside it.
    share = {"plateau_floor": 0.0} if "min_lr" in given else {}
    return {**_DEFAULTS, **share, **given}


_DEFAULTS = {name: spec.default for name, spec in REGISTRY.items()}
#: Between these every float is a value of a hyperparameter.
_INSIDE = {name: (s.low, s.high) for name, s in REGISTRY.items() if s.kind == "float"}
_NOWHERE = (math.inf, math.inf)


def num_moments(optimizers: Iterable[str]) -> int:
    """How many moments a program of these optimizers keeps, each as large as the weights."""
    names = set(optimizers)
    return sum(bool(names & set(kind)) for kind in (FIRST_MOMENT, SECOND_MOMENT))


def features_of(values: Mapping[str, Iterable[Any]]) -> frozenset[str]:
    """Name the optional features that a study needs in its programs.

    Args:
      values: hyperparameter -> values it can take (for a range, its two ends suffice).

    Returns:
      Names out of: each hyperparameter with a `feature_off` value, the schedules other than
      `constant`, `orthogonal`. A feature that is absent costs nothing in the compiled program.
    """
    defaults = {name: [spec.default] for name, spec in REGISTRY.items()}
    pairs = ((name, value) for name, some in {**defaults, **values}.items() for value in some)
    return frozenset(filter(None, (_feature(name, value) for name, value in pairs)))


def features_on(config: Mapping[str, Any]) -> frozenset[str]:
    """`features_of` the values of one complete configuration."""
    on = [name for name, off in _FEATURES_OFF.items() if config[name] != off]
    names = (_feature(name, config[name]) for name in ("schedule", "initialization"))
    return frozenset([*on, *filter(None, names)])


def features_key(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for complete configurations with the same features, and quick."""
    return (*map(ne, _switches(config), _FEATURES_OFF.values()), *_kinds(config))


_FEATURES_OFF = {n: s.feature_off for n, s in REGISTRY.items() if s.feature_off is not None}
_switches, _kinds = itemgetter(*_FEATURES_OFF), itemgetter("schedule", "initialization")


def _feature(name: str, value: Any) -> str | None:
    """The feature that one value switches on."""
    if name in _FEATURES_OFF:
        return name if value != _FEATURES_OFF[name] else None
    if name == "schedule":
        return value if value != "constant" else None
    return "orthogonal" if name == "initialization" and value == "orthogonal" else None


def traced(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn the dynamic hyperparameters of a complete configuration into arrays.

    Returns:
      name -> float32 or int32 scalar; a category becomes its index in `choices`. Besides the
      dynamic ones, depth, width, activation and optimizer, which a program for several reads.
    """
    return {name: row.reshape(()) for name, row in traced_rows([config]).items()}


def traced_rows(configs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The same of n configurations: name -> [n]."""
    # Whole tables of plain values become arrays in one call.
    reals = np.array([_reals(config) for config in configs]).astype(np.float32)
    wholes = np.array([_wholes(config) for config in configs]).astype(np.int32)
    out = dict(zip(_REALS, reals.T, strict=True)) | dict(zip(_WHOLES, wholes.T, strict=True))
    for name, codes in _CODES.items():
        out[name] = np.array([codes[config[name]] for config in configs], np.int32)
    return {name: out[name] for name in _TRACED}


_TRACED = {n: s for n, s in REGISTRY.items() if not s.static or n in TRACED_STATIC}
_REALS = [name for name, spec in _TRACED.items() if spec.kind == "float"]
_WHOLES = [name for name, spec in _TRACED.items() if spec.kind in ("int", "bool")]
_reals, _wholes = itemgetter(*_REALS), itemgetter(*_WHOLES)
#: Category -> its values' indices.
_CODES = {
    name: {value: code for code, value in enumerate(spec.choices)}
    for name, spec in _TRACED.items()
    if spec.kind == "category"
}
