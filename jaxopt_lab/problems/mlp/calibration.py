"""Measure a machine: what a program costs to compile and to run, and how wide cohorts should be.

The same runner that a study uses trains small networks on made data. The costs of a step are
fitted to several shapes by least squares of relative errors.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from jaxopt_lab.core.cohorts import MAX_ACCELERATOR_WIDTH, MAX_WIDTH, Job, default_width
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.planning.costs import SHIPPED, Costs, Load
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.choosing import choose
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression
from jaxopt_lab.problems.mlp.estimates import count_weights
from jaxopt_lab.problems.mlp.network import count_parameters
from jaxopt_lab.spaces.distributions import LogUniform
from jaxopt_lab.spaces.space import SearchSpace

NUM_ROWS, NUM_FEATURES = 2048, 16
#: A fitted cost stays within this factor of the shipped one.
BOUND = 30.0
#: A wider cohort must be faster by this share, or the narrower one is taken.
GAIN = 0.03
#: Timed runs last at least so long, or so many epochs.
SECONDS, MAX_EPOCHS = 1.0, 512


class Shape(NamedTuple):
    """Of the networks of one measurement."""

    width: int
    depth: int
    batch: int


class Measurement(NamedTuple):
    """Seconds to compile, and of one epoch of one trial on one device."""

    compile_seconds: float
    epoch_seconds: float


#: The first is also compiled at the depth of the second, and run in cohorts of several widths.
SHAPES = (
    Shape(64, 3, 32),
    Shape(64, 8, 32),
    Shape(256, 3, 32),
    Shape(64, 3, 256),
    Shape(16, 1, 32),
)


def calibrate(
    devices: Sequence[jax.Device], quick: bool = False, say: Callable[[str], None] = print
) -> Costs:
    """Measure devices.

    Args:
      devices: that train together, as in a study.
      quick: fewer and shorter runs.
      say: takes one line of text at a time.

    Returns:
      Costs for `Study` or `sizing.write_costs`. `activation_flops` is not measured.
    """
    on_cpu = devices[0].platform == "cpu"
    shipped = SHIPPED[on_cpu]
    top = MAX_WIDTH if on_cpu else MAX_ACCELERATOR_WIDTH
    best, best_width = Measurement(math.inf, math.inf), 1
    widths = [2**k for k in range(2, int(math.log2(top)) + 1)]
    measured: dict[tuple[Shape, int], Measurement] = {}
    # Two of which one is four times the other tell what a step costs whatever the width.
    for width in widths[-3::2] if quick else widths:
        found = measured[SHAPES[0], width] = measure(SHAPES[0], width, devices, quick)
        say(f"cohorts of {width}: {_words(SHAPES[0], found)}")
        if found.epoch_seconds < best.epoch_seconds * (1 - GAIN):
            best, best_width = found, width
    # The widest being the best says nothing of where it ends.
    filled = 16 * _num_weights(SHAPES[0]) * best_width
    cohort_bytes = filled if best_width < top else shipped.cohort_bytes
    for shape in SHAPES[1:]:
        width = default_width(_num_weights(shape), on_cpu, cohort_bytes)
        found = measured[shape, width] = measure(shape, width, devices, quick)
        say(f"cohorts of {width}: {_words(shape, found)}")
    shallow = best
    deep = next(found for (shape, _), found in measured.items() if shape == SHAPES[1])
    num_layers = SHAPES[1].depth - SHAPES[0].depth
    per_layer = max((deep.compile_seconds - shallow.compile_seconds) / num_layers, 1e-3)
    fixed = max(shallow.compile_seconds - per_layer * SHAPES[0].depth, 1e-3)
    fitted = fit({key: found.epoch_seconds for key, found in measured.items()}, shipped)
    return replace(
        shipped,
        compile_seconds=fixed,
        per_layer_seconds=per_layer,
        **fitted,
        cohort_bytes=cohort_bytes,
    )


def measure(
    shape: Shape, width: int, devices: Sequence[jax.Device], quick: bool = False
) -> Measurement:
    """Compile and train cohorts of one shape, one cohort per device."""
    random = np.random.default_rng(0)
    x = random.standard_normal((NUM_ROWS, NUM_FEATURES)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]
    arrays = lay_out([x], [y.astype(np.float32)], [(np.arange(NUM_ROWS), np.arange(0))])
    space = SearchSpace(
        learning_rate=LogUniform(1e-4, 1e-2),
        batch_size=shape.batch,
        num_layers=shape.depth,
        hidden_size=shape.width,
    )
    load = Load(1, 1, 1, NUM_ROWS, NUM_FEATURES)
    config = hyperparameters.complete({**space.fixed, "learning_rate": 1e-3})
    on_cpu = devices[0].platform == "cpu"
    signature = choose(space, load, SHIPPED[on_cpu], on_cpu).signature(config)
    runner = Runner(RowsClient(arrays, regression()), 0, {signature: width}, devices)

    def run(num_epochs: int) -> tuple[float, float]:
        count = width * len(devices)
        jobs = [Job(i, 0, 0, config, signature, num_epochs, num_epochs) for i in range(count)]
        started, compiling = time.perf_counter(), 0.0
        for report in runner.run(jobs):
            compiling += report.compile_seconds
        return time.perf_counter() - started, compiling

    _, compile_seconds = run(1)
    least = 0.3 * SECONDS if quick else SECONDS
    # What a wave costs besides its epochs is in both times.
    once, num_epochs = min(run(1)[0] for _ in range(2)), 2
    while (seconds := run(num_epochs)[0]) - once < least and num_epochs < MAX_EPOCHS:
        num_epochs = min(MAX_EPOCHS, 4 * num_epochs)
    seconds = min(seconds, *(run(num_epochs)[0] for _ in range(1 if quick else 2)))
    per_epoch = max(seconds - once, 1e-9) / (num_epochs - 1)
    return Measurement(compile_seconds, per_epoch / width)


def fit(seconds: dict[tuple[Shape, int], float], shipped: Costs) -> dict[str, float]:
    """The costs of steps that explain epochs of several shapes and cohort widths, by name.

    Args:
      seconds: of one epoch of one trial on one device, by shape and cohort width.
      shipped: what the fitted costs stay near, within `BOUND`.
    """
    from scipy.optimize import lsq_linear

    step_seconds = _step_seconds(seconds, shipped)
    rows, values, rest = [], [], []
    for (shape, width), measured in seconds.items():
        weights = count_weights(NUM_FEATURES, shape.width, shape.depth)
        updates = _updates(shape)
        rows.append([6 * weights * NUM_ROWS, updates * weights * 40, updates])
        values.append(measured)
        rest.append(measured - updates * shape.depth * step_seconds / width)
    guess = np.array([1 / shipped.flops, 1 / shipped.update_bytes, shipped.block_seconds])
    matrix = np.array(rows) * guess / np.array(values)[:, None]
    wanted = np.array(rest) / np.array(values)
    found = lsq_linear(matrix, wanted, bounds=(1 / BOUND, BOUND)).x * guess
    return {
        "flops": float(1 / found[0]),
        "update_bytes": float(1 / found[1]),
        "block_seconds": float(found[2]),
        "step_seconds": step_seconds,
    }


def _step_seconds(seconds: dict[tuple[Shape, int], float], shipped: Costs) -> float:
    """What a step costs whatever the width of its cohort, per layer: from the narrowest and the
    widest cohorts of one shape."""
    shape = SHAPES[0]
    widths = sorted(width for other, width in seconds if other == shape)
    narrow, wide = widths[0], widths[-1]
    found = seconds[shape, narrow] - seconds[shape, wide]
    found /= _updates(shape) * shape.depth * (1 / narrow - 1 / wide)
    return float(np.clip(found, shipped.step_seconds / BOUND, shipped.step_seconds * BOUND))


def _updates(shape: Shape) -> int:
    """Of one epoch."""
    return math.ceil(NUM_ROWS / shape.batch)


def _num_weights(shape: Shape) -> int:
    return count_parameters(NUM_FEATURES, shape.width, shape.depth, 1)


def _words(shape: Shape, found: Measurement) -> str:
    step = found.epoch_seconds / _updates(shape)
    return (
        f"{shape.depth} x {shape.width}, batch {shape.batch}: compiles in "
        f"{found.compile_seconds:.1f} s, {1e6 * step:.3g} microseconds per step, trial and device"
    )
