"""From a path, a DataFrame or a built-in name to a raw DataFrame, as it was written."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from jaxopt_lab.core.errors import MachineError, UserError, did_you_mean
from jaxopt_lab.datasets.compressed import MAX_BYTES, check_size, unpack
from jaxopt_lab.datasets.dialect import Dialect, find_dialect
from jaxopt_lab.datasets.encodings import decode
from jaxopt_lab.datasets.file_kinds import kind_of_text, refuse_binary
from jaxopt_lab.datasets.other_formats import TEXT_READERS, as_name, read_excel, read_parquet

BUILTIN = {"lucas_houses": "lucas_houses.csv.gz"}
"""Tables shipped inside the package: name -> file."""
MAX_COLUMNS = 10_000
"""More columns than this are refused: each gets an encoding of its own."""
_TEXT_FORMULA = re.compile(r'^\s*="([^"]*)"\s*$')


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as it was written.

    Args:
      frame: all columns under text names, none of them twice; those of a text file are text,
        blank where nothing is written.
      source: short name for messages.
      sha256: of the file's bytes, or of a DataFrame's content.
      path: absolute path of the file, the built-in name, or "" for a DataFrame.
      notes: what was unusual about the file, one line each.
      headless: the line of column names looks like data.
    """

    frame: pd.DataFrame
    source: str
    sha256: str
    path: str
    notes: tuple[str, ...] = ()
    headless: bool = False


def read_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    wanted: Collection[str] = (),
    max_bytes: int | None = MAX_BYTES,
) -> RawTable:
    """Read a table without interpreting it.

    Args:
      source: path to a CSV, TSV, JSON, ARFF, Excel or Parquet file, compressed or not, a
        DataFrame, or a built-in name.
      wanted: columns that should be there; they help to tell the separator and the header.
      max_bytes: a file that holds more bytes, unpacked, is refused; None for no limit.

    Returns:
      The table with at least one row.

    Raises:
      UserError: if there is no such file, or it is no table.
      MachineError: if it does not fit into memory.
    """
    headless = False
    if isinstance(source, pd.DataFrame):
        frame, name = source.reset_index(drop=True), "the DataFrame"
        path, notes = "", list[str]()
        digest = _frame_digest(frame)
    else:
        name = str(source)
        try:
            data = _read_bytes(name, max_bytes)
            digest = hashlib.sha256(data).hexdigest()
            path = name if name in BUILTIN else str(Path(name).expanduser().absolute())
            name = Path(path).name
            frame, notes, headless = _parse_bytes(data, name, wanted, max_bytes)
        except MemoryError:
            raise MachineError(f"{name} does not fit into memory") from None
    names = [as_name(column) for column in frame.columns]
    check_names(names, name)
    _check_width(len(names), name)
    frame = frame.set_axis(pd.Index(names, dtype=object), axis="columns")
    if not len(frame):
        raise UserError(f"{name} has column names but no rows")
    return RawTable(frame, name, digest, path, tuple(notes), headless)


def load_frame(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    wanted: Collection[str] = (),
    max_bytes: int | None = MAX_BYTES,
) -> pd.DataFrame:
    """Read a table for prediction: raw columns, for `Encoder.check` and `Encoder.transform`.

    Args:
      source: as for `load_table`.
      wanted: the columns that are needed, `Encoder.columns`.
      max_bytes: as for `load_table`.

    Returns:
      The table; rows as in the file, blank lines included, and cells of text files as written.

    Raises:
      UserError: if there is no such file, or it is no table.
    """
    raw = read_table(source, wanted=wanted, max_bytes=max_bytes)
    if raw.headless and wanted and not set(map(as_name, wanted)) & set(raw.frame.columns):
        first = ", ".join(raw.frame.columns)[:60]
        raise UserError(
            f"{raw.source}: the first line looks like data, not like column names ({first});"
            " add a line of names"
        )
    return raw.frame


def _frame_digest(frame: pd.DataFrame) -> str:
    """sha256 of a DataFrame's names, types and values, the index left out."""
    digest = hashlib.sha256()
    for position, column in enumerate(frame.columns):
        values = frame.iloc[:, position]
        digest.update(f"{column}\0{values.dtype}\0".encode())
        try:
            hashed = pd.util.hash_pandas_object(values, index=False)
        except (TypeError, ValueError, OverflowError):
            hashed = pd.util.hash_pandas_object(values.map(str), index=False)
        digest.update(hashed.to_numpy().tobytes())
    return digest.hexdigest()


