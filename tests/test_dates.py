"""Dates in text: one format for a column, found from its cells."""

import pandas as pd
import pytest

from jaxopt_lab.datasets.date_columns import decide_dates
from jaxopt_lab.datasets.dates import find_date_format, rank_formats, to_dates

MOMENTS = pd.date_range("2014-05-02 23:40", periods=60, freq="37h")
WRITTEN = {
    "%m/%d/%Y %I:%M %p": "minute",
    "%d-%b-%y": "day",
    "%Y%m%dT%H%M%S": "minute",
    "%A, %B %d, %Y": "day",
    "%a %b %d %H:%M:%S %Y": "minute",
    "%b-%Y": "month",
    "%Y-%m": "month",
    "%B %Y": "month",
    "%m/%Y": "month",
    "%d.%m.%Y %H:%M": "minute",
    "%Y-%m-%dT%H:%M:%SZ": "minute",
    "%Y/%m/%d %H:%M:%S": "minute",
    "%a, %d %b %Y %H:%M:%S GMT": "minute",
    "%d %B %Y at %I.%M".replace(" at %I.%M", ""): "day",
    "%d%b%Y": "day",
    "%b %d, %Y %I:%M%p": "minute",
    "%Y年%m月%d日": "day",
    "%d/%b/%Y:%H:%M:%S": "minute",
    "%d/%m/%y": "day",
    "%Y-%m-%d %H:%M:%S.000": "minute",
    "%H:%M %d.%m.%Y": "minute",
    "%G-W%V-%u": "day",
    "%GW%V%u": "day",
    "%Y-%m-%d %H:%M:%S,250": "minute",
    "%d.%m.%Y %H:%M:%S,5": "minute",
}

FAR = pytest.mark.skipif(
    int(pd.__version__.split(".")[0]) < 3, reason="pandas 2 holds the years 1678 to 2262 only"
)


@pytest.mark.parametrize("written", WRITTEN)
def test_written_dates_come_back(written):
    cells = pd.Series(MOMENTS.strftime(written), dtype=object)
    form = find_date_format(cells)
    assert form is not None
    dates, stray = to_dates(cells, form)
    assert not stray.any()
    unit = {"day": "D", "month": "M", "minute": "min"}[WRITTEN[written]]
    assert (dates.dt.to_period(unit) == MOMENTS.to_period(unit)).all()


@pytest.mark.parametrize(
    ("cell", "date"),
    [
        ("2. Mai 2014", "2014-05-02"),
        ("2 de mayo de 2014", "2014-05-02"),
        ("1er janvier 2014", "2014-01-01"),
        ("22 févr. 2014", "2014-02-22"),
        ("Sept 5, 2014", "2014-09-05"),
        ("May 2nd, 2014 at 11:40 p.m.", "2014-05-02 23:40"),
        ("2014-05-02T11:40:00.123+02:00", "2014-05-02 09:40:00.123"),
        pytest.param("9999-12-31", "9999-12-31", marks=FAR),
        pytest.param("0001-01-01", "0001-01-01", marks=FAR),
    ],
)
def test_single_dates(cell, date):
    form = find_date_format(pd.Series([cell]))
    assert to_dates(pd.Series([cell]), form)[0].iloc[0] == pd.Timestamp(date)


@pytest.mark.parametrize(
    "cells",
    [
        ["12-14", "13-15"],
        ["1.2.3", "1.2.4"],
        ["555-12-1234", "555-13-1234"],
        ["12 Main St", "14 Main St"],
        ["192.168.0.1", "192.168.0.2"],
        ["a", "b"],
        [""],
    ],
)
def test_no_dates(cells):
    assert find_date_format(pd.Series(cells, dtype=object)) is None


@pytest.mark.parametrize("form", ["{0}-Q{1}", "Q{1} {0}", "{0}Q{1}", "q{1}/{0}"])
def test_quarters_are_their_first_day(form):
    values = pd.Series([form.format(year, part) for year in (2014, 2015) for part in (1, 2, 4)])
    values[len(values)] = "n/a"
    found = find_date_format(values)
    dates, stray = to_dates(values, found)
    expected = [f"{year}-{month}-01" for year in (2014, 2015) for month in ("01", "04", "10")]
    assert dates[:-1].dt.strftime("%Y-%m-%d").tolist() == expected
    assert dates.isna().tolist() == [False] * 6 + [True]
    assert not stray.any()


@pytest.mark.parametrize("form", ["%d %b", "%d-%b", "%b %d", "%B %d", "%b %d %H:%M:%S", "%-d. %B"])
def test_days_without_a_year_are_days(form):
    days = pd.date_range("2016-02-01 05:00", periods=60, freq="D")  # with a 29 February
    cells = pd.Series(days.strftime(form), dtype=object)
    dates, stray = to_dates(cells, find_date_format(cells))
    assert not stray.any()
    assert dates.dt.strftime("%m-%d").tolist() == days.strftime("%m-%d").tolist()
    assert dates.dt.year.nunique() == 1


