"""What the curves of a training that somebody else logged can say: no JAX, nothing is trained."""

from jaxopt_lab.stabilization.logged.diagnosis import CurvesDiagnosis
from jaxopt_lab.stabilization.logged.run import diagnose_curves

__all__ = ["CurvesDiagnosis", "diagnose_curves"]
