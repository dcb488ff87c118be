"""Find out why a validation loss fluctuates, and fix it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_lab.stabilization.diagnosis import Diagnosis
    from jaxopt_lab.stabilization.general import GeneralDiagnosis
    from jaxopt_lab.stabilization.logged import CurvesDiagnosis, diagnose_curves
    from jaxopt_lab.stabilization.run import stabilize
    from jaxopt_lab.stabilization.thresholds import HEALTHY

__all__ = [
    "HEALTHY",
    "CurvesDiagnosis",
    "Diagnosis",
    "GeneralDiagnosis",
    "diagnose_curves",
    "stabilize",
]

# Imported when first asked for, so that curves are read without JAX.
_HOMES = {
    "HEALTHY": "thresholds",
    "CurvesDiagnosis": "logged",
    "Diagnosis": "diagnosis",
    "GeneralDiagnosis": "general",
    "diagnose_curves": "logged",
    "stabilize": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