def test_a_month_and_its_year_stay_that():
    for cells in (["May-14", "Jun-15"], ["May '14", "Jun '15"], ["May 98", "Jun 03"]):
        dates = to_dates(pd.Series(cells), find_date_format(pd.Series(cells)))[0]
        assert (dates.dt.year[0] % 100, dates.dt.day[0]) == (int(cells[0][-2:]), 1)


def test_dates_of_zeros_are_missing():
    cells = pd.Series(["0000-00-00" if k % 5 == 0 else f"2014-05-{k + 1:02d}" for k in range(20)])
    form = find_date_format(cells)
    dates, stray = to_dates(cells, form)
    assert dates.isna().tolist() == [k % 5 == 0 for k in range(20)]
    assert not stray.any()


def test_the_order_that_reads_more_wins():
    assert find_date_format(pd.Series(["05/02/2014", "13/02/2014"])) == "%d/%m/%Y"
    assert find_date_format(pd.Series(["05/02/2014", "02/13/2014"])) == "%m/%d/%Y"
    tied = rank_formats(["05/02/2014", "06/02/2014"])
    assert [form for form, _ in tied[:2]] == ["%m/%d/%Y", "%d/%m/%Y"]
    assert tied[0][1] == tied[1][1] == 1.0


def test_formats_of_earlier_models_still_read():
    assert to_dates(pd.Series(["2 January 2014"]), "%d %B %Y")[0].iloc[0] == pd.Timestamp(
        2014, 1, 2
    )
    assert to_dates(pd.Series(["Jan 02, 2014"]), "%b %d, %Y")[0].iloc[0] == pd.Timestamp(2014, 1, 2)


@pytest.mark.parametrize(
    ("cell", "day"),
    [
        ("2014-W01", "2013-12-30"),
        ("2014W52", "2014-12-22"),
        ("W53 2020", "2020-12-28"),
        ("KW 7/2014", "2014-02-10"),
        ("week 7, 2014", "2014-02-10"),
        ("2Q14", "2014-04-01"),
        ("Q4'98", "1998-10-01"),
        ("2014 H2", "2014-07-01"),
    ],
)
def test_periods_are_their_first_day(cell, day):
    dates, stray = to_dates(pd.Series([cell]), find_date_format(pd.Series([cell])))
    assert not stray.any()
    assert dates[0] == pd.Timestamp(day)


def test_a_week_that_a_year_does_not_have_is_no_date():
    cells = ["2014-W53", *(f"2014-W{k:02d}" for k in range(1, 53))]
    assert to_dates(pd.Series(cells), "week")[1].tolist() == [True] + [False] * 52


def _decided(*formats):
    days = MOMENTS.normalize()
    cells = [day.strftime(formats[k % len(formats)]) for k, day in enumerate(days)]
    return cells, days, decide_dates(cells)


@pytest.mark.parametrize(
    "formats",
    [
        ("%Y-%m-%d", "%m/%d/%Y"),
        ("%Y-%m-%d", "%d/%m/%Y"),
        ("%d.%m.%Y", "%Y-%m-%d", "%B %d, %Y"),
        ("%m/%d/%Y", "%m/%d/%y", "%m/%d/%Y 00:00"),
        ("%d.%m.%Y", "%m/%d/%Y"),
        ("%G-W%V-%u", "%Y%m%d 0000"),
    ],
)
def test_columns_of_several_formats_are_dates(formats):
    cells, days, found = _decided(*formats)
    assert found.accepted
    assert found.share == 1.0
    assert not found.other
    dates, stray = to_dates(pd.Series(cells), found.form)
    assert not stray.any()
    assert (dates == days).all()


def test_day_and_month_exchanged_between_cells_that_look_alike_are_no_dates():
    assert not _decided("%m/%d/%Y", "%d/%m/%Y")[2].accepted
    assert not _decided("%m/%d/%Y", "%d/%m/%Y 00:00")[2].accepted


def test_an_order_in_doubt_is_that_of_the_sure_cells():
    sure = [f"{day}/05/2014" for day in range(10, 30)]
    found = decide_dates([*sure, *(f"0{day}.02.2014" for day in range(1, 10))])
    assert found.form == "%d/%m/%Y\n%d.%m.%Y"
    assert not found.other
    found = decide_dates([f"05/{day}/2014" for day in range(10, 30)] + ["01.02.2014"] * 4)
    assert found.form == "%m/%d/%Y\n%m.%d.%Y"
    assert not found.other
    doubtful = decide_dates(["2014-05-02"] * 9 + ["05/02/2014"] * 9)
    assert doubtful.form == "ISO8601\n%m/%d/%Y"
    assert doubtful.other == "%d/%m/%Y"
