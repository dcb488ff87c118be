"""From a file to float32 numpy arrays: tables, encoders, targets, splits, scores.

`baselines` is imported by itself, since it loads much of scikit-learn.
"""

from jaxopt_lab.datasets.encoders import Encoder, default_num_bins, fit_encoder
from jaxopt_lab.datasets.reading import load_frame
from jaxopt_lab.datasets.scores import classification_scores, regression_scores
from jaxopt_lab.datasets.sequences import adding_problem, as_classes, load_ts, pad
from jaxopt_lab.datasets.splits import folds, rarest, test_split
from jaxopt_lab.datasets.tables import Table, load_table, table_of
from jaxopt_lab.datasets.targets import TargetTransform

__all__ = [
    "Encoder",
    "Table",
    "TargetTransform",
    "adding_problem",
    "as_classes",
    "classification_scores",
    "default_num_bins",
    "fit_encoder",
    "folds",
    "load_frame",
    "load_table",
    "load_ts",
    "pad",
    "rarest",
    "regression_scores",
    "table_of",
    "test_split",
]
