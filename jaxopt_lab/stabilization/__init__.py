"""Find out why a validation loss fluctuates, and fix it."""

from jaxopt_lab.stabilization.compare import HEALTHY
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.general import GeneralDiagnosis
from jaxopt_lab.stabilization.run import stabilize

__all__ = ["HEALTHY", "Diagnosis", "GeneralDiagnosis", "stabilize"]
