"""What training is assumed to cost, and how much there is of it: constants, never a clock."""

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

from jaxopt_lab.core.cohorts import ACCELERATOR_BYTES, CACHE_BYTES
from jaxopt_lab.core.errors import UserError


@dataclass(frozen=True)
class Costs:
    """What the choice of programs assumes of the machine.

    Attributes:
      compile_seconds: one program.
      per_layer_seconds: more for each hidden layer of it.
      flops: floating-point operations per second of one device.
      update_bytes: memory traffic per second of optimizer updates on one device.
      block_seconds: fixed cost of one block of one trial on one device.
      step_seconds: fixed cost, on one device, of each layer in one block of a cohort, however wide
        that is; `MERGED_STEP` times as much in programs whose batches are several blocks.
      activation_flops: per unit and row, for each further activation computed.
      cohort_bytes: what the weights, moments and gradients of a cohort may fill.
    """

    compile_seconds: float = 1.4
    per_layer_seconds: float = 0.27
    flops: float = 1.8e11
    update_bytes: float = 9e10
    block_seconds: float = 4e-7
    step_seconds: float = 5e-6
    activation_flops: float = 60.0
    cohort_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < math.inf:
                raise UserError(f"{name} of the costs must be a number above 0, got {value!r}")


class Epoch(NamedTuple):
    """What one epoch takes on one device: seconds, or any other unit of work.

    Attributes:
      of_network: for each network.
      of_cohort: more for its cohort, however many networks that has.
    """

    of_network: float
    of_cohort: float

    def share(self, cohort_width: int) -> float:
        """Of one network in a cohort of V."""
        return self.of_network + self.of_cohort / cohort_width

    def whole(self, cohort_width: int) -> float:
        """Of a cohort of V."""
        return self.of_network * cohort_width + self.of_cohort


#: An epoch of a program that nobody has measured, on a CPU (True) or an accelerator, in the work of
#: one trial. Two cores: 16 trials in cohorts of one take 1.5 to 1.6 times what they take in one;
#: accelerators: assumed.
UNKNOWN_EPOCH = {True: Epoch(1.0, 0.6), False: Epoch(1.0, 64.0)}

#: Operations of a step in programs whose batches are several blocks, over those of others.
MERGED_STEP = 1.5
#: What the host takes for a wave: controls, results and rows in the store.
WAVE_SECONDS = 1e-2
#: How much slower a network is in a cohort that fills more than this share of the room for it.
CROWDED, CROWDED_SHARE = 1.05, 4 / 3


#: What is assumed of a CPU (True), rounded from measurements on two Zen 5 cores, or of an
#: accelerator: what was measured on one NVIDIA H100.
SHIPPED = {
    True: Costs(),
    False: Costs(
        compile_seconds=1.4,
        per_layer_seconds=0.4,
        flops=2.4e13,
        update_bytes=3.7e12,
        block_seconds=3e-10,
        step_seconds=2e-5,
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
      crowds: (trainings, units) of what can train in lockstep, all folds; None: all trials, fold
        by fold.
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
    crowds: tuple[tuple[int, int], ...] | None = None
    num_outputs: int = 1
    num_valid: int = 0
    data_bytes: int = 0

    @property
    def together(self) -> tuple[tuple[int, int], ...]:
        """(trainings, units) of what can train in lockstep."""
        return self.crowds or ((self.num_trials, self.num_epochs),) * self.num_folds
