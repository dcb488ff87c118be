"""From a file to float32 numpy arrays: tables, encoders, targets, splits, scores.

`baselines` is imported by itself, since it loads much of scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_lab.datasets.dependent_splits import most_time_folds
    from jaxopt_lab.datasets.encoders import Encoder, default_num_bins, fit_encoder
    from jaxopt_lab.datasets.reading import load_frame
    from jaxopt_lab.datasets.scores import classification_scores, regression_scores
    from jaxopt_lab.datasets.sequences import adding_problem, as_classes, load_ts, pad
    from jaxopt_lab.datasets.splits import folds, rarest, table_folds, test_split
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
    "most_time_folds",
    "pad",
    "rarest",
    "regression_scores",
    "table_folds",
    "table_of",
    "test_split",
]

# Imported when first asked for, so that a file is read without scikit-learn.
_HOMES = {
    "Encoder": "encoders",
    "Table": "tables",
    "TargetTransform": "targets",
    "adding_problem": "sequences",
    "as_classes": "sequences",
    "classification_scores": "scores",
    "default_num_bins": "encoders",
    "fit_encoder": "encoders",
    "folds": "splits",
    "load_frame": "reading",
    "load_table": "tables",
    "load_ts": "sequences",
    "most_time_folds": "dependent_splits",
    "pad": "sequences",
    "rarest": "splits",
    "regression_scores": "scores",
    "table_folds": "splits",
    "table_of": "tables",
    "test_split": "splits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
