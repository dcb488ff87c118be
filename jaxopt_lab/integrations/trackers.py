"""Experiment trackers as callbacks: `lab.trackers.TensorBoard(...)` and the others.

Each needs its extra, and is imported when it is first asked for.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.other_names import TRACKERS

if TYPE_CHECKING:
    from jaxopt_lab.integrations.mlflow_log import MLflow
    from jaxopt_lab.integrations.optuna_studies import OptunaMirror as Optuna
    from jaxopt_lab.integrations.tensorboard_log import TensorBoard
    from jaxopt_lab.integrations.trackio_log import Trackio
    from jaxopt_lab.integrations.wandb_log import WandB

__all__ = ["MLflow", "Optuna", "TensorBoard", "Trackio", "WandB", "from_text"]

#: What `--log` knows, and what stands after the colon.
KINDS = {"tensorboard": "DIR", "mlflow": "URI", "wandb": "DIR", "trackio": "NAME"}


def __getattr__(name: str) -> Any:
    if name == "TensorBoard":
        from jaxopt_lab.integrations.tensorboard_log import TensorBoard

        return TensorBoard
    if name == "MLflow":
        from jaxopt_lab.integrations.mlflow_log import MLflow

        return MLflow
    if name == "WandB":
        from jaxopt_lab.integrations.wandb_log import WandB

        return WandB
    if name == "Trackio":
        from jaxopt_lab.integrations.trackio_log import Trackio

        return Trackio
    if name == "Optuna":
        from jaxopt_lab.integrations.optuna_studies import OptunaMirror

        return OptunaMirror
    raise missing(f"module {__name__!r}", name, __all__, TRACKERS)


def from_text(text: str) -> Any:
    """A tracker as the command line names it.

    Args:
      text: "tensorboard:DIR", "mlflow:URI", "wandb:DIR" or "trackio:NAME".

    Raises:
      UserError: for another kind, or nothing after the colon.
      MachineError: if the tracker is not installed.
    """
    kind, _, where = text.partition(":")
    if kind not in KINDS:
        known = ", ".join(f"{name}:{what}" for name, what in KINDS.items())
        raise UserError(f"unknown tracker {kind!r}.{did_you_mean(kind, KINDS)} Known: {known}")
    if not where:
        raise UserError(f"--log {kind}: say where, {kind}:{KINDS[kind]}")
    if kind == "wandb":
        return __getattr__("WandB")(directory=where)
    name = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "trackio": "Trackio"}[kind]
    return __getattr__(name)(where)


def from_options(log: Sequence[str], optuna: str | None) -> list[Any]:
    """The callbacks that `--log` and `--optuna` ask for.

    Raises:
      UserError: as `from_text`, and for a storage of Optuna's that cannot be opened.
      MachineError: if something is not installed.
    """
    mirror = [] if optuna is None else [__getattr__("Optuna")(optuna)]
    return [*map(from_text, log), *mirror]
