"""Tables that are not separated text: Parquet, Excel, JSON, JSON lines and ARFF."""

from __future__ import annotations

import io
import json
import math
import unicodedata
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.compressed import MAX_BYTES, check_size
from jaxopt_lab.datasets.dialect import header_row

#: What a cell takes in memory at least, where its kind does not say; that of a cell of text is a
#: reference.
_CELL_BYTES = 8
_PARQUET_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4}


def read_parquet(data: bytes, name: str, max_bytes: int | None) -> tuple[pd.DataFrame, list[str]]:
    """Read Parquet through pandas and pyarrow."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise UserError(
            f"{name} is a Parquet file; to read it: pip install 'jaxopt-lab[parquet]'"
        ) from None
    try:
        _check_parquet(data, name, max_bytes)
        frame = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    except UserError:
        raise
    except Exception as error:  # pyarrow raises many kinds; all mean the same here
        raise UserError(f"{name} is a damaged Parquet file: {_first_line(error)}") from None
    return frame.reset_index(drop=all(level is None for level in frame.index.names)), []


def _check_parquet(data: bytes, name: str, max_bytes: int | None) -> None:
    """Refuse what would be too large once it is decoded: a cell written once may stand for all.

    Cells of text stay in their dictionaries here, so that nothing is unpacked to be counted.
    """
    from pyarrow import compute, parquet

    file = parquet.ParquetFile(io.BytesIO(data))
    about, columns = file.metadata, [file.schema.column(k) for k in range(len(file.schema))]
    packed = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
    check_size(packed, name, max_bytes)
    sizes = {column.path: _PARQUET_BYTES.get(column.physical_type) for column in columns}
    size = about.num_rows * sum(width or _CELL_BYTES for width in sizes.values())
    check_size(size, name, max_bytes)
    for column in columns:
        if column.physical_type != "BYTE_ARRAY" or column.path != column.name:
            continue
        coded = parquet.ParquetFile(io.BytesIO(data), read_dictionary=[column.name])
        for piece in coded.read(columns=[column.name]).column(0).chunks:
            lengths = compute.binary_length(getattr(piece, "dictionary", piece))
            if hasattr(piece, "indices"):
                lengths = lengths.take(piece.indices)
            size += compute.sum(lengths).as_py() or 0
            check_size(size, name, max_bytes)


def read_excel(
    data: bytes, name: str, wanted: Collection[str], max_bytes: int | None = MAX_BYTES
) -> tuple[pd.DataFrame, list[str]]:
    """Read a sheet of an Excel workbook through pandas and openpyxl.

    Of several sheets it is the one that has most of the wanted columns, the first of those.

    Raises:
      UserError: where none of several sheets has a wanted column, naming the sheets.
    """
    try:
        import openpyxl  # noqa: F401
    except ImportError:
        raise UserError(
            f"{name} is an Excel file; to read it: pip install 'jaxopt-lab[excel]',"
            " or save the sheet as CSV"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pd.ExcelFile(io.BytesIO(data), engine="openpyxl") as book:
                sheets = {str(sheet.title): sheet for sheet in book.book.worksheets}
                chosen = _choose_sheet(sheets, name, [as_name(name) for name in wanted])
                _check_sheet(sheets[chosen], name, max_bytes)
                cells = book.parse(
                    chosen, header=None, dtype=object, keep_default_na=False, na_filter=False
                )
    except UserError:
        raise
    except Exception as error:  # openpyxl raises many kinds; all mean the same here
        raise UserError(f"{name} is a damaged Excel file: {_first_line(error)}") from None
    rows = [[_written(cell) for cell in row] for row in cells.head(50).itertuples(index=False)]
    if not rows:
        raise UserError(f"{name} is empty: its sheet {chosen!r} has no cells")
    first = header_row(rows, [as_name(name) for name in wanted])
    notes = [f"{name}: skipped {first} rows above the column names"] if first else []
    if len(sheets) > 1:
        others = _listed_sheets([sheet for sheet in sheets if sheet != chosen])
        notes.append(f"{name}: read sheet {chosen!r}, not {others}")
    frame = cells.iloc[first + 1 :].reset_index(drop=True)
    frame.columns = [field or f"Unnamed: {k}" for k, field in enumerate(rows[first])]
    blank = frame.map(lambda cell: cell is None or (isinstance(cell, str) and not cell.strip()))
    frame = frame.mask(blank, None)
    while len(frame) and blank.iloc[len(frame) - 1].all():
        frame = frame.iloc[:-1]
    unnamed = [c for c in frame.columns if c.startswith("Unnamed: ") and frame[c].isna().all()]
    return frame.drop(columns=unnamed).infer_objects(), notes


def _choose_sheet(sheets: Mapping[str, Any], name: str, wanted: Sequence[str]) -> str:
    """The title of the sheet to read: of one sheet, or where nothing is wanted, the first."""
    first = next(iter(sheets))
    if len(sheets) == 1 or not wanted:
        return first
    headers = {}
    for title, sheet in sheets.items():
        sheet.reset_dimensions()
        cells = [list(map(_written, row)) for row in sheet.iter_rows(max_row=50, values_only=True)]
        headers[title] = set(map(as_name, cells[header_row(cells, wanted)])) if cells else set()
    found = {title: len(header & set(wanted)) for title, header in headers.items()}
    best = max(found, key=lambda title: found[title])
    if not found[best]:
        known = sorted(set().union(*headers.values()))
        raise UserError(
            f"none of the sheets of {name}, {_listed_sheets([*sheets])}, has a column "
            f"{wanted[0]!r}.{did_you_mean(wanted[0], known)}"
        )
    return best


def _listed_sheets(titles: Sequence[str]) -> str:
    shown = ", ".join(repr(title[:40]) for title in titles[:5])
    return shown + (f" and {len(titles) - 5} more" if len(titles) > 5 else "")


def _check_sheet(sheet: Any, name: str, max_bytes: int | None) -> None:
    """Refuse a sheet whose rows, all as wide as the widest, would be too large: two cells do."""
    sheet.reset_dimensions()  # what the file says of them may be wrong
    last = width = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        filled = len(row)
        while filled and row[filled - 1] is None:
            filled -= 1
        if filled:
            last, width = number, max(width, filled)
            check_size(last * width * _CELL_BYTES, name, max_bytes)


def _written(cell: Any) -> str:
    return (
        "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell).strip()
    )


def read_json(
    text: str, name: str, max_bytes: int | None = MAX_BYTES
) -> tuple[pd.DataFrame, list[str]]:
    """Read a JSON array of objects, or an object of columns."""
    content = _parse(text, name)
    if isinstance(content, dict):
        if {"columns", "data"} <= set(content):  # pandas' orient="split"
            return _frame_of_rows(content["columns"], content["data"], name, max_bytes)
        tables = [v for v in content.values() if isinstance(v, list) and v]
        records = [v for v in tables if all(isinstance(row, dict) for row in v)]
        if len(records) == 1:  # the rows and something about them
            return _frame_of(records[0], name, max_bytes)
        lengths = {len(column) for column in content.values() if isinstance(column, (list, dict))}
        if len(tables) == len(content) and len(lengths) == 1:
            return _frame_of(
                [dict(zip(content, row, strict=True)) for row in zip(*tables, strict=True)],
                name,
                max_bytes,
            )
        if content and all(isinstance(v, dict) for v in content.values()) and len(lengths) == 1:
            keys = list(next(iter(content.values())))
            if [*content] == [str(k) for k in range(len(content))]:  # pandas' orient="index"
                return _frame_of([*content.values()], name, max_bytes)
            rows = [{column: v.get(key) for column, v in content.items()} for key in keys]
            return _frame_of(rows, name, max_bytes)
        if content and not any(isinstance(v, (list, dict)) for v in content.values()):
            return _frame_of([content], name, max_bytes)  # JSON lines of one line
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        return _frame_of(content, name, max_bytes)
    if isinstance(content, list) and len(content) > 1:
        return _frame_of_rows(content[0], content[1:], name, max_bytes)
    raise UserError(f"{name} is JSON, but no table: give an array of objects, JSON lines, or CSV")


def _frame_of_rows(
    names: Any, rows: Any, name: str, max_bytes: int | None
) -> tuple[pd.DataFrame, list[str]]:
    """A table whose rows are lists, under a list of names."""
    lists = isinstance(names, list) and isinstance(rows, list)
    if not lists or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        raise UserError(
            f"{name} is JSON, but no table: give an array of objects, JSON lines, or CSV"
        )
    check = [field for field in names if not isinstance(field, str) or not field.strip()]
    if check or any(_is_number(field) for field in names):
        raise UserError(f"{name} is JSON whose first row holds no column names; add a row of names")
    if len(set(names)) < len(names):
        raise UserError(f"{name} has two columns of one name; rename one")
    return _frame_of([dict(zip(names, row, strict=True)) for row in rows], name, max_bytes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_json_lines(
    text: str, name: str, max_bytes: int | None = MAX_BYTES
) -> tuple[pd.DataFrame, list[str]]:
    """Read one JSON object a line."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            row = _parse(line, f"{name}, line {number},")
            if not isinstance(row, dict):
                raise UserError(f"{name}, line {number}, is no JSON object")
            rows.append(row)
    return _frame_of(rows, name, max_bytes)


