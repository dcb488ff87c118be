"""From a path, a DataFrame or a built-in name to a raw DataFrame, as it was written."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.dialect import Dialect, decimal_points, find_dialect

BUILTIN = {"lucas_houses": "lucas_houses.csv.gz"}
"""Tables shipped inside the package: name -> file."""

_NA_VALUES = ("?", "-", "NaT")


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as it was written.

    Args:
      frame: all columns under text names, none of them twice.
      source: short name for messages.
      sha256: of the file's bytes, or of a DataFrame's content.
      path: absolute path of the file, the built-in name, or "" for a DataFrame.
      notes: what was unusual about the file, one line each.
    """

    frame: pd.DataFrame
    source: str
    sha256: str
    path: str
    notes: tuple[str, ...] = ()


def read_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    target: str | None = None,
    text: Sequence[str] = (),
) -> RawTable:
    """Read a table without interpreting it.

    Args:
      source: path to a CSV, CSV.gz, TSV or Parquet file, a DataFrame, or a built-in name.
      target: a column that should be there; helps to tell the separator.
      text: columns to keep as they are written ("007" stays "007").

    Returns:
      The table with at least one row.

    Raises:
      UserError: if there is no such file, or it is no table.
    """
    if isinstance(source, pd.DataFrame):
        frame, name = source.reset_index(drop=True), "the DataFrame"
        path, notes = "", list[str]()
        digest = _frame_digest(frame)
    else:
        name = str(source)
        data = _read_bytes(name)
        digest = hashlib.sha256(data).hexdigest()
        path = name if name in BUILTIN else str(Path(name).expanduser().absolute())
        name = Path(path).name
        frame, notes = _parse_bytes(data, name, target, frozenset(text))
    frame = frame.set_axis([str(column).strip() for column in frame.columns], axis="columns")
    check_names(list(frame.columns), name)
    if not len(frame):
        raise UserError(f"{name} has column names but no rows")
    return RawTable(frame, name, digest, path, tuple(notes))


def load_frame(
    source: str | os.PathLike[str] | pd.DataFrame, *, text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table for prediction: raw columns, for `Encoder.check` and `Encoder.transform`.

    Args:
      source: as for `load_table`.
      text: columns to keep as they are written, `Encoder.text_columns`.

    Returns:
      The table; rows as in the file.

    Raises:
      UserError: if there is no such file, or it is no table.
    """
    return read_table(source, text=text).frame


def _frame_digest(frame: pd.DataFrame) -> str:
    """sha256 of a DataFrame's names, types and values, the index left out."""
    digest = hashlib.sha256()
    for position, column in enumerate(frame.columns):
        values = frame.iloc[:, position]
        digest.update(f"{column}\0{values.dtype}\0".encode())
        try:
            hashed = pd.util.hash_pandas_object(values, index=False)
        except TypeError:
            hashed = pd.util.hash_pandas_object(values.astype(str), index=False)
        digest.update(hashed.to_numpy().tobytes())
    return digest.hexdigest()


def _read_bytes(name: str) -> bytes:
    """Read a file or a built-in table, or say why not."""
    if name in BUILTIN:
        return (resources.files("jaxopt_lab") / "data" / BUILTIN[name]).read_bytes()
    path = Path(name).expanduser()
    if path.is_dir():
        raise UserError(f"{name} is a directory; give a file in it, such as {name}/table.csv")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        known = [*BUILTIN]
        if path.parent.is_dir():
            known += [entry.name for entry in path.parent.iterdir()]
        raise UserError(f"there is no file {name}.{did_you_mean(path.name, known)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {name}: {reason}") from None
    if not data:
        raise UserError(f"{name} is empty")
    return data


def _parse_bytes(
    data: bytes, name: str, target: str | None, text: frozenset[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Tell the file format from the content, and read it."""
    if data[:4] == b"PAR1":
        return _read_parquet(data, name), []
    if Path(name).suffix.lower() in (".parquet", ".pq"):
        raise UserError(f"{name} is not a Parquet file, or it is damaged")
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise UserError(f"{name} is a damaged or incomplete gzip file") from None
    if data[:4] == b"PK\x03\x04":
        raise UserError(f"{name} is a zip or Excel file; save the sheet as CSV and give that")
    decoded, notes = _decode(data, name)
    frame, more = _read_csv(decoded, name, target, text)
    return frame, notes + more


def _read_parquet(data: bytes, name: str) -> pd.DataFrame:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError(
            f"{name} is a Parquet file; to read it: pip install 'jaxopt-lab[parquet]'"
        ) from None
    try:
        frame = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except Exception as error:  # pyarrow raises many kinds; all mean the same here
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} is a damaged Parquet file: {first_line}") from None
    return frame.reset_index(drop=all(level is None for level in frame.index.names))


def _decode(data: bytes, name: str) -> tuple[str, list[str]]:
    """Bytes to text: UTF-8 with or without BOM, UTF-16 with BOM, else Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), [f"{name} is UTF-16 text"]
        except UnicodeDecodeError:
            raise UserError(f"{name} is a binary file, not a table of text") from None
    head = data[:65536]
    control = sum(head.count(bytes([code])) for code in range(32) if code not in (9, 10, 12, 13))
    if b"\0" in head or control > 0.01 * len(head):
        raise UserError(f"{name} is a binary file, not a table of text; give CSV or Parquet")
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if error.end > len(data) - 4 and error.reason == "unexpected end of data":
            return data.decode("utf-8-sig", errors="replace"), [f"{name} ends inside a character"]
        return data.decode("latin-1"), [f"{name} is not UTF-8; read as Latin-1"]


def _read_csv(
    text: str, name: str, target: str | None, text_columns: frozenset[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Separated text to a DataFrame; every line must fit the header."""
    dialect = find_dialect(text, target)
    if dialect is None:
        raise UserError(f"{name} is empty")
    check_names([field for field in dialect.header if field], name)
    frame = _pandas_csv(text, name, dialect, [n for n in dialect.names if n in text_columns])
    if dialect.decimal == ",":
        frame = frame.apply(lambda v: v if v.name in text_columns else decimal_points(v))
    return frame, [f"{name}: {note}" for note in dialect.notes]


def _pandas_csv(text: str, name: str, dialect: Dialect, as_text: list[str]) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text),
                sep=dialect.separator,
                decimal=dialect.decimal,
                names=list(dialect.names),
                header=0,
                index_col=False,
                skipinitialspace=True,
                na_values=list(_NA_VALUES),
                dtype=dict.fromkeys(as_text, str),
                low_memory=False,
            )
    except pd.errors.ParserWarning:
        raise UserError(f"{name}: the first rows have more fields than the header") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "").strip()
        raise UserError(f"{name}: {reason}; quote fields that hold the separator") from None


def check_names(names: Sequence[str], source: str) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        shown = ", ".join(repr(name) for name in repeated[:5])
        hint = "" if not repeated[0][:1].isdigit() else "; is the first line the column names?"
        raise UserError(f"{source} has duplicate column names: {shown}; rename them{hint}")
