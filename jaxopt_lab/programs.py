"""Which programs a study compiles: exact shapes, or a few padded ones that serve many.

Decided once, from the search space and constants, never from a clock or from the trials drawn.
A program costs seconds to compile; padding costs run time. `choose` takes the cheapest of all
combinations by that estimate.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxopt_lab.distributions import Choice, IntUniform
from jaxopt_lab.errors import UserError
from jaxopt_lab.hyperparameters import REGISTRY, features_of, features_on
from jaxopt_lab.plan import (
    ACCELERATOR_BYTES,
    CACHE_BYTES,
    MAX_ACCELERATOR_WIDTH,
    default_width,
)
from jaxopt_lab.signature import Signature
from jaxopt_lab.space import SearchSpace
from jaxopt_lab.types import Config

#: Ranges with more values than this are thinned for the estimate, and never compiled exactly.
MAX_VALUES = 16
#: Smaller blocks of rows than this are not worth their fixed cost.
MIN_BLOCK = 8


@dataclass(frozen=True)
class Costs:
    """What the choice of programs assumes of the machine.

    Attributes:
      compile_seconds: one program.
      per_layer_seconds: more for each hidden layer of it.
      flops: floating-point operations per second of one device.
      update_bytes: memory traffic per second of optimizer updates on one device.
      block_seconds: fixed cost of one block of one trial on one device.
      step_seconds: fixed cost of one block of a cohort on one device, however wide it is.
      activation_flops: per unit and row, for each further activation computed.
      cohort_bytes: what the weights, moments and gradients of a cohort may fill.
    """

    compile_seconds: float = 2.0
    per_layer_seconds: float = 0.35
    flops: float = 8e10
    update_bytes: float = 3e10
    block_seconds: float = 1e-7
    step_seconds: float = 3e-5
    activation_flops: float = 60.0
    cohort_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < math.inf:
                raise UserError(f"{name} of the costs must be a number above 0, got {value!r}")


#: What is assumed of a CPU (True), measured on two cores, or of an accelerator: what
#: `jaxopt-lab calibrate --quick` measured on one NVIDIA H100.
SHIPPED = {
    True: Costs(),
    False: Costs(
        compile_seconds=1.8,
        per_layer_seconds=0.5,
        flops=1.2e13,
        update_bytes=4.6e12,
        block_seconds=3e-10,
        step_seconds=3e-5,
        cohort_bytes=ACCELERATOR_BYTES,
    ),
}


@dataclass(frozen=True)
class Load:
    """How much a study will train.

    Attributes:
      num_trials: configurations.
      num_epochs: epochs of each network.
      num_folds: networks per configuration.
      num_rows: training rows of a network.
      num_features: columns of its input.
      num_devices: devices that share the work.
      num_last: configurations that train together at the end, where most of the work is done;
        all if None.
      num_outputs: of the networks.
      num_valid: validation rows of a network.
      data_bytes: of the data, of which every device holds a copy.
    """

    num_trials: int
    num_epochs: int
    num_folds: int
    num_rows: int
    num_features: int
    num_devices: int = 1
    num_last: int | None = None
    num_outputs: int = 1
    num_valid: int = 0
    data_bytes: int = 0

    @property
    def last(self) -> float:
        """Configurations that train together at the end."""
        return float(self.num_last or self.num_trials)


_SIGNATURES: dict[Signature, Signature] = {}


@dataclass(frozen=True)
class Programs:
    """The programs of a study: what each trial's shape is rounded up to.

    Attributes:
      widths: hidden sizes compiled, ascending; a trial takes the least that holds it.
      depths: numbers of layers compiled, likewise.
      block: rows per block; a batch size is a whole number of blocks. 0: each its own.
      activations: computed together and picked by each trial; (): each its own program.
      noise_rows: common divisor of all batch sizes.
      draw_width: the widest network.
      features: optional features of the study.
      masked_width: whether a trial can be narrower than its program.
      masked_depth: whether a trial can be shallower than its program.
      max_width: bound of the cohort width, so that the last trials still share devices.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    block: int
    activations: tuple[str, ...]
    noise_rows: int
    draw_width: int
    features: frozenset[str]
    masked_width: bool
    masked_depth: bool
    max_width: int = MAX_ACCELERATOR_WIDTH

    def signature(self, config: Config) -> Signature:
        """The program of a complete configuration; grows for one outside the space."""
        width = _least(self.widths, config["hidden_size"])
        depth = _least(self.depths, config["num_layers"])
        batch, kind = config["batch_size"], config["activation"]
        merged = bool(self.block) and batch % self.block == 0
        found = Signature(
            optimizer=config["optimizer"],
            activations=self.activations if kind in self.activations else (kind,),
            num_layers=depth,
            hidden_size=width,
            block=self.block if merged else batch,
            ema=config["ema"],
            early_stopping=config["early_stopping"],
            penalize_biases=config["penalize_biases"],
            features=self.features | features_on(config),
            draw_width=max(self.draw_width, width),
            noise_rows=math.gcd(self.noise_rows, batch),
            masked_depth=self.masked_depth or depth != config["num_layers"],
            masked_width=self.masked_width or width != config["hidden_size"],
            accumulate=merged,
            precision=config["precision"],
        )
        # One object for equal ones, which are keys everywhere: identical keys are not compared.
        return _SIGNATURES.setdefault(found, found)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` takes it back."""
        return {**asdict(self), "features": sorted(self.features)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Programs":
        """Read what `to_dict` wrote."""
        lists = {k: tuple(v) for k, v in data.items() if isinstance(v, list)}
        return cls(**{**data, **lists, "features": frozenset(data["features"])})


def choose(space: SearchSpace, load: Load, costs: Costs, on_cpu: bool = True) -> Programs:
    """Choose the programs of a study.

    Args:
      space: the study's space; its distributions are averaged over, not sampled.
      load: how much will be trained.
      costs: constants of the machine.
      on_cpu: for the cohort width.

    Returns:
      The combination of merges with the least estimated seconds; exact shapes where that ties.
    """
    values = {name: _values(space, name) for name in REGISTRY}
    unit = math.gcd(*values["batch_size"])
    options = itertools.product(
        _classes(values["hidden_size"]),
        _classes(values["num_layers"]),
        [0] if len(values["batch_size"]) == 1 or unit < MIN_BLOCK else [0, unit],
        [()] if len(values["activation"]) == 1 else [(), tuple(values["activation"])],
    )
    found = [
        Programs(
            widths=widths,
            depths=depths,
            block=block,
            activations=activations,
            noise_rows=unit,
            draw_width=max(values["hidden_size"]),
            features=features_of(space.extremes()),
            masked_width=widths != tuple(sorted(values["hidden_size"])),
            masked_depth=depths != tuple(sorted(values["num_layers"])),
        )
        for widths, depths, block, activations in options
    ]
    found = [replace(p, max_width=_max_width(p, values, load)) for p in found]
    return min(found, key=lambda programs: estimate(programs, values, load, costs, on_cpu).total)


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a study in seconds, and the number of its programs."""

    num_programs: float
    compile_seconds: float
    run_seconds: float

    @property
    def total(self) -> float:
        """Compile and run seconds."""
        return self.compile_seconds + self.run_seconds


def estimate(
    programs: Programs, values: Mapping[str, Sequence[Any]], load: Load, costs: Costs, on_cpu: bool
) -> Estimate:
    """Expected cost of training `load` with these programs.

    Args:
      values: hyperparameter -> the values it can take, each as likely.
    """
    kinds, kinds_of_cohort = _num_kinds(programs, values)
    num_programs = _expected_distinct(kinds, float(load.num_trials))
    depth = sum(_least(programs.depths, d) for d in values["num_layers"]) / len(
        values["num_layers"]
    )
    compile_seconds = num_programs * (costs.compile_seconds + costs.per_layer_seconds * depth)
    parameters = count_weights(load.num_features, max(programs.widths), max(programs.depths))
    cohort_width = min(default_width(parameters, on_cpu, costs.cohort_bytes), programs.max_width)
    seconds = [
        epoch_seconds(programs, load, costs, width, depth, batch, cohort_width)
        for width in values["hidden_size"]
        for depth in values["num_layers"]
        for batch in values["batch_size"]
    ]
    mean = sum(seconds) / len(seconds) * load.num_epochs * load.num_folds
    # One fold at a time: half-empty cohorts and waves cost as much as full ones.
    jobs = load.last
    groups = _expected_distinct(kinds_of_cohort, jobs)
    cohorts = max(groups, jobs / cohort_width + groups / 2)
    kinds_met = _expected_distinct(kinds, jobs)
    waves = max(kinds_met, cohorts / load.num_devices + kinds_met / 2)
    # `mean` is the time of one network on one device; a wave takes that of a cohort of them.
    run_seconds = load.num_trials / jobs * waves * cohort_width * mean
    return Estimate(num_programs, compile_seconds, run_seconds)


def exact_estimate(
    space: SearchSpace, chosen: Programs, load: Load, costs: Costs, on_cpu: bool
) -> Estimate | None:
    """What `load` would cost with a program for every shape; None if they are too many."""
    values = {name: _values(space, name) for name in REGISTRY}
    if len(values["hidden_size"]) == MAX_VALUES or len(values["num_layers"]) == MAX_VALUES:
        return None
    exact = replace(
        chosen,
        widths=tuple(sorted(values["hidden_size"])),
        depths=tuple(sorted(values["num_layers"])),
        block=0,
        activations=(),
    )
    return estimate(exact, values, load, costs, on_cpu)


def _num_kinds(programs: Programs, values: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
    """How many kinds of programs, and of cohorts, there can be."""
    shapes = len(programs.widths) * len(programs.depths)
    activations = 1 if programs.activations else len(values["activation"])
    other = ("optimizer", "ema", "early_stopping", "penalize_biases", "precision")
    kinds = shapes * activations * math.prod(len(values[name]) for name in other)
    batches = len(values["batch_size"])
    return kinds * (1 if programs.block else batches), kinds * batches


def _max_width(programs: Programs, values: Mapping[str, Sequence[Any]], load: Load) -> int:
    """The cohort width with which the last trials of a kind just fill one cohort per device."""
    groups = _expected_distinct(_num_kinds(programs, values)[1], load.last)
    return 2 ** max(0, math.ceil(math.log2(load.last / groups / load.num_devices)))


def epoch_seconds(
    programs: Programs,
    load: Load,
    costs: Costs,
    width: int,
    depth: int,
    batch: int,
    cohort_width: int = 1,
) -> float:
    """One epoch of one network on one device: its share of the time of its cohort.

    Padded units cost arithmetic, skipped layers only memory.

    Args:
      programs: what is compiled.
      load: rows and columns.
      costs: of the device.
      width: neurons of the network.
      depth: layers of the network.
      batch: rows per update.
      cohort_width: networks that train together, V.
    """
    width = _least(programs.widths, width)
    stored = count_weights(load.num_features, width, _least(programs.depths, depth))
    parameters = count_weights(load.num_features, width, depth)
    updates = math.ceil(load.num_rows / batch)
    blocks = math.ceil(load.num_rows / (programs.block or batch))
    extra = max(len(programs.activations) - 1, 0) * costs.activation_flops * width * depth
    arithmetic = load.num_rows * (6 * parameters + extra) / costs.flops
    traffic = updates * stored * 40 / costs.update_bytes
    if programs.block:
        traffic += blocks * stored * 20 / costs.update_bytes
    return arithmetic + traffic + blocks * (costs.block_seconds + costs.step_seconds / cohort_width)


def count_weights(num_features: int, width: int, depth: int) -> int:
    """Weights of the hidden layers' kernels."""
    return num_features * width + (depth - 1) * width * width


def _expected_distinct(kinds: int, draws: float) -> float:
    """How many of `kinds` equally likely kinds occur among `draws`."""
    return kinds * -math.expm1(draws * math.log1p(-1 / kinds)) if kinds > 1 else 1.0


def _values(space: SearchSpace, name: str) -> list[Any]:
    """The values that a hyperparameter can take; a long range of integers is thinned."""
    if name in space.fixed:
        return [space.fixed[name]]
    dist = space.parameters.get(name)
    default = [REGISTRY[name].default]
    if dist is None:
        return default
    if isinstance(dist, Choice):
        return [
            *dist.ranked,
            *(default if dist.condition and default[0] not in dist.values else []),
        ]
    if isinstance(dist, IntUniform):
        low, high = int(dist.low), int(dist.high)
        everything = range(low, high + 1)
        if len(everything) <= MAX_VALUES:
            return list(everything)
        step = (len(everything) - 1) / (MAX_VALUES - 1)
        return [low + round(i * step) for i in range(MAX_VALUES)]
    return list(dist.extremes)


def _classes(values: Sequence[int]) -> list[tuple[int, ...]]:
    """Ways to round sizes up: exactly, to powers of two, to two sizes, to one."""
    exact, top = tuple(sorted(values)), max(values)
    doubling = {min(2 ** math.ceil(math.log2(v)), top) for v in values} | {top}
    middle = min((v for v in exact if v >= (exact[0] + top) / 2), default=top)
    found = [tuple(sorted(doubling)), tuple(sorted({middle, top})), (top,)]
    if len(exact) < MAX_VALUES:
        found.insert(0, exact)
    return list(dict.fromkeys(found))


def _least(sizes: Sequence[int], value: int) -> int:
    """The least of ascending sizes that holds a value; the value itself if none does."""
    return next((size for size in sizes if size >= value), value)
