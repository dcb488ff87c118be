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

from jaxopt_lab.costs import Costs, Load
from jaxopt_lab.distributions import Choice, IntUniform
from jaxopt_lab.hyperparameters import (
    MERGEABLE,
    REGISTRY,
    features_of,
    features_on,
    num_moments,
)
from jaxopt_lab.plan import MAX_ACCELERATOR_WIDTH, default_width
from jaxopt_lab.signature import Signature
from jaxopt_lab.space import SearchSpace
from jaxopt_lab.types import Config

#: Ranges with more values than this are thinned for the estimate, and never compiled exactly.
MAX_VALUES = 16
#: Sizes to which those of a range are rounded up: at most so many, and multiples of this.
MAX_CLASSES, LANES = 6, 16
#: Smaller blocks of rows than this are not worth their fixed cost.
MIN_BLOCK = 8


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
      optimizers: computed by one formula; (): each its own program.
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
    optimizers: tuple[str, ...] = ()
    max_width: int = MAX_ACCELERATOR_WIDTH

    def signature(self, config: Config) -> Signature:
        """The program of a complete configuration; grows for one outside the space."""
        width = _least(self.widths, config["hidden_size"])
        depth = _least(self.depths, config["num_layers"])
        batch, kind, rule = config["batch_size"], config["activation"], config["optimizer"]
        merged = bool(self.block) and batch % self.block == 0
        found = Signature(
            optimizers=_with(self.optimizers, rule),
            activations=_with(self.activations, kind),
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
    together = tuple(name for name in values["optimizer"] if name in MERGEABLE)
    options = itertools.product(
        _classes(values["hidden_size"]),
        _classes(values["num_layers"]),
        [0] if len(values["batch_size"]) == 1 or unit < MIN_BLOCK else [0, unit],
        [()] if len(values["activation"]) == 1 else [(), tuple(values["activation"])],
        [()] if len(together) < 2 else [(), together],
    )
    found = [
        Programs(
            widths=widths,
            depths=depths,
            block=block,
            activations=activations,
            optimizers=optimizers,
            noise_rows=unit,
            draw_width=max(values["hidden_size"]),
            features=features_of(space.extremes()),
            masked_width=widths != tuple(sorted(set(values["hidden_size"]))),
            masked_depth=depths != tuple(sorted(set(values["num_layers"]))),
        )
        for widths, depths, block, activations, optimizers in options
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
    names = [_with(programs.optimizers, name) for name in values["optimizer"]]
    moments = sum(map(num_moments, names)) / len(names)
    seconds = [
        epoch_seconds(programs, load, costs, width, depth, batch, cohort_width, moments)
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
        optimizers=(),
    )
    return estimate(exact, values, load, costs, on_cpu)


def _num_kinds(programs: Programs, values: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
    """How many kinds of programs, and of cohorts, there can be."""
    shapes = len(programs.widths) * len(programs.depths)
    activations = {_with(programs.activations, name) for name in values["activation"]}
    optimizers = {_with(programs.optimizers, name) for name in values["optimizer"]}
    other = ("ema", "early_stopping", "penalize_biases", "precision")
    kinds = shapes * len(activations) * len(optimizers)
    kinds *= math.prod(len(values[name]) for name in other)
    batches = len(values["batch_size"])
    return kinds * (1 if programs.block else batches), kinds * batches


def _max_width(programs: Programs, values: Mapping[str, Sequence[Any]], load: Load) -> int:
    """The cohort width with which the last trials of a kind just fill one cohort per device."""
    groups = _expected_distinct(_num_kinds(programs, values)[1], load.last)
    # Less a hair: `groups` is rounded, and a power of two is enough for itself.
    return 2 ** max(0, math.ceil(math.log2(load.last / groups / load.num_devices) - 1e-9))


def epoch_seconds(
    programs: Programs,
    load: Load,
    costs: Costs,
    width: int,
    depth: int,
    batch: int,
    cohort_width: int = 1,
    moments: float = 2.0,
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
      moments: that the optimizer keeps.
    """
    width = _least(programs.widths, width)
    stored = count_weights(load.num_features, width, _least(programs.depths, depth))
    parameters = count_weights(load.num_features, width, depth)
    updates = math.ceil(load.num_rows / batch)
    blocks = math.ceil(load.num_rows / (programs.block or batch))
    extra = max(len(programs.activations) - 1, 0) * costs.activation_flops * width * depth
    arithmetic = load.num_rows * (6 * parameters + extra) / costs.flops
    traffic = updates * stored * (16 + 12 * moments) / costs.update_bytes
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
        if high - low < MAX_VALUES:
            return list(range(low, high + 1))
        return [dist.from_unit(i / (MAX_VALUES - 1)) for i in range(MAX_VALUES)]
    return list(dist.extremes)


def _classes(values: Sequence[int]) -> list[tuple[int, ...]]:
    """Ways to round sizes up: exactly, to powers of two, to a few sizes, to one."""
    ordered, exact, top = sorted(values), tuple(sorted(set(values))), max(values)
    thinned = len(values) >= MAX_VALUES
    doubling = {min(2 ** math.ceil(math.log2(v)), top) for v in values} | {top}
    found = [() if thinned else exact, tuple(sorted(doubling))]
    for number in range(2, min(len(exact), MAX_CLASSES) + 1):
        # As many sizes in each class; of a range, sizes that fill the vectors of a processor.
        sizes = [ordered[math.ceil(len(ordered) * i / number) - 1] for i in range(1, number + 1)]
        if thinned:
            sizes = [min(-(-size // LANES) * LANES, top) for size in sizes]
        found.append(tuple(sorted(set(sizes))))
    return [sizes for sizes in dict.fromkeys([*found, (top,)]) if sizes]


def _with(merged: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The names that share a program with this one."""
    return merged if name in merged else (name,)


def _least(sizes: Sequence[int], value: int) -> int:
    """The least of ascending sizes that holds a value; the value itself if none does."""
    return next((size for size in sizes if size >= value), value)
