"""Tables as they come: what is repaired with a note, what is refused in one line."""

import builtins
import gzip
import hashlib
from datetime import date

import numpy as np
import pandas as pd
import pytest

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import load_frame, load_table
from jaxopt_lab.datasets.columns import date_parts, find_date_format, to_dates, to_numbers
from jaxopt_lab.datasets.encoders import fit_encoder

ROWS = 40


def make_frame(**columns) -> pd.DataFrame:
    """A clean table of 40 rows, with more or other columns."""
    rng = np.random.default_rng(0)
    base = {
        "area": rng.normal(100.0, 20.0, ROWS).round(3),
        "wall": rng.choice(["brick", "wood", "stone"], ROWS),
        "price": rng.normal(1000.0, 50.0, ROWS).round(2),
    }
    return pd.DataFrame(base | columns)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def notes_with(table, word) -> list[str]:
    return [note for note in table.notes if word in note]


def test_clean_table_has_no_notes_and_the_right_parts(tmp_path):
    path = tmp_path / "houses.csv"
    frame = make_frame()
    frame.to_csv(path, index=False)
    table = load_table(path, "price")
    assert table.notes == ()
    assert table.task == "regression"
    assert dict(table.kinds) == {"area": "numeric", "wall": "categorical"}
    np.testing.assert_array_equal(table.target, frame["price"].to_numpy())
    np.testing.assert_array_equal(table.frame["area"], frame["area"])
    assert table.frame["wall"].tolist() == frame["wall"].tolist()
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (table.source, table.target_name, table.log_target) == ("houses.csv", "price", False)


def test_take_keeps_order_and_the_rest():
    table = load_table(make_frame(), "price")
    part = table.take([3, 1])
    np.testing.assert_array_equal(part.target, table.target[[3, 1]])
    assert part.frame["area"].tolist() == table.frame["area"].iloc[[3, 1]].tolist()
    assert (len(part), part.kinds, part.sha256) == (2, table.kinds, table.sha256)
    mask = np.arange(ROWS) < 5
    assert len(table.take(mask)) == 5


def test_builtin_table():
    table = load_table("lucas_houses", "price")
    assert (len(table), table.frame.shape[1], table.log_target) == (25357, 17, True)
    assert sum(kind == "categorical" for kind in table.kinds.values()) == 3


def test_frame_digest_follows_content_not_index():
    frame = make_frame()
    first = load_table(frame, "price").sha256
    assert load_table(frame.set_axis(range(7, 7 + ROWS)), "price").sha256 == first
    changed = frame.copy()
    changed.loc[3, "area"] += 1e-9
    assert load_table(changed, "price").sha256 != first


