"""Expected seconds of a study under some choice of programs: from constants, never a clock."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jaxopt_lab.core.cohorts import cheapest_width, default_width
from jaxopt_lab.planning.costs import (
    CROWDED,
    CROWDED_SHARE,
    MERGED_STEP,
    WAVE_SECONDS,
    Costs,
    Epoch,
    Load,
)
from jaxopt_lab.problems.mlp.hyperparameters import num_moments
from jaxopt_lab.problems.mlp.programs import Programs, least, sharing

#: Hyperparameter -> the values it can take, each as likely.
Values = Mapping[str, Sequence[Any]]


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


class Members(NamedTuple):
    """Members of a network, and how they differ."""

    size: int = 1
    form: str = "mini"


ALONE = Members()


class _Class(NamedTuple):
    """The trials whose width is rounded up to one of `Programs.widths`.

    Attributes:
      share: of all trials.
      kinds: programs that they can have.
      groups: kinds of cohorts that they can fill.
      largest: cohort width that the caches allow.
      roomy: cohort width up to which they hold all of it.
      per_network: mean seconds per epoch of a network, on one device.
      per_cohort: more for its cohort, however many networks that has.
    """

    share: float
    kinds: float
    groups: float
    largest: int
    roomy: float
    per_network: float
    per_cohort: float

    def seconds(self, width: int, load: Load) -> float:
        """All epochs of all of them, in cohorts of `width`."""
        slower = CROWDED if width > self.roomy else 1.0
        epoch = width * slower * self.per_network + self.per_cohort
        return sum(
            self._waves(number * self.share, width, load.num_devices)
            * (units * epoch + WAVE_SECONDS)
            for number, units in load.together
        )

    def _waves(self, jobs: float, width: int, num_devices: int) -> float:
        """Of trainings in lockstep.

        Half-empty cohorts and waves cost as much as full ones: of the last cohort of a kind
        (w - 1) / (2 w) is empty on average. Where all are of one kind, their number is known.
        """
        kinds, groups = _distinct(self.kinds, jobs), _distinct(self.groups, jobs)
        cohorts = jobs / width + groups * (width - 1) / (2 * width)
        waves = max(groups, cohorts) / num_devices + kinds * (num_devices - 1) / (2 * num_devices)
        if groups == 1:
            waves = math.ceil(math.ceil(jobs / width) / num_devices)
        return max(kinds, waves)

    def best_width(self, load: Load) -> int:
        """With the least seconds."""
        return cheapest_width(self.largest, lambda width: self.seconds(width, load))


def with_cohorts(
    programs: Programs, values: Values, load: Load, costs: Costs, on_cpu: bool
) -> Programs:
    """Bound the cohort width of each program to what takes the least time; see `estimate`."""
    classes = _classes(programs, values, load, costs, on_cpu)
    return replace(programs, max_cohorts=tuple(c.best_width(load) for c in classes))


def estimate(
    programs: Programs, values: Values, load: Load, costs: Costs, on_cpu: bool
) -> Estimate:
    """Expected cost of training `load` with these programs.

    Args:
      programs: with bounds of their cohort widths.
      values: of all hyperparameters.
      load: how much will be trained.
      costs: constants of the machine.
      on_cpu: for the cohort width.
    """
    num_programs = _distinct(float(_num_kinds(programs, values)[0]), float(load.num_trials))
    depths = [least(programs.depths, d) for d in values["num_layers"]]
    depth = sum(depths) / len(depths)
    compile_seconds = num_programs * (costs.compile_seconds + costs.per_layer_seconds * depth)
    classes = _classes(programs, values, load, costs, on_cpu)
    bounds = programs.max_cohorts or [c.largest for c in classes]
    run_seconds = sum(
        c.seconds(min(c.largest, bound), load) for c, bound in zip(classes, bounds, strict=True)
    )
    return Estimate(num_programs, compile_seconds, run_seconds)


def _classes(
    programs: Programs, values: Values, load: Load, costs: Costs, on_cpu: bool
) -> list[_Class]:
    """One for each of `programs.widths`."""
    kinds, groups = (number / len(programs.widths) for number in _num_kinds(programs, values))
    names = [sharing(programs.optimizers, name) for name in values["optimizer"]]
    moments = sum(map(num_moments, names)) / len(names)
    # An accelerator skips no layers.
    depths = [least(programs.depths, depth) for depth in values["num_layers"]]
    found = []
    for size in programs.widths:
        mine = [w for w in values["hidden_size"] if least(programs.widths, w) == size]
        parts = [
            epoch_seconds(programs, load, costs, width, depth, batch, moments, members)
            for width in mine
            for depth in (values["num_layers"] if on_cpu else depths)
            for batch in values["batch_size"]
            for members in _members(values)
        ]
        per_network, per_cohort = (sum(p) / len(parts) for p in zip(*parts, strict=True))
        weights = count_weights(load.num_features, size, max(programs.depths))
        roomy = CROWDED_SHARE * costs.cohort_bytes / (16 * weights) if on_cpu else math.inf
        found.append(
            _Class(
                len(mine) / len(values["hidden_size"]),
                kinds,
                groups,
                default_width(weights, on_cpu, costs.cohort_bytes),
                max(roomy, 1.0),
                per_network,
                per_cohort,
            )
        )
    return found


def _num_kinds(programs: Programs, values: Values) -> tuple[int, int]:
    """How many kinds of programs, and of cohorts, there can be."""
    shapes = len(programs.widths) * len(programs.depths)
    activations = {sharing(programs.activations, name) for name in values["activation"]}
    optimizers = {sharing(programs.optimizers, name) for name in values["optimizer"]}
    other = ("ema", "early_stopping", "early_stopping_monitor", "penalize_biases", "precision")
    kinds = shapes * len(activations) * len(optimizers)
    kinds *= math.prod(len(values[name]) for name in other) * len(set(_members(values)))
    batches = len(values["batch_size"])
    return kinds * (1 if programs.block else batches), kinds * batches


def _members(values: Values) -> list[Members]:
    """Those that networks can have, each as likely."""
    return [
        Members(size, form if size > 1 else "mini")
        for size in values["ensemble_size"]
        for form in values["ensemble_form"]
    ]


def epoch_seconds(
    programs: Programs,
    load: Load,
    costs: Costs,
    width: int,
    depth: int,
    batch: int,
    moments: float = 2.0,
    members: Members = ALONE,
) -> Epoch:
    """What one epoch of a network takes.

    Padded units cost arithmetic, skipped layers only gradients of zero.

    Args:
      programs: what is compiled.
      load: rows and columns.
      costs: of the device.
      width: neurons of the network.
      depth: layers of the network.
      batch: rows per update.
      moments: that the optimizer keeps.
      members: of the network; each computes what a network alone would, but for the first product
        of `late` ones.
    """
    width = least(programs.widths, width)
    parameters = count_weights(load.num_features, width, depth)
    skipped = count_weights(load.num_features, width, least(programs.depths, depth)) - parameters
    updates = math.ceil(load.num_rows / batch)
    blocks = math.ceil(load.num_rows / (programs.block or batch))
    extra = max(len(programs.activations) - 1, 0) * costs.activation_flops * width * depth
    first = load.num_features * width
    once = first if members.form == "late" else 0
    products = once + members.size * (parameters - once)
    arithmetic = load.num_rows * (6 * products + extra * members.size) / costs.flops
    traffic = updates * parameters * (16 + 12 * moments) + blocks * skipped * 12
    if programs.block:
        traffic += blocks * parameters * 20
    if members.size > 1 and not once:
        traffic += blocks * members.size * first * 16  # rescaled kernels and their gradients
    of_network = arithmetic + traffic / costs.update_bytes + blocks * costs.block_seconds
    steps = blocks * depth * (MERGED_STEP if programs.block else 1.0)
    return Epoch(of_network, steps * costs.step_seconds)


def count_weights(num_features: int, width: int, depth: int) -> int:
    """Weights of the hidden layers' kernels."""
    return num_features * width + (depth - 1) * width * width


def _distinct(kinds: float, draws: float) -> float:
    """How many of `kinds` equally likely kinds occur among `draws`."""
    return kinds * -math.expm1(draws * math.log1p(-1 / kinds)) if kinds > 1 else 1.0
