"""`fit_encoder`: a cleaned table -> an `Encoder` that makes float32 rows of any table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.cleaning import MANY_CATEGORIES
from jaxopt_lab.datasets.column_codes import (
    CategoryCode,
    NumericCode,
    code_from_dict,
    code_to_dict,
    encode_labels,
    encode_numbers,
    fit_categories,
    fit_numeric,
    label_positions,
    unseen_labels,
)
from jaxopt_lab.datasets.columns import (
    HUGE,
    FloatArray,
    Kind,
    as_cells,
    date_parts,
    is_text,
    to_categories,
    to_dates,
    to_numbers,
)
from jaxopt_lab.datasets.neighbours import NearCode, fit_near
from jaxopt_lab.datasets.number_reading import NumberReading, unseen_grouping
from jaxopt_lab.datasets.reading import as_name

NUMERIC_ENCODINGS = ("standard", "quantile", "piecewise_linear")
"""How columns of numbers can be encoded."""
MAX_TREE_CATEGORIES = 254
"""scikit-learn's trees take at most 255 categories; rarer ones are pooled, or count as missing."""


@dataclass(frozen=True)
class Encoder:
    """Learned encoding of a table's feature columns.

    Args:
      codes: one for each column of numbers or labels; several for a date.
      numeric: how numbers are encoded.
      near: targets of the nearest training rows, whose columns come last; None for none.

    Raises:
      ValueError: if there is no code, the encoding is unknown, or the nearest rows are found by
        columns that have no code.
    """

    codes: tuple[NumericCode | CategoryCode, ...]
    numeric: str = "piecewise_linear"
    near: NearCode | None = None

    def __post_init__(self) -> None:
        if self.numeric not in NUMERIC_ENCODINGS:
            raise ValueError(f"numeric must be one of {NUMERIC_ENCODINGS}, got {self.numeric!r}")
        if not self.codes:
            raise ValueError("an encoder needs at least one column")
        if self.near is not None and not all(self._numbers(c) for c in self.near.columns):
            raise ValueError("neighbours are found by columns of numbers")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Table columns needed, in order."""
        return tuple(dict.fromkeys(code.column for code in self.codes))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the encoded columns [F]."""
        names = [name for code in self.codes for name in code.names]
        return (*names, *(self.near.names if self.near else ()))

    @property
    def num_features(self) -> int:
        """Number F of encoded columns."""
        return len(self.feature_names)

    def _numbers(self, column: str) -> NumericCode | None:
        """The code of a column of numbers."""
        mine = (c for c in self.codes if isinstance(c, NumericCode) and not c.part)
        return next((code for code in mine if code.column == column), None)

    def transform(
        self, frame: pd.DataFrame, kin: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Encode a table; each row by itself.

        Text is read as the training's was. Missing and unreadable numbers become the training
        median; labels never seen go to the pooled column, or to none where training had no rare
        label.

        Args:
          frame: a cleaned or raw table with at least `columns`; others are ignored.
          kin: [n] of `with_near`, of rows that are training rows, -1 of others; None: none is.

        Returns:
          Float32 [n, F], finite.

        Raises:
          UserError: if a column is missing.
        """
        frame = self._need_columns(frame)
        encoded = np.empty((len(frame), self.num_features), dtype=np.float32)
        start = 0
        for code, values in self._read(frame):
            out = encoded[:, start : start + len(code.names)]
            start += len(code.names)
            if isinstance(code, CategoryCode):
                encode_labels(values, code, out)
            else:
                encode_numbers(values, code, out)
        if self.near is not None:
            encoded[:, start:] = self.near.encode(self._places(frame, self.near.columns), kin)
        return encoded

    def raw(self, frame: pd.DataFrame, kin: NDArray[np.intp] | None = None) -> FloatArray:
        """Read a table as `transform` does, and leave the columns as trees take them.

        Args:
          frame: as in `transform`.
          kin: likewise.

        Returns:
          Float64 [n, C], a column for each code: numbers with NaN where missing or unreadable; of
          labels the position among the code's, NaN where training saw no such label. Then those
          of `near`.

        Raises:
          UserError: if a column is missing.
        """
        frame = self._need_columns(frame)
        found = np.empty((len(frame), self.num_raw), order="F")
        for place, (code, values) in enumerate(self._read(frame)):
            if isinstance(code, CategoryCode):
                positions = label_positions(values, code)
                found[:, place] = np.where(positions < 0, np.nan, positions)
            else:
                found[:, place] = values
        if self.near is not None:
            found[:, len(self.codes) :] = self.near.raw(self._places(frame, self.near.columns), kin)
        return found

    @property
    def num_raw(self) -> int:
        """Number C of the columns that `raw` gives."""
        return len(self.codes) + (len(self.near.names) if self.near else 0)

    def _places(self, frame: pd.DataFrame, columns: tuple[str, str]) -> FloatArray:
        """The two columns [n, 2] by which neighbours are found, NaN where missing."""
        readings = [code.reading if (code := self._numbers(c)) else None for c in columns]
        pairs = zip(columns, readings, strict=True)
        return np.stack([_finite(to_numbers(frame[c], r)[0]) for c, r in pairs], axis=1)

    def with_near(
        self,
        columns: tuple[str, str],
        frame: pd.DataFrame,
        targets: FloatArray,
        kin: NDArray[np.intp],
    ) -> Encoder:
        """An encoder that looks at the targets of the nearest training rows, too.

        Args:
          columns: two columns of numbers that say where a row is.
          frame: training rows [n].
          targets: theirs [n, t], standardised, or shares of classes.
          kin: [n], the same number for rows that must not tell of each other: what `transform`
            and `raw` take of training rows.

        Raises:
          UserError: if the encoder does not know the columns, or too few rows have a place.
        """
        for column in columns:
            if self._numbers(column) is None:
                raise UserError(f"near: the column {column!r} has one value in training rows")
        places = self._places(frame, columns)
        return replace(self, near=fit_near(columns, places, targets, kin))

    def _read(
        self, frame: pd.DataFrame
    ) -> Iterator[tuple[NumericCode | CategoryCode, NDArray[Any]]]:
        """Each code with its column as labels, or as numbers with NaN where missing."""
        parts = dict[str, dict[str, FloatArray]]()
        for code in self.codes:
            values = frame[code.column]
            if isinstance(code, CategoryCode):
                yield code, to_categories(values, code.exact)
            elif code.part:
                if code.column not in parts:
                    parts[code.column] = date_parts(to_dates(values, code.date_format)[0])
                yield code, parts[code.column][code.part]
            else:
                yield code, _finite(to_numbers(values, code.reading)[0])

    def check(self, frame: pd.DataFrame) -> list[str]:
        """Say what `transform` would repair in a table.

        Args:
          frame: a raw table.

        Returns:
          One line for each column with unreadable, infinite or unseen values.

        Raises:
          UserError: if a column is missing.
        """
        frame = self._need_columns(frame)
        by_column = {code.column: code for code in self.codes}
        return [note for code in by_column.values() for note in _notes(frame[code.column], code)]

    def to_dict(self) -> dict[str, Any]:
        """Give the encoder as plain JSON values; `from_dict` rebuilds it exactly."""
        codes = [code_to_dict(code) for code in self.codes]
        found = {"schema": 1, "numeric": self.numeric, "codes": codes}
        return {**found, "near": self.near.to_dict()} if self.near else found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Encoder:
        """Rebuild an encoder from `to_dict`.

        Raises:
          ValueError: if the data are not an encoder's.
        """
        try:
            if data["schema"] != 1:
                raise ValueError(f"encoder of unknown schema {data['schema']!r}")
            codes = tuple(code_from_dict(code) for code in data["codes"])
            near = NearCode.from_dict(data["near"]) if "near" in data else None
            return cls(codes, data["numeric"], near)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored encoder: {error}") from None

    def _need_columns(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns that are needed, under the names of the training table."""
        names = [as_name(name) for name in frame.columns]
        places = {name: place for place, name in enumerate(names)}
        wanted = {column: as_name(column) for column in self.columns}
        absent = [column for column, name in wanted.items() if name not in places]
        if absent:
            near = did_you_mean(absent[0], [name for name in names if name not in self.columns])
            what = "a needed column" if len(absent) == 1 else f"{len(absent)} needed columns"
            shown = ", ".join(repr(column) for column in absent[:10])
            more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
            raise UserError(f"the table lacks {what}: {shown}{more}.{near}")
        if len(places) < len(names):
            counts = Counter(names)
            doubled = [column for column, name in wanted.items() if counts[name] > 1]
            if doubled:
                raise UserError(f"the table has duplicate column names: {doubled[0]!r}")
        chosen = frame.iloc[:, [places[name] for name in wanted.values()]]
        return chosen.set_axis(pd.Index(list(wanted), dtype=object), axis="columns")


def _finite(numbers: FloatArray) -> FloatArray:
    return np.where(np.abs(numbers) > HUGE, np.nan, numbers)


def _notes(values: pd.Series, code: NumericCode | CategoryCode) -> list[str]:
    """What is odd in one column of a table for prediction."""
    name = code.column
    if isinstance(code, CategoryCode):
        unseen = unseen_labels(to_categories(values, code.exact), code)
        if not unseen:
            return []
        how = "pooled with the rare ones" if code.pooled else "encoded as none of the known ones"
        shown = ", ".join(repr(label[:30]) for label in unseen[:3])
        more = " ..." if len(unseen) > 3 else ""
        return [f"column {name!r}: {len(unseen)} labels rare or new ({shown}{more}) are {how}"]
    notes = []
    if code.part:
        stray, kind = to_dates(values, code.date_format)[1], "dates"
    else:
        numbers, stray = to_numbers(values, code.reading)
        stray, kind = stray | (np.abs(numbers) > HUGE), "finite numbers"
        if code.reading is not None and is_text(values):
            odd = unseen_grouping(as_cells(values), code.reading)
            if odd is not None:
                notes.append(f"column {name!r}: {odd[0]!r} is read as {odd[1]:.15g}")
            if code.reading.unit:
                kind = f"finite numbers in {code.reading.unit}"
    if stray.any():
        example = str(values[stray].iloc[0])[:30]
        count = int(stray.sum())
        what = f"{count} values are no {kind} ({example!r} ...) and count as missing"
        notes.append(f"column {name!r}: {what}")
    return notes


def default_num_bins(num_rows: int) -> int:
    """Bins of `piecewise_linear` from the number of training rows: its square root, 32 to 96.

    Tried with a few networks each: on 20,000 rows the hold-out loss falls from 24 to 48 to 96 bins,
    on 2,300 rows slightly, and on 800 rows 24 and 48 are equal within noise.
    """
    return min(max(round(num_rows**0.5), 32), 96)


def fit_encoder(
    frame: pd.DataFrame,
    kinds: Mapping[str, Kind],
    *,
    numeric: str = "piecewise_linear",
    num_bins: int | None = None,
    max_categories: int = MANY_CATEGORIES,
    min_frequency: int | None = None,
    date_formats: Mapping[str, str] | None = None,
    readings: Mapping[str, NumberReading] | None = None,
) -> Encoder:
    """Learn the encoding of a table from its training rows.

    Args:
      frame: cleaned training rows [n], `Table.frame`.
      kinds: column -> kind, `Table.kinds`.
      numeric: "standard" (median, mean and standard deviation), "quantile" (to a normal
        distribution) or "piecewise_linear" (the standardised value and bins between
        training quantiles).
      num_bins: bins per column for "piecewise_linear"; None takes `default_num_bins`.
      max_categories: at most this many encoded columns for one column of labels.
      min_frequency: labels of fewer rows are pooled; None takes 0.3 % of the rows, between
        2 and 10.
      date_formats: formats of text dates, `Table.date_formats`.
      readings: how text columns write their numbers, `Table.readings`.

    Returns:
      The encoder.

    Raises:
      ValueError: if a setting is outside its range.

    Source: Gorishniy et al. 2022, arXiv:2203.05556 (piecewise-linear encoding).

    Examples:
      >>> frame = pd.DataFrame({"rooms": [1.0, 2.0, 3.0], "wall": ["brick", "wood", "wood"]})
      >>> fit_encoder(frame, {"rooms": "numeric", "wall": "categorical"}).feature_names
      ('rooms', 'rooms:bin0', 'rooms:bin1', 'wall=wood', 'wall=(rare)')
    """
    if numeric not in NUMERIC_ENCODINGS:
        raise UserError(
            f"numeric encoding must be one of {', '.join(NUMERIC_ENCODINGS)}, got {numeric!r}."
            f"{did_you_mean(numeric, NUMERIC_ENCODINGS)}"
        )
    num_bins = default_num_bins(len(frame)) if num_bins is None else num_bins
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    if max_categories < 2:
        raise ValueError(f"max_categories must be at least 2, got {max_categories}")
    if not len(frame):
        raise ValueError("cannot fit an encoder on no rows")
    rare = max(2, min(10, round(0.003 * len(frame)))) if min_frequency is None else min_frequency
    codes: list[NumericCode | CategoryCode] = []
    frame = frame.set_axis(pd.Index(frame.columns, dtype=object), axis="columns")
    for column, kind in kinds.items():
        values = frame[column]
        if kind == "categorical":
            codes.append(fit_categories(to_categories(values), column, max_categories, rare))
        elif kind == "numeric":
            reading = (readings or {}).get(column)
            numbers = _finite(to_numbers(values, reading)[0])
            codes.append(fit_numeric(numbers, column, numeric, num_bins, reading=reading))
        else:
            form = (date_formats or {}).get(column)
            codes += _fit_dates(values, column, numeric, num_bins, form)
    return Encoder(tuple(codes), numeric)


def _fit_dates(
    values: pd.Series, column: str, numeric: str, num_bins: int, form: str | None
) -> Sequence[NumericCode]:
    """Codes of the date parts that vary; always the ordinal."""
    parts = date_parts(to_dates(values, form)[0])
    varied = {part: v for part, v in parts.items() if np.unique(v[~np.isnan(v)]).size > 1}
    varied.setdefault("ordinal", parts["ordinal"])
    return [fit_numeric(v, column, numeric, num_bins, part, form) for part, v in varied.items()]


def fit_raw(
    frame: pd.DataFrame,
    kinds: Mapping[str, Kind],
    *,
    date_formats: Mapping[str, str] | None = None,
    readings: Mapping[str, NumberReading] | None = None,
) -> Encoder:
    """Learn how to read a table for `Encoder.raw`: labels first, then numbers.

    Args:
      frame: cleaned training rows [n], `Table.frame`.
      kinds: column -> kind, `Table.kinds`.
      date_formats: as in `fit_encoder`.
      readings: likewise.

    Returns:
      An encoder that tells at most `MAX_TREE_CATEGORIES` labels of a column apart.
    """
    ordered = dict(sorted(kinds.items(), key=lambda pair: pair[1] != "categorical"))
    return fit_encoder(
        frame,
        ordered,
        numeric="standard",
        max_categories=MAX_TREE_CATEGORIES,
        min_frequency=1,
        date_formats=date_formats,
        readings=readings,
    )
