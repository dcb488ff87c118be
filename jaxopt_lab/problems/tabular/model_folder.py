"""A model folder: `model.json` and `weights.safetensors`, numbers and text, nothing that executes.

The two are one publication. `model.json` holds checksums of itself and of the weights that belong
to it. New weights are laid beside the old ones under a name made of their checksum; then
`model.json` is replaced, in one step, and from then on the folder is the new model; last the
weights take their usual name. Whoever reads finds weights by checksum, under either name, so a
process may be killed at any moment.

A folder of an earlier version has no checksums and is read without. Its schema is the least that
holds it, which earlier versions read: 1 of networks alone, 2 with residuals, 3 with networks of
members or with models of other kinds, 4 with another loss than the squared error, 5 with encoders
that look at the targets of near rows, which it holds, 6 with temperatures of class probabilities,
7 of several targets, 8 with a kernel regression, which holds the training rows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import numpy as np
from pydantic import ConfigDict, Field, with_config
from safetensors.numpy import load, save
from typing_extensions import TypedDict

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp.hyperparameters import ACTIVATIONS, ENSEMBLE_FORMS, REGISTRY
from jaxopt_lab.problems.tabular.other_kinds import OtherTable
from jaxopt_lab.problems.tabular.temperatures import TemperatureTable
from jaxopt_lab.storage.files import explain, read_file, refuse_link, write_file
from jaxopt_lab.storage.validation import Flag, Number, Text, checked, undamaged

SCHEMA = 8
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
#: What the names of residuals begin with, where those of weights have a network's number.
RESIDUALS = "residuals"
#: What those of models of other kinds begin with; then comes a number.
OTHERS = "others"
_STRICT = with_config(ConfigDict(extra="forbid"))
#: Beyond any table or ensemble, and small enough to be held in memory.
_MANY = 2**20


def _limits(name: str) -> Any:
    """Bounds of a hyperparameter, for a field."""
    spec = REGISTRY[name]
    return Field(ge=int(spec.low), le=int(spec.high), strict=True)


Index = Annotated[int, Field(ge=0, le=_MANY, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
Label = Flag | Annotated[int, Field(strict=True)] | Number | Text
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$", strict=True)]
Form = Annotated[str, Field(pattern=f"^({'|'.join(ENSEMBLE_FORMS)})$", strict=True)]
Activation = Annotated[str, Field(pattern=f"^({'|'.join(ACTIVATIONS)})$", strict=True)]


@_STRICT
class Architecture(TypedDict):
    """Arguments of `MLP`, within the limits of the hyperparameters."""

    num_layers: Annotated[int, _limits("num_layers")]
    hidden_size: Annotated[int, _limits("hidden_size")]
    num_outputs: Annotated[int, Field(ge=1, le=_MANY, strict=True)]
    activations: Annotated[list[Activation], Field(min_length=1, max_length=1)]
    ensemble_size: NotRequired[Annotated[int, _limits("ensemble_size")]]
    ensemble_form: NotRequired[Form]


@_STRICT
class NetworkTable(TypedDict):
    """A network, and which encoder feeds it."""

    architecture: Architecture
    encoder: Index


@_STRICT
class Description(TypedDict):
    """Content of `model.json`. Encoders and transforms check themselves when they are made."""

    schema: Annotated[int, Field(ge=1, le=SCHEMA, strict=True)]
    task: Literal["regression", "classification"]
    target_name: Text
    classes: list[Label]
    encoders: Annotated[list[dict[Text, Any]], Field(min_length=1)]
    transforms: list[dict[Text, Any]]
    networks: Annotated[list[NetworkTable], Field(min_length=1)]
    ensemble: list[Share]
    others: NotRequired[list[OtherTable]]
    targets: NotRequired[Annotated[list[Text], Field(min_length=2)]]
    temperatures: NotRequired[TemperatureTable]
    loss: NotRequired[Literal["absolute", "huber", "quantile"]]
    quantile: NotRequired[Annotated[float, Field(gt=0, lt=1, strict=True)]]
    weights_sha256: NotRequired[Checksum]
    sha256: NotRequired[Checksum]


def publish(
    folder: Path,
    content: Mapping[str, Any],
    networks: Sequence[Mapping[str, np.ndarray]],
    residuals: Mapping[str, np.ndarray] | None = None,
    others: Sequence[Mapping[str, np.ndarray]] = (),
) -> None:
    """Write a model so that the folder holds the old one or the new one at every moment.

    Args:
      folder: of the model; other files in it are left alone.
      content: of `model.json`, without checksums.
      networks: name -> float32 weights, of each network.
      residuals: name -> float64 residuals, kept with the weights.
      others: name -> array, of each model of another kind, likewise.

    Raises:
      MachineError: if the disk is full or the folder cannot be written.
    """
    refuse_link(folder)
    arrays = {
        f"{i}/{name}": np.ascontiguousarray(value)
        for i, flat in enumerate(networks)
        for name, value in flat.items()
    }
    for name, value in (residuals or {}).items():
        arrays[f"{RESIDUALS}/{name}"] = np.ascontiguousarray(value)
    for i, flat in enumerate(others):
        for name, value in flat.items():
            arrays[f"{OTHERS}/{i}/{name}"] = np.ascontiguousarray(value)
    weights = save(arrays)
    digest = hashlib.sha256(weights).hexdigest()
    described = {**content, "weights_sha256": digest}
    described["sha256"] = _digest(described)
    beside = _beside(folder, digest)
    write_file(beside, weights)
    write_file(folder / DESCRIPTION, json.dumps(described).encode())
    try:
        beside.replace(folder / WEIGHTS)
        for left in folder.glob("weights-*.safetensors"):  # by publications that were killed
            left.unlink()
    except OSError as error:
        raise explain(error, folder) from None


class Stored(NamedTuple):
    """A model as a folder holds it.

    Attributes:
      description: content of `model.json`.
      networks: name -> weights of each network.
      residuals: name -> residuals, if it has any.
      others: name -> array of each model of another kind.
    """

    description: dict[str, Any]
    networks: list[dict[str, np.ndarray]]
    residuals: dict[str, np.ndarray]
    others: list[dict[str, np.ndarray]]


def read(folder: Path) -> Stored:
    """Read a model, its checksums verified where it has any.

    Raises:
      UserError: if it is missing, damaged, changed or of a later version.
    """
    where = f"the model in {folder}"
    try:
        described = _read_description(folder, where)
        arrays = undamaged(where, lambda: load(_read_weights(folder, described, where)))
    except FileNotFoundError as error:
        raise UserError(f"no model in {folder}: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise explain(error, folder, reading=True) from None
    networks: list[dict[str, np.ndarray]] = [{} for _ in described["networks"]]
    others: list[dict[str, np.ndarray]] = [{} for _ in described.get("others", [])]
    residuals: dict[str, np.ndarray] = {}
    for name, value in arrays.items():
        head, _, rest = name.partition("/")
        if head == RESIDUALS:
            residuals[rest] = value
            continue
        found, number = networks, head
        if head == OTHERS:
            found, (number, _, rest) = others, rest.partition("/")
        if not (number.isascii() and number.isdigit() and int(number) < len(found)):
            raise UserError(f"{where} is damaged: it has weights of no network, {name[:40]!r}")
        found[int(number)][rest] = value
    return Stored(described, networks, residuals, others)


def _read_description(folder: Path, where: str) -> dict[str, Any]:
    text = read_file(folder / DESCRIPTION)
    content = undamaged(where, lambda: json.loads(text))
    later = content.get("schema") if isinstance(content, dict) else None
    if isinstance(later, int) and later > SCHEMA:
        raise UserError(f"{folder} was written by a later version; upgrade jaxopt-lab")
    described = checked(Description, content, where)
    if "sha256" in described and described["sha256"] != _digest(described):
        raise UserError(
            f"{where} is damaged: {DESCRIPTION} has changed since it was written; run the tune "
            "command of its study again"
        )
    return dict(described)


def _read_weights(folder: Path, described: Mapping[str, Any], where: str) -> bytes:
    """The weights that the description belongs to."""
    wanted = described.get("weights_sha256")
    if wanted is None:
        return read_file(folder / WEIGHTS)
    # In this order, for a publication renames the one to the other while we read.
    names = (folder / WEIGHTS, _beside(folder, wanted), folder / WEIGHTS)
    for path in names:
        with suppress(FileNotFoundError):
            content = read_file(path)
            if hashlib.sha256(content).hexdigest() == wanted:
                return content
    if not (folder / WEIGHTS).exists():
        raise FileNotFoundError(2, "missing", str(folder / WEIGHTS))
    raise UserError(
        f"{where} is damaged: {WEIGHTS} is not what was written; run the tune command of its study "
        "again"
    )


def _beside(folder: Path, digest: str) -> Path:
    return folder / f"weights-{digest[:16]}.safetensors"


def _digest(described: Mapping[str, Any]) -> str:
    """Checksum of all of `model.json` but itself."""
    rest = {key: value for key, value in described.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
