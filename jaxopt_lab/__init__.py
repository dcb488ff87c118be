"""Tune and stabilise neural networks: populations of configurations trained in parallel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_lab import datasets, models, schedulers, search, stopping, tasks
    from jaxopt_lab.devices import use_all_cores
    from jaxopt_lab.distributions import Choice, IntUniform, LogIntUniform, LogUniform, Uniform
    from jaxopt_lab.errors import MachineError, UserError
    from jaxopt_lab.predictor import Predictor
    from jaxopt_lab.sizing import read_costs
    from jaxopt_lab.space import SearchSpace
    from jaxopt_lab.stabilization import stabilize
    from jaxopt_lab.status import Status
    from jaxopt_lab.study import Study

__all__ = [
    "Choice",
    "IntUniform",
    "LogIntUniform",
    "LogUniform",
    "MachineError",
    "Predictor",
    "SearchSpace",
    "Status",
    "Study",
    "Uniform",
    "UserError",
    "datasets",
    "models",
    "read_costs",
    "schedulers",
    "search",
    "stabilize",
    "stopping",
    "tasks",
    "use_all_cores",
]

# Imported when first asked for, so that `--help` and `show` do without JAX.
_HOMES = {
    "Choice": "distributions",
    "IntUniform": "distributions",
    "LogIntUniform": "distributions",
    "LogUniform": "distributions",
    "MachineError": "errors",
    "Predictor": "predictor",
    "SearchSpace": "space",
    "Status": "status",
    "Study": "study",
    "Uniform": "distributions",
    "UserError": "errors",
    "read_costs": "sizing",
    "stabilize": "stabilization",
    "use_all_cores": "devices",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in __all__:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
