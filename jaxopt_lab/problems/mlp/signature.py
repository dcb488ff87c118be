"""What one compiled program is made for."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxopt_lab.core.status import Config


@dataclass(frozen=True)
class Signature:
    """Static facts of a program; trials with equal signatures share it.

    A program can serve several shapes: narrower networks padded with zeros, shallower ones with
    masked layers, larger batches as several blocks of rows whose gradients are summed, several
    optimizers as one formula.

    Attributes:
      optimizers: update rules; with several, a trial picks its own.
      activations: the activations that it computes; with several, a trial picks its own.
      num_layers: hidden layers; with `masked_depth` the most that a trial can have.
      hidden_size: neurons; with `masked_width` the most that a trial can have.
      block: rows per block; with `accumulate` a minibatch is a whole number of blocks.
      ema: whether averaged weights are kept.
      early_stopping: whether the best epoch's weights are kept.
      calibrated: whether the calibrated loss tells which epoch that is.
      penalize_biases: whether penalties and decay act on biases.
      features: optional features compiled in: a fact of the study, not of the trial, so that a
        trial alone and the same trial in a population run the same program.
      draw_width: width at which initial kernels are drawn, so that the numbers do not depend on
        the padding: the widest of the study.
      noise_rows: rows per draw of dropout noise: a common divisor of the study's batch sizes.
      precision: of the hidden layers' arithmetic.
      observe: whether each step tells gradient norms and update sizes, and each validation what
        resampled validation rows would have given (see `trainer.observation`).
      ensemble_size: members that share the kernels (see `members`).
      ensemble_form: how they differ.
    """

    optimizers: tuple[str, ...]
    activations: tuple[str, ...]
    num_layers: int
    hidden_size: int
    block: int
    ema: bool
    early_stopping: bool
    penalize_biases: bool
    features: frozenset[str]
    draw_width: int
    noise_rows: int
    masked_depth: bool = False
    masked_width: bool = False
    accumulate: bool = False
    observe: bool = False
    precision: str = "float32"
    ensemble_size: int = 1
    ensemble_form: str = "mini"
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.block % self.noise_rows:
            raise ValueError(f"block {self.block} is no multiple of noise_rows {self.noise_rows}")
        if self.draw_width < self.hidden_size:
            raise ValueError(f"draw_width {self.draw_width} is below {self.hidden_size}")

    def group(self, config: Config) -> tuple[int, ...]:
        """Blocks of rows per minibatch, common to a cohort."""
        return (config["batch_size"] // self.block,)

    def order(self, config: Config) -> int:
        """Deep trials fill cohorts together: a cohort computes the layers of its deepest trial."""
        return int(config["num_layers"])

    def extra(self, configs: Sequence[Config]) -> tuple[int, ...]:
        """Blocks of rows per minibatch, and the depth of the deepest trial."""
        return (*self.group(configs[0]), max(config["num_layers"] for config in configs))

    def __str__(self) -> str:
        depth, width, batch = (
            ("up to " if masked else "") + str(value) + (" and multiples" if many else "")
            for masked, value, many in (
                (self.masked_depth, self.num_layers, False),
                (self.masked_width, self.hidden_size, False),
                (False, self.block, self.accumulate),
            )
        )
        names = ("ema", "early_stopping", "calibrated", "penalize_biases", "observe")
        flags = [name for name in names if getattr(self, name)]
        kinds, rules = "/".join(self.activations), "/".join(self.optimizers)
        flags += [] if self.precision == "float32" else [self.precision]
        if self.ensemble_size > 1:
            flags.append(f"{self.ensemble_size} members ({self.ensemble_form})")
        parts = [f"{depth} x {width} {kinds}", rules, f"batch {batch}", *flags]
        return ", ".join(parts)
