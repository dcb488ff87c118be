"""How text becomes numbers: decided from all cells of a column, kept, never guessed again."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lab.datasets.number_reading import (
    NumberReading,
    decide,
    majority,
    read_number,
    read_numbers,
    resolve,
    unseen_grouping,
)
from jaxopt_lab.datasets.number_text import NumberCell, plain_text, split_cell

CELLS = {
    "₹350,830": (["₹350,830", "₹1,350,830"], [350830.0, 1350830.0]),
    "3,50,830": (["3,50,830", "12,34,56,789"], [350830.0, 123456789.0]),
    "350'830": (["350'830", "1’350’830.5"], [350830.0, 1350830.5]),
    "1 350 830": (["1 350 830", "1\u00a0350\u202f830"], [1350830.0, 1350830.0]),
    "parentheses": (["(350,830)", "($1,200.50)", "5"], [-350830.0, -1200.5, 5.0]),
    "trailing minus": (["350830-", "1.5", "2.5-"], [-350830.0, 1.5, -2.5]),
    "unicode minus": (["\u22120.5", "\u20131.5", "2"], [-0.5, -1.5, 2.0]),
    "k and M": (["12.3k", "1.2M", "500"], [12300.0, 1.2e6, 500.0]),
    "k only": (["12.3k", "4K"], [12300.0, 4000.0]),
    "bn with currency": (["$1.2bn", "$300m"], [1.2e9, 3e8]),
    "lakh": (["1.5 lakh", "2 crore"], [150000.0, 2e7]),
    "metres are no millions": (["12 m", "13.5 m"], [12.0, 13.5]),
    "sqft": (["138.28 sqft", "75 sqft"], [138.28, 75.0]),
    "m2": (["138,28 m2", "7,5 m²".replace("²", "2")], [138.28, 7.5]),
    "USD": (["USD 350,830", "USD 1.5"], [350830.0, 1.5]),
    "CHF": (["CHF 1'234.50", "CHF 12.--"], [1234.5, 12.0]),
    "kr": (["1 234,50 kr", "12,- kr"], [1234.5, 12.0]),
    "R$": (["R$ 1.234,50", "R$ 0,75"], [1234.5, 0.75]),
    "Rs.": (["Rs.350", "Rs. 1,200"], [350.0, 1200.0]),
    "rupees, no paise": (["Rs. 2,500/-", "Rs.500/-", "(Rs 20/-)"], [2500.0, 500.0, -20.0]),
    "zł": (["1 234,50 zł", "5 zł"], [1234.5, 5.0]),
    "percent": (["0.5%", "12 %"], [0.5, 12.0]),
    "percent beside fractions": (["0.02", "1%", "0.5"], [0.02, 0.01, 0.5]),
    "percent beside percents": (["5%", "7"], [5.0, 7.0]),
    "exponents": (["1e3", "2.5E-4", "1,000"], [1000.0, 2.5e-4, 1000.0]),
    "decimal comma": (["13,8", "12,345"], [13.8, 12.345]),
    "thousands by contradiction": (["350,830", "1,350,830"], [350830.0, 1350830.0]),
    "leading zero": (["0,370", "1,383"], [0.37, 1.383]),
    "points of thousands": (["1.234.567,89", "1.234"], [1234567.89, 1234.0]),
    "booleans": (["TRUE", "False", "true"], [1.0, 0.0, 1.0]),
    "clock": (["07:11", "7:11 PM", "23:59:30", "11 AM".replace("11 ", "11:00 ")], None),
    "hours without minutes": (["11 PM", "12 a.m.", "7:30 pm"], [23.0, 0.0, 19.5]),
    "hours and h": (["23h40", "7h05", "1h 20m"], [23 + 40 / 60, 7 + 5 / 60, 1 + 20 / 60]),
    "one and many": (["1 year", "2 years", "30 years"], [1.0, 2.0, 30.0]),
    "approximate": (["~5", "ca. 1,250.5", "≈ 3", "7", "about 2", "c.8"], [5, 1250.5, 3, 7, 2, 8]),
    "approximate amounts": (["~$5k", "~ -3k", "$4"], [5000.0, -3000.0, 4.0]),
    "Arabic digits": (["١٢٫٥", "٣"], [12.5, 3.0]),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_column_reads_as_its_writer_meant(case):
    cells, expected = CELLS[case]
    found = decide(cells)
    assert found is not None
    assert found.accepted
    numbers, stray = read_numbers(cells, found.reading)
    assert not stray.any()
    if case == "clock":
        expected = [7 + 11 / 60, 19 + 11 / 60, 23 + 59.5 / 60, 11.0]
    np.testing.assert_allclose(numbers, expected, rtol=1e-15)
    again = NumberReading.from_dict(json.loads(json.dumps(found.reading.to_dict())))
    assert again == found.reading


@pytest.mark.parametrize(
    "cells",
    [
        ["3 4", "0 0", "1 12"],
        ["10-20", "20-30"],
        ["1st", "2nd", "3rd"],
        ["5'11\"", "6'1\""],
        ["12 kg", "300 g", "5 kg", "10 g"],
        ["1,5", "2.5", "3,5", "4.5"],
        ["1/2", "3/4"],
        ["3+", "<5"],
        ["A12", "B7"],
        ["192.168.0.1", "10.0.0.12"],
        ["5 May", "6 May"],
    ],
)
def test_what_is_no_column_of_numbers(cells):
    found = decide(cells)
    assert found is None or not found.accepted


@pytest.mark.parametrize(
    "word",
    [
        ".",
        "--",
        "na",
        "missing",
        "#DIV/0!",
        "n/d",
        "Not Available",
        "**",
        "unknown",
        "NULL",
        "fehlt",
        "zzz",
        "?",
        "#REF!",
    ],
)
def test_few_words_among_numbers_count_as_missing(word):
    cells = [word if k % 8 == 0 else f"{k * 1.25}" for k in range(80)]
    found = decide(cells)
    assert found is not None
    assert found.accepted
    assert found.strays == {word: 10}
    numbers, stray = read_numbers(cells, found.reading)
    assert not stray.any()
    np.testing.assert_array_equal(np.isnan(numbers), [k % 8 == 0 for k in range(80)])


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "2", "3+", "2"] * 10,
        ["1", "2", "3", "other"] * 10,
        ["low", "high", "3"] * 10,
        [str(k % 12) for k in range(60)] + ["12+"] * 6,
        [f"{k}" for k in range(20)] + ["a", "b", "c", "d"] * 5,
    ],
)
def test_labels_with_some_numbers_stay_labels(cells):
    found = decide(cells)
    assert found is not None
    assert not found.accepted


@pytest.mark.parametrize("word", ["<0.5", "90+", "n<5", "1.2.3"])
def test_one_odd_reading_among_many_numbers_counts_as_missing(word):
    found = decide([word if k % 10 == 0 else f"{k * 1.25}" for k in range(80)])
    assert found is not None
    assert found.accepted
    assert found.strays == {word: 8}


def test_some_words_among_many_numbers_count_as_missing():
    words = ["closed", "broken", "see note", "withdrawn", "spoilt"]
    numbers = [f"{k * 1.25}" for k in range(70)]
    found = decide(numbers + 2 * words)
    assert found is not None
    assert found.accepted
    assert found.strays == dict.fromkeys(words, 2)
    few = decide(numbers[:40] + 2 * words)
    assert few is not None
    assert not few.accepted, "five words to forty numbers"


def test_the_example_of_an_ambiguous_column_shows_the_separator():
    found = decide(["$500", "$1,500", "$2,500"])
    assert found is not None
    assert (found.ambiguous, found.example) == (",", "$1,500")


def test_a_unit_of_an_earlier_model_is_read_on():
    stored = NumberReading.from_dict({"unit": "years"})
    assert [read_number(cell, stored) for cell in ("1 year", "2 years", "3")] == [1.0, 2.0, 3.0]


def test_an_ambiguous_comma_means_what_it_means_elsewhere():
    doubtful = decide(["41,484", "22,758"])
    assert doubtful is not None
    assert doubtful.ambiguous == ","
    assert read_number("41,484", resolve(doubtful, {})) == 41484.0
    german, versions = decide(["0,759", "1,383"]), decide(["1.2", "1.10", "2.0"])
    assert german is not None
    assert versions is not None
    votes = majority([german, versions, doubtful])
    assert votes == {",": "decimal", ".": "decimal"}
    assert read_number("41,484", resolve(doubtful, votes)) == 41.484


def test_an_ambiguous_point_is_decimal_unless_commas_are():
    doubtful = decide(["350.830", "213.290"])
    assert doubtful is not None
    assert doubtful.ambiguous == "."
    assert read_number("350.830", resolve(doubtful, {})) == 350.83
    german = decide(["13,8", "7,25"])
    assert german is not None
    assert read_number("350.830", resolve(doubtful, majority([german]))) == 350830.0


def test_new_cells_are_read_with_the_reading_of_training():
    comma = NumberReading(decimal=",")
    assert read_number("12,345", comma) == 12.345
    assert read_number("1.234,5", comma) == 1234.5
    assert read_number("1.234.567", comma) == 1234567.0
    assert read_number("1.234", comma) is None, "a point was never seen: it could be either"
    point = NumberReading()
    assert read_number("13,8", point) is None
    assert read_number("12,345", point) == 12345.0
    assert unseen_grouping(["5", "12,345"], point) == ("12,345", 12345.0)
    assert unseen_grouping(["5", "12,345"], NumberReading(group=",")) is None


def test_new_cells_in_another_unit_are_no_numbers_of_the_column():
    area = NumberReading(unit="sqft")
    assert read_number("138.28 sqft", area) == read_number("138.28", area) == 138.28
    assert read_number("13 sqm", area) is None
    euros = NumberReading(unit="EUR")
    assert read_number("€5", euros) == read_number("5 EUR", euros) == read_number("5 €", euros)
    assert read_number("$5", euros) is None
    assert read_number("12.3k", NumberReading()) is None
    assert read_number("12.3k", NumberReading(multipliers=True)) == 12300.0
    assert read_number("maybe", NumberReading(kind="boolean")) is None


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("-€ 5", NumberCell("5", "", True, "EUR", "")),
        ("5e-3 %", NumberCell("5", "e-3", False, "%", "")),
        ("1.2M €", NumberCell("1.2", "", False, "EUR", "M")),
        ("350.-", NumberCell("350", "", False, "", "")),
        (".5", NumberCell(".5", "", False, "", "")),
        ("(5", None),
        ("--5", None),
        ("-(5)", None),
        ("2014-05-02", None),
        ("07:11", None),
        ("", None),
    ],
)
def test_split_cell(cell, parts):
    assert split_cell(plain_text(cell)) == parts


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "roman"},
        {"decimal": ";"},
        {"decimal": ",", "group": ","},
        {"missing": "na"},
        {"unit": 5},
        {"odd": 1},
    ],
)
def test_readings_validate_themselves(data):
    with pytest.raises(ValueError, match=r"reading|decimal|separators"):
        NumberReading.from_dict(data)


@given(
    st.lists(st.floats(-1e12, 1e12).map(lambda v: round(v, 2)), min_size=3, max_size=30),
    st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'"), (".", ""), (",", "")]),
)
def test_written_numbers_come_back(numbers, form):
    decimal, group = form
    plain = [f"{value:,.2f}" for value in numbers]
    swap = str.maketrans({",": group, ".": decimal})
    cells = [cell.translate(swap) for cell in plain]
    found = decide(cells)
    assert found is not None
    assert found.accepted
    read, stray = read_numbers(cells, found.reading)
    assert not stray.any()
    np.testing.assert_allclose(read, numbers, rtol=1e-12, atol=1e-9)
    single = np.array([read_number(cell, found.reading) for cell in cells])
    np.testing.assert_array_equal(single, read)
