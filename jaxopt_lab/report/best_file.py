"""`best.json` with its kinds checked: it may come from somebody else."""

import json
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict  # that of Python 3.11 does not do

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.storage.files import explain, read_file
from jaxopt_lab.storage.validation import (
    Count,
    MemberOfEnsemble,
    Number,
    Settings,
    Text,
    checked,
)

Scores = dict[Text, Number | None]
_IGNORING = with_config(ConfigDict(extra="ignore"))


@_IGNORING
class Epochs(TypedDict):
    """Those of the winner that count, where they are not the last."""

    folds: list[Count]
    refit: Count
    of: Count


@_IGNORING
class Validation(TypedDict, total=False):
    """Scores of the winner."""

    metric: Text
    direction: Literal["minimize", "maximize"]
    mean: Number | None
    standard_error: Number | None
    folds: list[Number | None]
    rerun: list[Number | None]
    epochs: Epochs


@_IGNORING
class Ensemble(TypedDict, total=False):
    """How large it is, and what it is made of."""

    networks: Count
    members: list[MemberOfEnsemble]


@_IGNORING
class TrialOfMembers(TypedDict):
    """What the winner's configuration came to with members."""

    trial_id: Count
    size: Count
    mean: Number | None


@_IGNORING
class Members(TypedDict):
    """The winner with members, and the best score without."""

    without: Number | None
    trials: list[TrialOfMembers]


@_IGNORING
class IntervalScores(TypedDict):
    """How intervals did on test rows."""

    coverage: Number
    mean_width: Number


@_IGNORING
class Intervals(TypedDict):
    """Intervals of a coverage that was asked for."""

    asked: Number
    single: IntervalScores
    ensemble: IntervalScores


@_IGNORING
class OfTarget(TypedDict):
    """Test scores of one of several targets."""

    metric: Text
    test: dict[Text, Scores]
    baselines: dict[Text, Scores]
    intervals: NotRequired[Intervals]


@_IGNORING
class BeforeAfter(TypedDict):
    """A score of probabilities without and with a temperature."""

    before: Number
    after: Number


@_IGNORING
class CalibrationOfModel(TypedDict):
    """The temperature of a model's class probabilities, and what it does out-of-fold."""

    temperature: Number
    log_loss: BeforeAfter
    expected_calibration_error: BeforeAfter


@_IGNORING
class Calibration(TypedDict):
    """That of both models."""

    single: CalibrationOfModel
    ensemble: CalibrationOfModel


@_IGNORING
class ColumnEffect(TypedDict):
    """How much the error rises where a column is shuffled."""

    name: Text
    mean: Number | None
    deviation: Number | None


@_IGNORING
class Effects(TypedDict):
    """Permutation importance on test rows."""

    model: Literal["single", "ensemble"]
    metric: Text
    error: Number | None
    rows: Count
    repeats: Count
    columns: list[ColumnEffect]


@_IGNORING
class FindingRow(TypedDict):
    """A finding about a range, or about curves."""

    kind: Text
    text: Text


@_IGNORING
class Curves(TypedDict):
    """Findings about learning curves, and of how many trials."""

    trials: Count
    findings: list[FindingRow]


@_IGNORING
class Analysis(TypedDict, total=False):
    """What is shown of `analysis.summary`."""

    importance: dict[Text, Number]
    interactions: Number
    fit: Number | None
    findings: list[FindingRow]
    budget: Text
    curves: Curves


@_IGNORING
class Best(TypedDict, total=False):
    """What is shown of the file."""

    trial_id: Count
    hyperparameters: Settings
    optax: Text
    validation: Validation
    test: dict[Text, Scores]
    baselines: dict[Text, Scores]
    targets: dict[Text, OfTarget]
    ensemble: Ensemble
    members: Members
    intervals: Intervals
    calibration: Calibration
    effects: Effects
    efficiency: dict[Text, Number | Scores | None]
    analysis: Analysis
    trials: dict[Text, Count]
    seconds: dict[Text, Number]
    parameters: Count
    num_parameters: dict[Text, Count]
    versions: dict[Text, Text]


def read_best(path: Path) -> dict[str, Any]:
    """Read the file; empty if it is not there.

    Raises:
      UserError: if it is damaged, naming the first part that is.
      MachineError: if it cannot be read.
    """
    try:
        content = json.loads(read_file(path).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise explain(error, path, reading=True) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from None
    return dict(checked(Best, content, str(path)))