def _parse(text: str, name: str) -> Any:
    """JSON with numbers as they are written, since labels may be numbers."""
    try:
        return json.loads(
            text, parse_float=str, parse_int=str, parse_constant=lambda word: word.lower()
        )
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not valid JSON: {_first_line(error)}") from None


def _frame_of(
    rows: Sequence[Mapping[str, Any]], name: str, max_bytes: int | None
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of text, blank where a key is absent or null."""
    keys = dict.fromkeys(key for row in rows for key in row)
    check_size(len(rows) * len(keys) * _CELL_BYTES, name, max_bytes)
    columns = {key: [_cell(row.get(key)) for row in rows] for key in keys}
    frame = pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in columns.items()})
    if frame.empty:
        raise UserError(f"{name} holds no rows")
    return frame, [f"{name} is JSON"]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def read_arff(
    text: str, name: str, max_bytes: int | None = MAX_BYTES
) -> tuple[pd.DataFrame, list[str]]:
    """Read Weka's format through scipy."""
    from scipy.io import arff

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, about = arff.loadarff(io.StringIO(text))
    except Exception as error:  # scipy raises many kinds; all mean the same here
        reason = _first_line(error)
        raise UserError(f"cannot read {name} as ARFF ({reason}); export the table as CSV") from None
    columns: dict[str, Any] = {}
    for column, kind in zip(about.names(), about.types(), strict=True):
        cells = values[column]
        if kind == "nominal":
            labels = [cell.decode() if isinstance(cell, bytes) else str(cell) for cell in cells]
            cells = pd.Series(["" if label == "?" else label for label in labels], dtype=object)
        columns[column] = cells
    return pd.DataFrame(columns), [f"{name} is ARFF"]


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def as_name(name: object) -> str:
    """A column's name: stripped, in Unicode's composed form."""
    text = str(name).strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


Reader = Callable[[str, str, int | None], tuple[pd.DataFrame, list[str]]]
TEXT_READERS: Mapping[str, Reader] = {
    "json": read_json,
    "json lines": read_json_lines,
    "arff": read_arff,
}