def _read_bytes(name: str, max_bytes: int | None) -> bytes:
    """Read a file or a built-in table, or say why not."""
    if name in BUILTIN:
        return (resources.files("jaxopt_lab") / "data" / BUILTIN[name]).read_bytes()
    path = Path(name).expanduser()
    if path.is_dir():
        raise UserError(f"{name} is a directory; give a file in it, such as {name}/table.csv")
    try:
        check_size(path.stat().st_size, name, max_bytes)
        data = path.read_bytes()
    except FileNotFoundError:
        known = [*BUILTIN]
        if path.parent.is_dir():
            known += [entry.name for entry in path.parent.iterdir()]
        raise UserError(f"there is no file {name}.{did_you_mean(path.name, known)}") from None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {name}: {reason}") from None
    if not data:
        raise UserError(f"{name} is empty")
    return data


def _parse_bytes(
    data: bytes, name: str, wanted: Collection[str], max_bytes: int | None
) -> tuple[pd.DataFrame, list[str], bool]:
    """Tell the file format from the content, and read it."""
    data = unpack(data, name, max_bytes)
    if data[:4] == b"PAR1":
        return *read_parquet(data, name, max_bytes), False
    if Path(name).suffix.lower() in (".parquet", ".pq"):
        raise UserError(f"{name} is not a Parquet file, or it is damaged")
    if data[:4] == b"PK\x03\x04":
        return *read_excel(data, name, wanted, max_bytes), False
    refuse_binary(data, name)
    text, notes = decode(data, name)
    kind = kind_of_text(text, name)
    if kind in TEXT_READERS:
        frame, more = TEXT_READERS[kind](text, name, max_bytes)
        return frame, notes + more, False
    frame, more, headless = _read_csv(text, name, wanted)
    return frame, notes + more, headless


def _read_csv(
    text: str, name: str, wanted: Collection[str]
) -> tuple[pd.DataFrame, list[str], bool]:
    """Separated text to a DataFrame of text; every line must fit the header."""
    text = text.replace("\0", "") if "\0" in text else text
    dialect = find_dialect(text, wanted)
    if dialect is None:
        raise UserError(f"{name} is empty")
    _check_width(len(dialect.names), name)
    check_names([as_name(field) for field in dialect.header if field], name)
    text = text[dialect.start :]
    if len(dialect.names) > 1:  # blank lines at the end are no data, unless they may be a cell
        text = text.rstrip(" \f\r\n\x1a") + "\n"  # \x1a ended files of DOS
    frame = _pandas_csv(text, name, dialect)
    return frame, [f"{name}: {note}" for note in dialect.notes], dialect.headless


def _pandas_csv(text: str, name: str, dialect: Dialect) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO(text),
                sep=r"\s+" if dialect.separator == " " else dialect.separator,
                names=list(dialect.names),
                header=0,
                index_col=False,
                skipinitialspace=True,
                skip_blank_lines=False,
                escapechar="\\" if dialect.escape else None,
                dtype=str,
                keep_default_na=False,
                na_filter=False,
                low_memory=False,
            )
    except pd.errors.ParserWarning:
        raise UserError(f"{name}: the first rows have more fields than the header") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise _explain(str(error), name, dialect) from None
    return _without_formulas(frame) if '="' in text else frame


def _without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells such as ="0123", with which spreadsheets are told to leave text alone, as that text."""
    return frame.apply(lambda cells: cells.str.replace(_TEXT_FORMULA, r"\1", regex=True))


def _explain(error: str, name: str, dialect: Dialect) -> UserError | MachineError:
    """What the parser of pandas means."""
    reason = error.replace("Error tokenizing data. C error: ", "").strip()
    if "out of memory" in reason:
        return MachineError(f"{name} does not fit into memory")
    opened = re.search(r"EOF inside string starting at row (\d+)", reason)
    if opened:
        row = int(opened[1]) + 1
        return UserError(f"{name}: a quote that opens in line {row} or so is never closed")
    return UserError(f"{name}: {reason}; quote fields that hold the separator")


def _check_width(columns: int, name: str) -> None:
    if columns > MAX_COLUMNS:
        raise UserError(
            f"{name} has {columns} columns; at most {MAX_COLUMNS} can be used:"
            " leave out those that matter least, or reduce them to components first"
        )


def check_names(names: Sequence[str], source: str) -> None:
    """Refuse a table that has two columns of one name."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        shown = ", ".join(repr(name) for name in repeated[:5])
        hint = "" if not repeated[0][:1].isdigit() else "; is the first line the column names?"
        raise UserError(f"{source} has duplicate column names: {shown}; rename them{hint}")
