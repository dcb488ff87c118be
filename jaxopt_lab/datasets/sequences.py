"""Sequences of different lengths: reading `.ts` files, padding, and a made-up hard problem."""

import gzip
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxopt_lab.core.errors import UserError


def load_ts(path: str | Path) -> tuple[list[Float[np.ndarray, "_ c"]], list[str]]:
    """Read a `.ts` file (plain or `.gz`): labelled series of several channels.

    After the line `@data` each line is one series: channels separated by `:`, values by `,`, and
    the label last.

    Args:
      path: where it is.

    Returns:
      Series as float32 [t, c], each with its own length t; and their labels.

    Raises:
      UserError: if there is no such file, or it is not of this form.
    """
    file = Path(path).expanduser()
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        lines = [line.strip() for line in raw.decode("utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    starts = [i for i, line in enumerate(lines) if line.lower() == "@data"]
    if not starts:
        raise UserError(f"{path} is no .ts file: it has no line @data")
    series, labels = [], []
    for number, line in enumerate(lines[starts[0] + 1 :], starts[0] + 2):
        if not line:
            continue
        *channels, label = line.split(":")
        try:
            values = [np.asarray(c.split(","), np.float32) for c in channels]
            series.append(np.stack(values, axis=1))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        labels.append(label)
    if not series:
        raise UserError(f"{path} holds no series")
    return series, labels


def pad(
    series: list[Float[np.ndarray, "_ c"]], length: int | None = None
) -> Float[np.ndarray, "n l k"]:
    """Stack series of different lengths; a last channel says which steps are real.

    Args:
      series: each [t, c].
      length: steps of the result; the longest series by default.

    Returns:
      float32 [n, length, c + 1]; padding is 0 in all channels.
    """
    longest = max(len(s) for s in series)
    steps = longest if length is None else length
    if longest > steps:
        raise UserError(f"a series of {longest} steps does not fit {steps}")
    padded = np.zeros((len(series), steps, series[0].shape[1] + 1), np.float32)
    for i, values in enumerate(series):
        padded[i, : len(values), :-1] = values
        padded[i, : len(values), -1] = 1.0
    return padded


def adding_problem(
    num: int, length: int, seed: int
) -> tuple[Float[np.ndarray, "n l k"], Float[np.ndarray, " n"]]:
    """The adding problem: sum two marked numbers of a long sequence.

    Each step has a number in [0, 1] and a marker; one step of each half is marked, and the target
    is the sum of the two numbers. Guessing 1 has a mean squared error of 1 / 6.

    Args:
      num: sequences.
      length: steps of each.
      seed: of the draw.

    Returns:
      float32 [num, length, 3] (number, marker, mask of real steps) and float32 [num].

    Source: Hochreiter & Schmidhuber 1997; as in Le et al. 2015, arXiv:1504.00941.
    """
    rng = np.random.default_rng(seed)
    inputs = np.zeros((num, length, 3), np.float32)
    inputs[..., 0], inputs[..., 2] = rng.random((num, length)), 1.0
    rows, half = np.arange(num), length // 2
    first, second = rng.integers(0, half, num), rng.integers(half, length, num)
    inputs[rows, first, 1] = inputs[rows, second, 1] = 1.0
    return inputs, inputs[rows, first, 0] + inputs[rows, second, 0]


def as_classes(labels: list[str]) -> tuple[Int[np.ndarray, " n"], list[str]]:
    """Labels as indices into their sorted names."""
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    return codes.astype(np.int32), [str(name) for name in names]
