"""Diagnose and cure the curve of any problem: what its roles say, and its curves alone."""

from jaxopt_lab.stabilization.general.diagnosis import GeneralDiagnosis
from jaxopt_lab.stabilization.general.run import stabilize_problem

__all__ = ["GeneralDiagnosis", "stabilize_problem"]
