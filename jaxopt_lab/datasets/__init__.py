"""From a file to float32 numpy arrays: tables, encoders, targets, splits, scores.

`baselines` is imported by itself, since it loads much of scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_lab.datasets.cleaning import telling_columns
    from jaxopt_lab.datasets.dependent_splits import most_time_folds
    from jaxopt_lab.datasets.encoders import Encoder, default_num_bins, fit_encoder
    from jaxopt_lab.datasets.location import (
        checked_location,
        find_location,
        kin_of,
        outputs_of,
    )
    from jaxopt_lab.datasets.number_encodings import FEWER_BINS, find_encoding, find_num_bins
    from jaxopt_lab.datasets.reading import load_frame
    from jaxopt_lab.datasets.scores import (
        classification_scores,
        loss_scores,
        regression_scores,
    )
    from jaxopt_lab.datasets.sequences import adding_problem, as_classes, load_ts, pad
    from jaxopt_lab.datasets.several_targets import TargetTransforms, fit_target, one_by_one
    from jaxopt_lab.datasets.splits import different_rows, folds, rarest, table_folds, test_split
    from jaxopt_lab.datasets.tables import Table, decided_on, load_table, table_of
    from jaxopt_lab.datasets.target_losses import TargetLoss
    from jaxopt_lab.datasets.targets import TargetTransform

__all__ = [
    "FEWER_BINS",
    "Encoder",
    "Table",
    "TargetLoss",
    "TargetTransform",
    "TargetTransforms",
    "adding_problem",
    "as_classes",
    "checked_location",
    "classification_scores",
    "decided_on",
    "default_num_bins",
    "different_rows",
    "find_encoding",
    "find_location",
    "find_num_bins",
    "fit_encoder",
    "fit_target",
    "folds",
    "kin_of",
    "load_frame",
    "load_table",
    "load_ts",
    "loss_scores",
    "most_time_folds",
    "one_by_one",
    "outputs_of",
    "pad",
    "rarest",
    "regression_scores",
    "table_folds",
    "table_of",
    "telling_columns",
    "test_split",
]

# Imported when first asked for, so that a file is read without scikit-learn.
_HOMES = {
    "Encoder": "encoders",
    "Table": "tables",
    "TargetLoss": "target_losses",
    "TargetTransform": "targets",
    "TargetTransforms": "several_targets",
    "adding_problem": "sequences",
    "as_classes": "sequences",
    "checked_location": "location",
    "classification_scores": "scores",
    "decided_on": "tables",
    "default_num_bins": "encoders",
    "different_rows": "splits",
    "FEWER_BINS": "number_encodings",
    "find_encoding": "number_encodings",
    "find_num_bins": "number_encodings",
    "find_location": "location",
    "fit_encoder": "encoders",
    "fit_target": "several_targets",
    "folds": "splits",
    "kin_of": "location",
    "load_frame": "reading",
    "load_table": "tables",
    "load_ts": "sequences",
    "loss_scores": "scores",
    "most_time_folds": "dependent_splits",
    "one_by_one": "several_targets",
    "outputs_of": "location",
    "pad": "sequences",
    "rarest": "splits",
    "regression_scores": "scores",
    "table_folds": "splits",
    "table_of": "tables",
    "telling_columns": "cleaning",
    "test_split": "splits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from jaxopt_lab.core.attributes import missing

        words = {"read_csv": "lab.datasets.load_table(path, target=...)"}
        raise missing(f"module {__name__!r}", name, __all__, words)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
