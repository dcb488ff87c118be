"""Hundreds of generated tables: each is read or refused in one line, and nothing else happens."""

import gzip

import numpy as np
import pandas as pd
import pytest

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.datasets import Encoder, fit_encoder, folds, load_frame, load_table, test_split
from jaxopt_lab.datasets.targets import TargetTransform

WORDS = ["", "NA", "None", "null", "?", ".", "--", "n/a", "#DIV/0!", "missing", "weg", " ", "nan"]
SCALES = [1e-320, 1e-200, 1e-30, 1e-3, 1.0, 1e3, 1e9, 1e30, 1e120, 1e200, 1e307]
SIGNS = ["$", "€", "₹", "USD ", "kr ", "R$ ", "CHF ", "", "", ""]
UNITS = [" kg", "%", " sqft", "k", "M", " €", " m²", "", "", ""]
DATES = [
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%y %I:%M %p", "%d-%b-%y", "%A, %B %d, %Y", "%Y%m%dT%H%M%S",
    "%b-%Y", "%Y-%m", "%H:%M", "%d.%m.%Y %H:%M", "%a %b %d %H:%M:%S %Y",
]  # fmt: skip
ODD = [
    "\0",
    "\u2028",
    '"',
    "'",
    "\\",
    ";",
    "|",
    "\t",
    "é",
    "e\u0301",
    "𝟙",
    "\ufeff",
    "\r",
    "½",
    "٣",
]


def numbers(rng: np.random.Generator, rows: int) -> list[str]:
    values = rng.normal(0.0, 1.0, rows) * rng.choice(SCALES)
    style = rng.integers(0, 7)
    if style == 0:
        return [repr(float(v)) for v in values]
    if style == 1:
        return [str(int(v)) if np.isfinite(v) and abs(v) < 1e30 else "0" for v in values]
    values = np.clip(values, -1e12, 1e12)
    texts = [f"{v:,.{rng.integers(0, 4)}f}" for v in values]
    swaps = [{}, {",": ".", ".": ","}, {",": " ", ".": ","}, {",": "'"}, {",": ""}]
    texts = [t.translate(str.maketrans(swaps[style - 2])) for t in texts]
    sign, unit = rng.choice(SIGNS), rng.choice(UNITS)
    if rng.random() < 0.2:
        texts = [f"({t[1:]})" if t[0] == "-" else t for t in texts]
    return [f"{sign}{t}{unit}" for t in texts]


def column(rng: np.random.Generator, rows: int) -> list[str]:
    kind = rng.integers(0, 7)
    if kind <= 2:
        cells = numbers(rng, rows)
    elif kind == 3:
        days = pd.Timestamp(2001, 2, 3) + pd.to_timedelta(rng.integers(0, 10**7, rows), unit="min")
        cells = [str(text) for text in days.strftime(str(rng.choice(DATES)))]
    elif kind == 4:
        cells = [str(c) for c in rng.choice(["TRUE", "FALSE", "yes", "no", "1", "0"], rows)]
    elif kind == 5:
        cells = [str(int(rng.integers(0, 2**62)) * 4 + k % 3) for k in range(rows)]
    else:
        cells = [
            "".join(rng.choice([*"abc 12,.-:", *ODD], rng.integers(0, 9))) for _ in range(rows)
        ]
    share = rng.choice([0.0, 0.0, 0.05, 0.3, 0.95])
    word = str(rng.choice(WORDS))
    return [word if rng.random() < share else cell for cell in cells]


def written(rng: np.random.Generator, columns: dict[str, list[str]]) -> bytes:
    """A file of the columns: any separator, quoting, encoding and damage."""
    separator = str(rng.choice([",", ";", "\t", "|"]))
    quote = rng.random() < 0.7

    def field(cell: str) -> str:
        odd = any(c in cell for c in (separator, '"', "\n", "\r"))
        return '"' + cell.replace('"', '""') + '"' if quote and odd else cell

    lines = [
        separator.join(field(cell) for cell in row) for row in zip(*columns.values(), strict=True)
    ]
    lines = [separator.join(map(field, columns)), *lines]
    if rng.random() < 0.2:
        lines.insert(0, str(rng.choice(["# made up", "A title", "sep=" + separator, ""])))
    if rng.random() < 0.3:
        lines.insert(int(rng.integers(1, len(lines))), "")
    text = str(rng.choice(["\n", "\r\n", "\r"])).join([*lines, ""])
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "shift_jis"]))
    data = bytearray(text.encode(encoding, errors="replace"))
    if rng.random() < 0.15:
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
    if rng.random() < 0.1:
        del data[int(rng.integers(1, len(data))) :]
    content = bytes(data)
    if rng.random() < 0.15:
        content = gzip.compress(content)
        content = content[: int(rng.integers(1, len(content)))] if rng.random() < 0.3 else content
    return content


def check_one(seed: int, path) -> bool:
    """Read, encode and split one generated table; whether it was accepted."""
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, 12, 30, 60, 60, 60]))
    columns = {f"c{k}": column(rng, rows) for k in range(rng.integers(1, 6))}
    labels = [str(label) for label in rng.choice(["None", "01", "a b", "2"], rows)]
    targets = [column, lambda rng, rows: numbers(rng, rows), lambda rng, rows: labels]
    columns["größe" if rng.random() < 0.1 else "y"] = targets[rng.integers(0, 3)](rng, rows)
    path.write_bytes(written(rng, columns))
    try:
        table = load_table(path, [*columns][-1])
        assert all("\n" not in note for note in table.notes)
        numeric = str(rng.choice(["standard", "quantile", "piecewise_linear"]))
        encoder = fit_encoder(
            table.frame,
            table.kinds,
            numeric=numeric,
            date_formats=table.date_formats,
            readings=table.readings,
        )
        encoder = Encoder.from_dict(encoder.to_dict())
        encoded = encoder.transform(table.frame)
        assert np.isfinite(encoded).all()
        raw = load_frame(path, wanted=encoder.columns)
        encoder.check(raw)
        again = encoder.transform(raw)
        if len(raw) == len(table):
            np.testing.assert_array_equal(again, encoded)
        if table.task == "regression":
            transform = TargetTransform.fit(table.target, table.log_target)
            assert np.isfinite(transform.inverse(transform.forward(table.target))).all()
        train, _ = test_split(table, 0.25, 0)
        folds(table.target[train], 2, 0, table.task == "classification", classes=table.classes)
    except (UserError, MachineError):
        return False
    return True


@pytest.mark.parametrize("block", range(4))
def test_generated_tables(tmp_path, block):
    accepted = sum(
        check_one(seed, tmp_path / "t.csv") for seed in range(50 * block, 50 * block + 50)
    )
    assert 10 < accepted < 50


@pytest.mark.slow
def test_many_generated_tables(tmp_path):
    for seed in range(1000, 6000):
        check_one(seed, tmp_path / "t.csv")
