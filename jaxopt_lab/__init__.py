"""Tune and stabilise neural networks: populations of configurations trained in parallel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_lab import datasets, models, schedulers, search, sklearn
    from jaxopt_lab import problems as tasks
    from jaxopt_lab.cli.progress_bar import ProgressBar
    from jaxopt_lab.core.devices import use_all_cores
    from jaxopt_lab.core.errors import MachineError, UserError
    from jaxopt_lab.core.status import Status
    from jaxopt_lab.core.trainable import Shared, Trainable
    from jaxopt_lab.integrations import placements, trackers
    from jaxopt_lab.planning.sizing import read_costs
    from jaxopt_lab.problems.general import from_function, from_steps
    from jaxopt_lab.problems.supervised import metrics, supervised
    from jaxopt_lab.problems.tabular.predictor import Predictor
    from jaxopt_lab.spaces.distributions import (
        Choice,
        IntUniform,
        LogIntUniform,
        LogUniform,
        Uniform,
    )
    from jaxopt_lab.spaces.space import SearchSpace
    from jaxopt_lab.stabilization import diagnose_curves, stabilize
    from jaxopt_lab.study.callbacks import Callback
    from jaxopt_lab.study.study import Study

__all__ = [
    "Callback",
    "Choice",
    "IntUniform",
    "LogIntUniform",
    "LogUniform",
    "MachineError",
    "Predictor",
    "ProgressBar",
    "SearchSpace",
    "Shared",
    "Status",
    "Study",
    "Trainable",
    "Uniform",
    "UserError",
    "datasets",
    "diagnose_curves",
    "from_function",
    "from_steps",
    "metrics",
    "models",
    "placements",
    "read_costs",
    "schedulers",
    "schedules",
    "search",
    "sklearn",
    "stabilize",
    "stopping",
    "supervised",
    "tasks",
    "trackers",
    "use_all_cores",
]

# Imported when first asked for, so that `--help` and `show` do without JAX.
_HOMES = {
    "Callback": "study.callbacks",
    "Choice": "spaces.distributions",
    "IntUniform": "spaces.distributions",
    "LogIntUniform": "spaces.distributions",
    "LogUniform": "spaces.distributions",
    "MachineError": "core.errors",
    "Predictor": "problems.tabular.predictor",
    "ProgressBar": "cli.progress_bar",
    "SearchSpace": "spaces.space",
    "Shared": "core.trainable",
    "Status": "core.status",
    "Trainable": "core.trainable",
    "Study": "study.study",
    "Uniform": "spaces.distributions",
    "UserError": "core.errors",
    "diagnose_curves": "stabilization",
    "from_function": "problems.general",
    "from_steps": "problems.general",
    "read_costs": "planning.sizing",
    "stabilize": "stabilization",
    "supervised": "problems.supervised",
    "use_all_cores": "core.devices",
}
# Modules that are public by another name than their own.
_MODULES = {
    "metrics": "problems.supervised.metrics",
    "placements": "integrations.placements",
    "stopping": "search.stopping",
    "tasks": "problems",
    "trackers": "integrations.trackers",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in __all__:
        value = import_module(f"{__name__}.{_MODULES.get(name, name)}")
    else:
        from jaxopt_lab.core.attributes import missing
        from jaxopt_lab.core.other_names import PACKAGE

        raise missing(f"module {__name__!r}", name, __all__, PACKAGE)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
