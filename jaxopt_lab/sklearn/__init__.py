"""Estimators for scikit-learn: a tuned network that fits and predicts as all others there do.

`EXPECTED_FAILURES` is for `sklearn.utils.estimator_checks.check_estimator`.
"""

from jaxopt_lab.sklearn.estimators import EXPECTED_FAILURES, TunedClassifier, TunedRegressor
from jaxopt_lab.sklearn.population_search import PopulationSearchCV

__all__ = ["EXPECTED_FAILURES", "PopulationSearchCV", "TunedClassifier", "TunedRegressor"]
