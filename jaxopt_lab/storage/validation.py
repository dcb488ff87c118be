"""A study's rows and settings with their kinds checked: the file may come from somebody else.

SQLite keeps text in a column of numbers if it is put there. What is read here holds numbers where
numbers are due and text where text is, or is refused in one line.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # that of Python 3.11 does not do

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.store import Store

T = TypeVar("T")
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def read_setting(value: Any) -> Any:
    """A setting as JSON has it: infinities are the texts `inf` and `-inf`, for JSON has none."""
    return {"inf": math.inf, "-inf": -math.inf}.get(value, value) if type(value) is str else value


#: The value of a hyperparameter.
Setting = Annotated[
    Flag
    | Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]
    | Annotated[float, Field(strict=True)]
    | Text,
    BeforeValidator(read_setting),
]
Settings = dict[Text, Setting]
_IGNORING = with_config(ConfigDict(extra="ignore"))


@_IGNORING
class TrialRow(TypedDict):
    """The fields of `rows.Trial`."""

    trial_id: Count
    phase: Text
    status: Status
    score: Number | None
    standard_error: Number | None
    reason: Text
    config: Settings


@_IGNORING
class WaveRow(TypedDict):
    """The fields of `rows.WaveCost`."""

    phase: Text
    seconds: Number
    compile_seconds: Number
    jobs: Count
    units: Count
    program: Text


@_IGNORING
class MemberOfEnsemble(TypedDict):
    """A trial or a model of another kind, in a decision of kind "ensemble members"."""

    name: Text
    weight: Number
    out_of_fold: Number | None


@_IGNORING
class BracketRow(TypedDict):
    """A decision of kind "bracket"."""

    phase: Text
    trials: list[Count]
    rungs: list[tuple[Count, Count, Count | None]]


@_IGNORING
class RungRow(TypedDict):
    """A decision of kind "rung"."""

    phase: Text
    bracket: Count
    rung: Count
    trials: list[Count]
    losses: list[Number | None]
    promoted: list[Count]


@_IGNORING
class GenerationRow(TypedDict):
    """The fields of a decision of kind "generation": one generation of a population."""

    phase: Text
    population: Count
    generation: Count
    unit: Count
    units: Count
    trials: list[Count]
    parents: list[Count]
    scores: list[Number | None]
    configs: list[Settings]


@_IGNORING
class DeviceRow(TypedDict):
    """A decision of kind "devices": on how many of which kind a study goes on."""

    num_devices: Count
    device: Text
    first_wave: Count


@_IGNORING
class WorkerRow(TypedDict):
    """A decision of kind "worker": who trained a wave."""

    worker: Text
    members: list[tuple[Count, Count, Count]]
    seconds: Number


class Seconds(TypedDict):
    """What a program was expected to take; NaN where nobody knows."""

    compile: Annotated[float, Field(strict=True)]
    run: Annotated[float, Field(strict=True)]


@_IGNORING
class TaskTable(TypedDict, total=False):
    """What a task is, as far as it is shown."""

    kind: Text
    source: Text
    target: Text
    task: Text
    targets: list[Text]
    log_target: Flag
    log_targets: list[Flag]
    test_fraction: Annotated[float, Field(ge=0, lt=1, strict=True)]
    group: Text
    time: Text
    weights: Text
    numeric: Text
    num_bins: Count | None
    loss: Text
    quantile: Annotated[float, Field(gt=0, lt=1, strict=True)]


@_IGNORING
class ObjectiveTable(TypedDict):
    """What is optimised."""

    metric: Text
    direction: Literal["minimize", "maximize"]


@_IGNORING
class StudySettings(TypedDict, total=False):
    """Settings that are shown, of those that a study keeps."""

    task: TaskTable
    space: dict[Text, Any]
    num_folds: Annotated[int, Field(ge=1, le=2**20, strict=True)]
    budget: Count
    objective: ObjectiveTable
    seed: Count
    device: Text
    num_devices: Count
    expected: dict[Text, Seconds]
    widths: dict[Text, Count]


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


def checked(kind: Any, value: Any, where: str) -> Any:
    """Hold a value against a type.

    Args:
      kind: the type.
      value: plain data.
      where: the file and the part of it, for the message.

    Returns:
      The value, parts that the type does not name left out.

    Raises:
      UserError: naming the first part that does not fit.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        steps = [str(step) for step in first["loc"] if not _is_branch(str(step))]
        shown = repr(first["input"])
        raise UserError(
            f"{where} is damaged: {'.'.join(steps) or 'its content'}: {first['msg'].lower()}, "
            f"got {shown[:60]}{'...' if len(shown) > 60 else ''}"
        ) from None


