"""How many trials train together: the cohort width V, from a machine's costs and its memory."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jaxopt_lab.core.cohorts import default_width
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.planning.costs import SHIPPED, Costs

#: Share of an accelerator's memory that training may take unless a limit is given.
SHARE = 0.8
#: Of calibration files; 1 had a fixed cost of a step that did not go by layers.
SCHEMA = 2


@dataclass(frozen=True)
class Sizing:
    """What bounds the cohort width.

    Attributes:
      costs: of the devices.
      on_cpu: else accelerators.
      num_devices: D; on a CPU they share its memory.
      memory_limit: bytes that the arrays of training may take on all devices together; None for
        no bound. Python, XLA and compiled programs come on top, some half a GiB.
      cohort_width: V is at most this; None for no bound.
    """

    costs: Costs
    on_cpu: bool
    num_devices: int
    memory_limit: int | None = None
    cohort_width: int | None = None

    def __post_init__(self) -> None:
        if self.memory_limit is not None and self.memory_limit <= 0:
            raise UserError(f"the memory limit must be above 0 bytes, got {self.memory_limit}")
        if self.cohort_width is not None and self.cohort_width < 1:
            raise UserError(f"the cohort width must be at least 1, got {self.cohort_width}")

    def width(self, num_parameters: int, num_bytes: int, data_bytes: int, largest: int) -> int:
        """V of one program: a power of two.

        Args:
          num_parameters: weights of one trial.
          num_bytes: of one trial in training, an estimate on the safe side.
          data_bytes: of the data, of which every device holds a copy.
          largest: what the choice of programs allows (`Programs.max_cohort`).

        Raises:
          UserError: if not even cohorts of one fit the memory limit.
        """
        width = min(default_width(num_parameters, self.on_cpu, self.costs.cohort_bytes), largest)
        return min(width, self.bound(num_bytes, data_bytes))

    def bound(self, num_bytes: int, data_bytes: int) -> int:
        """The largest V that the user's bounds allow: a power of two."""
        bounds = [2**30 if self.cohort_width is None else self.cohort_width]
        if self.memory_limit is not None:
            room = self.memory_limit / self.num_devices - data_bytes
            if room < num_bytes:
                least = self.num_devices * (data_bytes + num_bytes)
                raise UserError(
                    f"a memory limit of {_gib(self.memory_limit)} does not hold one trial on each "
                    f"of {self.num_devices} devices; give at least {_gib(least)}"
                )
            bounds.append(int(room // num_bytes))
        return 2 ** int(math.log2(min(bounds)))


def memory_of(devices: Sequence[Any]) -> int | None:
    """What training may take of accelerators' memory by default; None if JAX does not tell."""
    found = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    if any(size is None for size in found):
        return None
    return int(SHARE * sum(size for size in found if size is not None))


def sizing_of(
    devices: Sequence[Any],
    costs: Costs | None = None,
    memory_limit: int | None = None,
    cohort_width: int | None = None,
) -> Sizing:
    """Sizing for devices: shipped costs, and an accelerator's own memory, unless given."""
    on_cpu = devices[0].platform == "cpu"
    if memory_limit is None and not on_cpu:
        memory_limit = memory_of(devices)
    return Sizing(costs or SHIPPED[on_cpu], on_cpu, len(devices), memory_limit, cohort_width)


def read_costs(path: str | Path) -> Costs:
    """Read what `jaxopt-lab calibrate` wrote.

    Raises:
      UserError: if there is no such file, or it is something else.
    """
    try:
        content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        found = content["costs"]
        schema = content["schema"]
        assert isinstance(found, dict)
    except FileNotFoundError:
        raise UserError(
            f"no such file: {path}; 'jaxopt-lab calibrate --out {path}' makes it"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or '').lower()}") from None
    except (ValueError, KeyError, TypeError, AssertionError):
        raise UserError(f"{path} is not a calibration written by 'jaxopt-lab calibrate'") from None
    if schema != SCHEMA:
        raise UserError(
            f"{path} was written by another version of jaxopt-lab; "
            f"'jaxopt-lab calibrate --out {path}' makes a new one"
        )
    known = [field.name for field in fields(Costs)]
    for name, value in found.items():
        if name not in known:
            raise UserError(f"{path}: unknown cost {name!r}.{did_you_mean(name, known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{path}: {name} must be a number, got {value!r}")
    try:
        return Costs(**found)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write_costs(costs: Costs, device: str, num_devices: int) -> str:
    """The text of a calibration file."""
    content = {
        "schema": SCHEMA,
        "device": device,
        "num_devices": num_devices,
        "costs": asdict(costs),
    }
    return json.dumps(content, indent=2) + "\n"


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
