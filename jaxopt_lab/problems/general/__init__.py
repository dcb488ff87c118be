"""Problems of any kind: pure functions of one trial, with hyperparameters of any names."""

from jaxopt_lab.problems.general.functions import from_function
from jaxopt_lab.problems.general.problem import REQUIRED, ROLES, GeneralProblem
from jaxopt_lab.problems.general.steps import from_steps

__all__ = ["REQUIRED", "ROLES", "GeneralProblem", "from_function", "from_steps"]