def _is_branch(step: str) -> bool:
    """Whether a step of an error's path names an alternative of a type, not a part of the data."""
    return "[" in step or step in ("bool", "int", "float", "str", "none")


def undamaged(where: str, read: Callable[[], T]) -> T:
    """Read what somebody else may have written.

    Args:
      where: the file, for the message.
      read: reads it, and may fail in any way.

    Raises:
      UserError: if it fails, in one line; its own stay as they are.
      MachineError: likewise.
    """
    try:
        return read()
    except (UserError, RuntimeError, MemoryError, OSError) as error:
        if isinstance(error, RecursionError):
            raise UserError(f"{where} is damaged: it is nested too deeply") from None
        raise
    except Exception as error:
        raise UserError(f"{where} is damaged: {error}") from None


def trials_of(store: Store) -> list[dict[str, Any]]:
    """`Store.trials`, checked, as dictionaries."""

    def read() -> list[dict[str, Any]]:
        found = (trial._asdict() for trial in store.trials())
        return checked(list[TrialRow], found, f"{store.path} (trials)")

    return undamaged(str(store.path), read)


def waves_of(store: Store) -> list[dict[str, Any]]:
    """`Store.waves`, checked, as dictionaries."""
    found = [wave._asdict() for wave in store.waves()]
    return checked(list[WaveRow], found, f"{store.path} (waves)")


def rungs_of(store: Store) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Brackets and their comparisons, checked; those of earlier versions, which say less, apart."""

    def read() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        brackets = [d for d in store.decisions("bracket") if "rungs" in d]
        rungs = [d for d in store.decisions("rung") if "losses" in d]
        return (
            checked(list[BracketRow], brackets, f"{store.path} (brackets)"),
            checked(list[RungRow], rungs, f"{store.path} (rungs)"),
        )

    return undamaged(str(store.path), read)


def devices_of(store: Store) -> list[dict[str, Any]]:
    """On which devices a study went on, and from which wave on, checked; [] where they stayed."""

    return _decisions(store, "devices", DeviceRow, "devices")


def workers_of(store: Store) -> list[dict[str, Any]]:
    """Who trained each wave, checked; [] where this process trained all."""

    return _decisions(store, "worker", WorkerRow, "workers")


def _decisions(store: Store, kind: str, row: Any, words: str) -> list[dict[str, Any]]:
    """Decisions of one kind, each checked against a row; `words` name them in messages."""

    def read() -> list[dict[str, Any]]:
        where = f"{store.path} ({words})"
        found: list[dict[str, Any]] = checked(list[row], store.decisions(kind), where)
        return found

    return undamaged(str(store.path), read)


def generations_of(store: Store) -> list[dict[str, Any]]:
    """Generations of populations, checked: of as many parents as trials, from among these."""

    def read() -> list[dict[str, Any]]:
        where = f"{store.path} (generations)"
        found: list[dict[str, Any]] = checked(
            list[GenerationRow], store.decisions("generation"), where
        )
        members: dict[tuple[str, int], set[int]] = {}
        for row in found:
            lengths = {len(row[name]) for name in ("trials", "parents", "scores", "configs")}
            known = members.setdefault((row["phase"], row["population"]), set(row["trials"]))
            own = set(row["trials"])
            if len(lengths) != 1 or not own or not {*row["parents"]} <= own or not own <= known:
                raise UserError(
                    f"{where} is damaged: generation {row['generation']} does not fit its trials"
                )
            members[row["phase"], row["population"]] = own
        return found

    return undamaged(str(store.path), read)


def ensemble_of(store: Store) -> list[dict[str, Any]]:
    """What the ensemble is made of, checked; empty where there is none, or of earlier versions."""

    def read() -> list[dict[str, Any]]:
        found = store.decisions("ensemble members")[-1:] or [[]]
        return checked(list[MemberOfEnsemble], found[0], f"{store.path} (ensemble)")

    return undamaged(str(store.path), read)


def settings_of(store: Store) -> dict[str, Any]:
    """`Store.settings`, checked, and the name of the table's file; those that are shown only."""

    def read() -> dict[str, Any]:
        stored = store.settings()
        found = checked(StudySettings, stored, f"{store.path} (settings)")
        unit = checked(Text, stored.get("problem unit", "epoch"), f"{store.path} (problem unit)")
        # A file name may hold bytes that are no text.
        return {**found, "table path": str(stored.get("table path", "")), "problem unit": unit}

    return undamaged(str(store.path), read)
