"""How the trials of a cohort are run, and how many of them train together."""

from jaxopt_lab.core.cohorts import CACHE_BYTES, MAX_ACCELERATOR_WIDTH
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.tracing.footprint import Footprint


def choose_executor(
    footprint: Footprint, platform: str, insist: str | None = None
) -> tuple[str, str]:
    if insist is not None:
        if insist not in ("vmap", "map"):
            raise UserError(f"executor must be vmap or map, got {insist!r}")
        return insist, "as asked"
    if platform == "cpu" and footprint.kernels_differ:
        return "map", "convolutions whose kernels differ by trial are slow side by side on a CPU"
    return "vmap", "in lockstep"


def choose_width(
    footprint: Footprint,
    executor: str,
    platform: str,
    num_trials: int,
    limit_bytes: int | None = None,
) -> int:
    if executor == "map":
        return 1
    room = CACHE_BYTES if platform == "cpu" else limit_bytes or 2**33
    width = 1
    while width * 2 <= min(room / max(footprint.trial_bytes, 1), MAX_ACCELERATOR_WIDTH, num_trials):
        width *= 2
    return width