# --- file formats


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_read_the_same(tmp_path, separator, encoding):
    frame = make_frame(wall=["grün, tief", "blau"] * (ROWS // 2))
    path = write(tmp_path / "t.csv", frame.to_csv(index=False, sep=separator), encoding)
    table = load_table(path, "price")
    np.testing.assert_array_equal(table.frame["area"], frame["area"])
    assert table.frame["wall"].tolist() == frame["wall"].tolist()
    assert bool(notes_with(table, "separated")) == (separator != ",")


def test_windows_1252_is_read_with_a_note(tmp_path):
    frame = make_frame(wall=["grün", "weiß"] * (ROWS // 2))
    path = write(tmp_path / "t.csv", frame.to_csv(index=False), "latin-1")
    table = load_table(path, "price")
    assert table.frame["wall"].iloc[0] == "grün"
    assert notes_with(table, "Windows-1252")


def test_gzip_and_parquet_read_as_the_csv(tmp_path):
    frame = make_frame()
    zipped = tmp_path / "t.csv.gz"
    zipped.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    parquet = tmp_path / "t.parquet"
    frame.to_parquet(parquet)
    for path in (zipped, parquet):
        table = load_table(path, "price")
        np.testing.assert_array_equal(table.frame["area"], frame["area"])
        np.testing.assert_array_equal(table.target, frame["price"])


def test_decimal_comma_and_thousands(tmp_path):
    lines = [f"{1000 + k}".replace("1", "1.", 1) + f",25;{k},5;{k % 7},125" for k in range(ROWS)]
    path = write(tmp_path / "t.csv", "price;area;depth\n" + "\n".join(lines) + "\n")
    table = load_table(path, "price")
    np.testing.assert_allclose(table.target, 1000.25 + np.arange(ROWS))
    np.testing.assert_allclose(table.frame["area"], np.arange(ROWS) + 0.5)
    np.testing.assert_allclose(table.frame["depth"], np.arange(ROWS) % 7 + 0.125)


def test_money_and_percent_text_is_numeric():
    values = [f"${1000 + k:,}" for k in range(ROWS)]
    table = load_table(make_frame(price=values, share=[f"{k % 9} %" for k in range(ROWS)]), "price")
    np.testing.assert_array_equal(table.target, 1000.0 + np.arange(ROWS))
    np.testing.assert_array_equal(table.frame["share"], np.arange(ROWS) % 9)
    assert notes_with(table, "read as numbers")


def test_quoted_separators_newlines_and_trailing_separators(tmp_path):
    rows = "".join(f'{k}.5,"a, ""b""\nline {k % 2}",{k + 1},\n' for k in range(20))
    table = load_table(write(tmp_path / "t.csv", "area,text,price\n" + rows), "price")
    assert table.frame["text"].nunique() == 2
    np.testing.assert_array_equal(table.frame["area"], np.arange(20) + 0.5)


def test_row_names_as_r_writes_them(tmp_path):
    rows = "".join(f'"{k + 1}" {k}.5 {k % 3} {k * k}\n'.replace(" ", ",") for k in range(30))
    table = load_table(write(tmp_path / "t.csv", "area,rooms,price\n" + rows), "price")
    assert list(table.frame.columns) == ["area", "rooms"]
    np.testing.assert_array_equal(table.target, np.arange(30) ** 2)


# --- columns


def test_missing_infinite_constant_and_empty_columns():
    area = np.linspace(1.0, 2.0, ROWS)
    area[3], area[4], area[5] = np.nan, np.inf, -np.inf
    frame = make_frame(area=area, same=1, empty=np.nan, none=[None] * ROWS)
    table = load_table(frame, "price")
    assert list(table.frame.columns) == ["area", "wall"]
    assert table.frame["area"].isna().sum() == 3
    assert notes_with(table, "infinite") == [
        "infinite values in numeric columns count as missing: area (2)"
    ]
    assert notes_with(table, "constant") == ["dropped constant columns: same"]
    assert notes_with(table, "without any") == ["dropped columns without any value: empty, none"]
    assert all("\n" not in note for note in table.notes)


def test_identifiers_and_near_unique_text_are_dropped():
    shuffled = np.random.default_rng(1).permutation(ROWS) * 3 + 7
    frame = make_frame(
        number=np.arange(1, ROWS + 1), sale_id=shuffled, name=[f"owner {k}" for k in range(ROWS)]
    )
    table = load_table(frame, "price")
    assert list(table.frame.columns) == ["area", "wall"]
    assert notes_with(table, "number the rows: number, sale_id")
    assert notes_with(table, "nearly every row: name")


def test_a_counter_that_is_the_only_feature_stays():
    frame = pd.DataFrame({"x": np.arange(ROWS), "price": np.arange(ROWS) * 2.5})
    assert list(load_table(frame, "price").frame.columns) == ["x"]


def test_rows_without_target_are_dropped_and_duplicates_kept():
    frame = make_frame()
    frame.loc[[2, 9], "price"] = np.nan
    frame = pd.concat([frame, frame.iloc[:3]], ignore_index=True)
    table = load_table(frame, "price")
    assert len(table) == ROWS - 2 + 2
    assert notes_with(table, "dropped 3 rows without a target")
    assert notes_with(table, "3 duplicate rows")


def test_stray_text_in_numbers_becomes_missing_up_to_five_percent():
    text = [str(k * 1.5) for k in range(ROWS)]
    table = load_table(make_frame(area=[*text[:-1], "n.a.!"]), "price")
    assert table.kinds["area"] == "numeric"
    assert np.isnan(table.frame["area"].iloc[-1])
    assert notes_with(table, "n.a.!")
    coarse = load_table(make_frame(area=["low", "high", "3"] * 13 + ["4"]), "price")
    assert coarse.kinds["area"] == "categorical"


def test_a_file_beyond_the_limit_is_named_once(tmp_path):
    path = tmp_path / "t.csv"
    write(path, "a,price\n" + "1,2\n" * 100)
    with pytest.raises(UserError, match=r"^[^:]*t\.csv holds more than"):
        load_table(path, "price", max_bytes=100)


def test_approximate_numbers_count_and_are_named():
    cells = [f"~{k}.5" if k % 3 == 0 else f"{k}.5" for k in range(ROWS)]
    table = load_table(make_frame(area=cells, price=cells), "price")
    np.testing.assert_array_equal(table.frame["area"], np.arange(ROWS) + 0.5)
    np.testing.assert_array_equal(table.target, np.arange(ROWS) + 0.5)
    feature, target = sorted(notes_with(table, "approximate numbers count as exact"))
    assert feature.endswith("area (14, '~0.5' is 0.5)")
    assert target.startswith("target price:")


def test_bounds_are_no_numbers_and_that_is_said():
    cells = ["<5" if k % 3 == 0 else f"{k % 9}.5" for k in range(ROWS)]
    table = load_table(make_frame(area=cells), "price")
    assert table.kinds["area"] == "categorical"
    assert notes_with(table, "are labels: area (65% of its values are numbers, but not '<5')")


def test_text_formulas_of_spreadsheets_are_their_text(tmp_path):
    path = tmp_path / "t.csv"
    lines = [f'="0{k}","=""{k}.5""",="{"ab"[k % 2]} ",{k}' for k in range(ROWS)]
    write(path, "code,area,wall,price\n" + "\n".join(lines) + "\n")
    raw = load_frame(path)
    assert raw["code"][1] == "01"
    table = load_table(path, "price")
    np.testing.assert_array_equal(table.frame["area"], np.arange(ROWS) + 0.5)
    assert set(table.frame["wall"]) == {"a", "b"}


def test_dates_of_two_formats_are_read_alike_for_prediction():
    days = pd.date_range("2019-01-05", periods=ROWS, freq="9D")
    cells = [f"{day:%m/%d/%Y}" if k % 2 else f"{day:%Y-%m-%d}" for k, day in enumerate(days)]
    table = load_table(make_frame(sold=cells), "price")
    assert (table.frame["sold"] == days).all()
    assert notes_with(table, "sold (ISO8601 or %m/%d/%Y)")
    options = {"date_formats": table.date_formats, "readings": table.readings}
    encoder = fit_encoder(table.frame[["sold"]], {"sold": "date"}, **options)
    new = pd.DataFrame({"sold": ["05/02/2019", "2019-05-02"]})
    first, second = encoder.transform(new)
    np.testing.assert_array_equal(first, second)


def test_booleans_become_numbers():
    frame = make_frame(
        new=[True, False] * (ROWS // 2), old=pd.array([True, None] * (ROWS // 2), dtype="boolean")
    )
    table = load_table(frame, "price")
    assert table.frame["new"].tolist() == [1.0, 0.0] * (ROWS // 2)
    assert table.frame["old"].isna().sum() == ROWS // 2


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("%Y-%m-%d", "ISO8601"),
        ("%d.%m.%Y", "%d.%m.%Y"),
        ("%m/%d/%Y", "%m/%d/%Y"),
        ("%d/%m/%Y", "%d/%m/%Y"),
        ("%Y-%m-%d %H:%M:%S", "ISO8601"),
        ("%d %b %Y", "%d %b %Y"),
    ],
)
def test_text_dates_are_found(written, form):
    days = pd.date_range("2019-01-05", periods=ROWS, freq="9D")
    table = load_table(make_frame(sold=days.strftime(written)), "price")
    assert table.kinds["sold"] == "date"
    assert table.date_formats["sold"] == form
    assert (table.frame["sold"].dt.normalize() == days).all()
    assert notes_with(table, "dates become")


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_typed_dates_and_date_objects(zone):
    days = pd.date_range("2019-01-05", periods=ROWS, freq="9D", tz=zone)
    objects = [date(2000 + k, 1, 2) for k in range(ROWS)]
    table = load_table(make_frame(sold=days, built=pd.Series(objects, dtype=object)), "price")
    assert table.kinds["sold"] == table.kinds["built"] == "date"
    assert table.frame["built"].dt.year.tolist() == list(range(2000, 2000 + ROWS))


def test_date_parts():
    parts = date_parts(to_dates(pd.Series(["1970-01-03 06:30", None]), None)[0])
    assert {part: values[0] for part, values in parts.items()} == {
        "year": 1970.0,
        "month": 1.0,
        "day": 3.0,
        "ordinal": 2.0,
        "hour": 6.5,
    }
    assert all(np.isnan(values[1]) for values in parts.values())
    assert find_date_format(pd.Series(["12-14", "13-15"])) is None


def test_columns_of_lists_and_odd_types():
    frame = make_frame(
        cells=pd.Series([[1, 2]] * ROWS, dtype=object),
        span=pd.to_timedelta(np.arange(ROWS), unit="h"),
        whole=pd.array([1, 2, None, 4] * 10, dtype="Int64"),
        kind=pd.Categorical(["a", "b"] * 20),
    )
    table = load_table(frame, "price")
    assert notes_with(table, "neither numbers, text nor dates: cells")
    np.testing.assert_allclose(table.frame["span"], np.arange(ROWS) / 24.0)
    assert table.frame["whole"].isna().sum() == 10
    assert table.kinds["kind"] == "categorical"


def test_many_categories_are_noted():
    names = [f"street {k % 60}" for k in range(300)]
    frame = pd.DataFrame({"street": names, "price": np.random.default_rng(0).normal(size=300)})
    assert notes_with(load_table(frame, "price"), "street (60)")


def test_numbers_in_text():
    """Without a reading, as in a model of an earlier version."""
    texts = pd.Series(["1,234.5", "€ 7", "12%", "1e3", " 4 ", "True", "1,23", "abc", None, ""])
    numbers, stray = to_numbers(texts)
    np.testing.assert_array_equal(numbers[:6], [1234.5, 7.0, 12.0, 1000.0, 4.0, 1.0])
    assert np.isnan(numbers[6:]).all()
    assert stray.tolist() == [False] * 6 + [True, True, False, False]


# --- targets


def test_dates_may_be_labels():
    frame = make_frame(price=["2014-Q1", "2014-Q2"] * (ROWS // 2))
    table = load_table(frame, "price", task="classification")
    assert table.classes == ("2014-Q1", "2014-Q2")
    with pytest.raises(UserError, match=r"holds dates.*--task classification"):
        load_table(frame, "price")


def test_words_in_a_date_column_are_named():
    days = [f"{1 + k % 28:02d}.03.2014" if k % 8 else "unknown" for k in range(ROWS)]
    table = load_table(make_frame(sold=days), "price")
    assert notes_with(table, "text in date columns counts as missing: sold (5 'unknown')")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["yes", "no"] * 20, ("no", "yes")),
        ([True, False] * 20, (False, True)),
        ([3, 1, 2, 1] * 10, (1, 2, 3)),
        ([3.0, 1.0, None, 1.0] * 10, (1, 3)),
        (["1", "2", "3+", "2"] * 10, ("1", "2", "3+")),
    ],
)
def test_auto_classification(values, classes):
    table = load_table(make_frame(price=values), "price")
    assert table.task == "classification"
    assert table.classes == classes
    assert [type(label) for label in table.classes] == [type(label) for label in classes]
    present = [value for value in values if value is not None]
    assert [table.classes[code] for code in table.target] == present
    assert table.num_classes == len(classes)


@pytest.mark.parametrize(
    "values", [np.arange(ROWS) % 25, np.array([0.5, 1.5] * 20), np.array([1.0, 2.0] * 20)]
)
def test_auto_regression(values):
    assert load_table(make_frame(price=values), "price").task == "regression"


def test_one_control_character_over_and_over_is_a_character_that_was_not_known(tmp_path):
    lines = [f"{k},Joe\x1a{'s' * (k % 2)},{k * 0.5}" for k in range(ROWS)]
    (tmp_path / "made.csv").write_text("size,owner,price\n" + "\n".join(lines) + "\n")
    table = load_table(tmp_path / "made.csv", "price")
    assert len(table.target) == ROWS


@pytest.mark.parametrize("as_text", [False, True])
def test_whole_numbers_that_too_few_rows_have_are_counts(as_text):
    """A number of visits is no class, though few values of it occur."""
    counts = [0] * 20 + [1] * 10 + [2] * 7 + [3] * 2 + [7]
    values = [str(value) for value in counts] if as_text else counts
    table = load_table(make_frame(price=values), "price")
    assert table.task == "regression"
    np.testing.assert_array_equal(table.target, counts)
    said = "whole numbers, of which 7 is in 1 row only: learnt as numbers; --task classification"
    assert notes_with(table, said)
    chosen = load_table(make_frame(price=values), "price", task="classification")
    assert chosen.classes == tuple(dict.fromkeys(values))


@pytest.mark.parametrize(
    "values", [[0] * 39 + [1], [1] * 20 + [2] * 17 + [3] * 3, ["1"] * 20 + ["2"] * 19 + ["3+"]]
)
def test_two_classes_and_those_of_three_rows_stay_classes(values):
    assert load_table(make_frame(price=values), "price").task == "classification"


def test_log_target():
    skewed = np.exp(np.linspace(0.0, 5.0, ROWS))
    assert load_table(make_frame(price=skewed), "price").log_target
    assert not load_table(make_frame(price=skewed), "price", log_target="no").log_target
    assert not load_table(make_frame(price=skewed - 2.0), "price").log_target
    assert load_table(make_frame(), "price", log_target="yes").log_target
    assert load_table(make_frame(), "price", log_target=True).log_target


# --- refused


REFUSED_FRAMES = {
    "constant": (make_frame(price=5), {}, r"constant: every row is 5"),
    "one class": (make_frame(price="a"), {}, "one class only"),
    "one class forced": (make_frame(price=5), {"task": "classification"}, "one class only"),
    "text": (make_frame(price=["x", *map(str, range(1, ROWS))]), {}, "data row 1 holds 'x'"),
    "forced": (make_frame(price=["a", "b"] * 20), {"task": "regression"}, "row 1 holds 'a'"),
    "inf": (make_frame(price=[*[1.5, 2.5] * 19, 1.0, np.inf]), {}, "infinite in data row 40"),
    "no target": (make_frame(price=np.nan), {}, "missing in every row"),
    "names": (make_frame(), {"target": "prise"}, "Did you mean 'price'.* area, wall, price"),
    "few rows": (make_frame().iloc[:7], {}, "7 rows with a target"),
    "no features": (make_frame()[["price"]], {}, "no usable feature columns"),
    "useless": (make_frame(area=1, wall="a"), {}, "no usable feature.*constant"),
    "log": (make_frame(price=np.arange(ROWS) + 0.0), {"log_target": "yes"}, "1 values are zero"),
    "log class": (make_frame(price=["a", "b"] * 20), {"log_target": "yes"}, "regression"),
    "log what": (make_frame(), {"log_target": "perhaps"}, "auto, yes or no"),
    "task": (make_frame(), {"task": "regresion"}, "Did you mean 'regression'"),
    "labels": (make_frame(), {"task": "classification"}, "too many for classes"),
    "dates": (make_frame(price=["2020-01-02", "2020-01-03"] * 20), {}, "holds dates"),
    "twice": (make_frame().set_axis(["a", "a", "price"], axis=1), {}, "duplicate column names"),
    "no rows": (make_frame().iloc[:0], {}, "no rows"),
}


@pytest.mark.parametrize("case", REFUSED_FRAMES)
def test_refused_frames(case):
    frame, options, message = REFUSED_FRAMES[case]
    with pytest.raises(UserError, match=message) as caught:
        load_table(frame, **({"target": "price"} | options))
    assert "\n" not in str(caught.value)


REFUSED_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n  \n\n", "is empty"),
    "header": (b"area,price\n", "no rows"),
    "binary": (bytes(range(256)) * 20, "binary"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(range(32)) * 9, "binary"),
    "gzip": (gzip.compress(b"a,price\n1,2\n" * 99)[:40], "gzip"),
    "parquet": (b"PAR1" + b"abc" * 20 + b"PAR1", "damaged Parquet"),
    "excel": (b"PK\x03\x04" + b"x" * 99, "damaged zip or Excel"),
    "duplicate": (b"a,a,price\n1,2,3\n", "duplicate column names: 'a'"),
    "ragged": (b"a,price\n1,2\n3,4\n5,6,7,8\n", "Expected 2 fields in line 4, saw 4"),
    "early": (b"a,price\n1,2,3,4\n1,2\n1,2\n", "more fields"),
}


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_refused_files(tmp_path, case):
    if case == "parquet":
        pytest.importorskip("pyarrow")
    data, message = REFUSED_FILES[case]
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_table(path, "price")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == data


def test_refused_paths(tmp_path):
    make_frame().to_csv(tmp_path / "houses.csv", index=False)
    with pytest.raises(UserError, match=r"no file .*Did you mean 'houses.csv'"):
        load_table(tmp_path / "house.csv", "price")
    with pytest.raises(UserError, match="Did you mean 'lucas_houses'"):
        load_table("lucas_house", "price")
    with pytest.raises(UserError, match="is a directory"):
        load_table(tmp_path, "price")
    (tmp_path / "t.parquet").write_text("a,b\n")
    with pytest.raises(UserError, match="not a Parquet"):
        load_table(tmp_path / "t.parquet", "price")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    make_frame().to_parquet(tmp_path / "t.parquet")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"jaxopt-lab\[parquet\]"):
        load_table(tmp_path / "t.parquet", "price")


def test_load_frame_keeps_codes_as_written(tmp_path):
    path = write(tmp_path / "t.csv", "code,area\n007,1\n012,2\n")
    assert load_frame(path)["code"].tolist() == ["007", "012"]


def test_decimal_commas_leave_codes_alone(tmp_path):
    lines = [f"{k},5;{['1,5', 'A', 'B'][k % 3]}" for k in range(ROWS)]
    table = load_table(write(tmp_path / "t.csv", "price;code\n" + "\n".join(lines)), "price")
    assert sorted(set(table.frame["code"])) == ["1,5", "A", "B"]
    np.testing.assert_array_equal(table.target, np.arange(ROWS) + 0.5)


# --- labels


def labels_of(tmp_path, labels, **options):
    lines = [f"{k * 1.5},{label}" for k, label in enumerate(labels)]
    return load_table(write(tmp_path / "t.csv", "x,y\n" + "\n".join(lines) + "\n"), "y", **options)


@pytest.mark.parametrize(
    "labels",
    [
        ["None", "mild", "severe"],
        ["NA", "DE", "FR"],
        ["01", "1", "001"],
        ["TRUE", "FALSE", "true"],
        ["1541815603606036481", "1541815603606036482", "1541815603606036999"],
        ["9007199254740993", "9007199254740995", "9007199254740992"],
        ["1.0", "1.5", "x"],
        ["0", "1", "NA"],
        ["10", "9", "2"],
        ["nan", "?", "-"],
        ["yes ", "no\t", "NA "],
    ],
)
def test_labels_are_text_as_written(tmp_path, labels):
    table = labels_of(tmp_path, labels * 10)
    assert table.task == "classification"
    assert sorted(table.classes) == sorted(labels)
    assert [table.classes[code] for code in table.target] == labels * 10


def test_labels_that_are_numbers_are_in_their_order(tmp_path):
    assert labels_of(tmp_path, ["10", "9", "2"] * 10).classes == ("2", "9", "10")


def test_words_for_missing_among_labels_are_named(tmp_path):
    table = labels_of(tmp_path, ["None", "mild", ""] * 10)
    assert table.classes == ("None", "mild")
    assert notes_with(table, "10 'None' are labels; only blanks are missing")
    assert notes_with(table, "dropped 10 rows without a target")


def test_labels_that_differ_in_blanks_at_their_ends_are_one_class(tmp_path):
    table = labels_of(tmp_path, ["yes ", "yes ", "no", "yes", "no\t", "no"] * 5)
    assert table.classes == ("no", "yes ")
    assert notes_with(table, "'no\\t' (5) counts as 'no', 'yes' (5) counts as 'yes '")


def test_words_for_missing_among_numbers_are_dropped_and_named(tmp_path):
    table = labels_of(tmp_path, [*[f"{k * 1.7}" for k in range(40)], "n/a", "n/a", ""])
    assert table.task == "regression"
    assert len(table) == 40
    assert notes_with(table, "rows dropped that hold 2 'n/a'")


@pytest.mark.parametrize("ids", [[2**63 + 1, 2**63 + 3], [2**53 + 1, 2**53 + 3], [2**70, 2**71]])
def test_typed_integers_keep_all_digits(ids):
    frame = make_frame(price=pd.Series(ids * 20))
    table = load_table(frame, "price", task="classification")
    assert table.classes == tuple(ids)


def test_refusals_never_send_in_a_circle(tmp_path):
    words = [f"w{k}" for k in range(40)]
    with pytest.raises(UserError, match=r"too many for classes; give another column"):
        labels_of(tmp_path, words)
    with pytest.raises(UserError, match=r"row 1 holds 'w0'.*remove it$"):
        labels_of(tmp_path, words, task="regression")
    mixed = [f"${k}" if k % 2 else f"€{k}" for k in range(40)]
    with pytest.raises(UserError, match=r"holds '.\d+'"):
        labels_of(tmp_path, mixed, task="regression")


# --- how columns are written


def test_each_column_is_decided_by_itself(tmp_path):
    lines = [f"{k},{k % 9}5;1.{k % 3};{k % 900},1{k % 10}5" for k in range(1, ROWS + 1)]
    path = write(tmp_path / "t.csv", "size;version;price\n" + "\n".join(lines) + "\n")
    table = load_table(path, "price")
    assert table.frame["size"].iloc[0] == 1.15
    assert table.frame["version"].iloc[0] == 1.1
    assert table.target[0] == 1.115


def test_quoted_decimal_commas_between_commas(tmp_path):
    lines = [f'"{k},2{k % 10}",{k}.5' for k in range(ROWS)]
    table = load_table(write(tmp_path / "t.csv", "size,price\n" + "\n".join(lines) + "\n"), "price")
    np.testing.assert_allclose(table.frame["size"], [k + 0.2 + k % 10 / 100 for k in range(ROWS)])
    assert notes_with(table, "text columns read as numbers: size ('0,20' is 0.2)")


def test_thousands_between_semicolons(tmp_path):
    lines = [f"{k};{100 + k},830" for k in range(ROWS)]
    table = load_table(write(tmp_path / "t.csv", "size;price\n" + "\n".join(lines) + "\n"), "price")
    np.testing.assert_array_equal(table.target, [1000.0 * (100 + k) + 830 for k in range(ROWS)])
    assert notes_with(table, "could be read in two ways ('100,830' is 100830, ',' taken as thous")


def test_points_that_could_be_thousands_are_noted_unless_other_columns_tell(tmp_path):
    lines = [f"{k};{100 + k}.830;{k}.5" for k in range(ROWS)]
    doubtful = "\n".join(line.rpartition(";")[0] for line in lines)
    table = load_table(write(tmp_path / "t.csv", f"size;price\n{doubtful}\n"), "price")
    assert table.target[0] == 100.83
    assert notes_with(table, "two ways ('100.830' is 100.83, '.' taken as the decimal sign)")
    text = "size;price;rate\n" + "\n".join(lines) + "\n"
    sure = load_table(write(tmp_path / "s.csv", text), "price")
    assert sure.target[0] == 100.83
    assert not notes_with(sure, "two ways")


def test_a_dropped_column_that_mostly_parses_is_noted():
    cells = [f"{k * 7919 % 100}.{k}" if k % 4 else f"{k} or {k + 1}" for k in range(ROWS)]
    table = load_table(make_frame(guess=cells), "price")
    assert notes_with(table, "guess (75% of its values are numbers, but not '0 or 1')")
    ranges = load_table(make_frame(guess=[f"{k}-{k + 5}" for k in range(ROWS)]), "price")
    assert notes_with(ranges, "differ in nearly every row: guess (such as '0-5')")


def test_large_identifiers_are_labels_not_numbers(tmp_path):
    ids = [10**19, 10**19 + 7, 10**19 + 14]
    lines = [f"{k}.5,{ids[k % 3]},{k % 7}.25" for k in range(ROWS)]
    path = write(tmp_path / "t.csv", "x,account,price\n" + "\n".join(lines) + "\n")
    table = load_table(path, "price")
    assert table.kinds["account"] == "categorical"
    assert table.frame["account"].nunique() == 3
    assert notes_with(table, "too large to be told apart as numbers are labels: account")


def test_times_of_day_are_hours():
    cells = [f"{k % 24:02d}:{k % 60:02d}" for k in range(ROWS)]
    table = load_table(make_frame(at=cells), "price")
    np.testing.assert_allclose(table.frame["at"], [k % 24 + k % 60 / 60 for k in range(ROWS)])
    assert notes_with(table, "times become hours: at ('00:00' is 0)")


def test_extreme_targets():
    for scale in (1e-300, 1e200, 1e299):
        table = load_table(make_frame(price=np.linspace(-1.0, 1.0, ROWS) * scale), "price")
        assert table.target[0] == -scale
    with pytest.raises(UserError, match=r"1e\+305 in data row 40: too large"):
        load_table(make_frame(price=[*np.arange(39.0), 1e305]), "price")


def test_a_constant_beside_words_for_missing_says_how_they_become_labels() -> None:
    frame = pd.DataFrame({"x": range(60), "y": ["None", "NA", "01"] * 20})
    with pytest.raises(UserError, match=r"every row is 1 but for .*'NA'.*--task classification"):
        load_table(frame, target="y")
    assert load_table(frame, target="y", task="classification").classes == ("01", "NA", "None")
