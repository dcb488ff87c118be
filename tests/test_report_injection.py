"""A stranger's study is shown and not obeyed: a marker in every field, looked for in the page."""

import csv
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_report import needs_browser, open_in_browser, own_text, write_result, write_study

from jaxopt_lab import report
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.report import contents, sections
from jaxopt_lab.report.figures import Color, Figure, Hover, inert
from jaxopt_lab.report.page import diagnosis_page_of
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import hover, html, joined, plain

#: A tag, ends of attribute and script, an event handler, and what Plotly and the page would read.
MARK = "@ink'\"></script><x-mark onerror=hit()>%{x}&lt;{0}"
ANALYSIS = {
    "importance": {"dropout": 0.5},
    "interactions": 0.1,
    "fit": 0.9,
    "findings": [{"name": "dropout", "kind": "narrow", "text": "dropout crowds"}],
    "budget": "enough",
}
#: Columns whose text is JSON.
JSON_COLUMNS = {("trials", "config"), ("settings", "value"), ("decisions", "value")}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study of a classification, with all files."""
    folder = tmp_path_factory.mktemp("original")
    write_study(folder, 6, regression=False)
    write_result(folder, regression=False)
    best = json.loads((folder / "best.json").read_text())
    (folder / "best.json").write_text(json.dumps({**best, "analysis": ANALYSIS}))
    return folder


class Tags(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def paths(value: Any, at: tuple = ()) -> Iterator[tuple[tuple, bool]]:
    """Every leaf and every key of JSON, as (path, whether it is the key that is meant)."""
    items = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in items:
        if isinstance(key, str):
            yield (*at, key), True
        if isinstance(inner, list | dict):
            yield from paths(inner, (*at, key))
        elif key != 1:  # of a list its first item will do
            yield (*at, key), False


def changed(value: Any, path: tuple, is_key: bool, new: Any) -> Any:
    """JSON with one leaf, or one key, replaced."""
    head, *rest = path
    if isinstance(value, list):
        return [
            changed(v, tuple(rest), is_key, new)
            if rest and i == head
            else (new if i == head else v)
            for i, v in enumerate(value)
        ]
    if rest:
        return {
            k: changed(v, tuple(rest), is_key, new) if k == head else v for k, v in value.items()
        }
    if is_key:
        return {(new if k == head else k): v for k, v in value.items()}
    return {**value, head: new}


def in_json(path: Path, where: tuple, is_key: bool) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(changed(content, where, is_key, MARK)))


def in_column(folder: Path, table: str, column: str, row: int) -> None:
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        query = f"UPDATE {table} SET {column} = ? WHERE {key_of(table)} = ?"
        with suppress(sqlite3.IntegrityError):  # a primary key of integers takes no text
            database.execute(query, (MARK, row_keys(folder, table)[row]))


def in_column_json(
    folder: Path, table: str, column: str, key: Any, where: tuple, is_key: bool
) -> None:
    with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
        query = f"SELECT {column} FROM {table} WHERE {key_of(table)} = ?"
        ((text,),) = database.execute(query, (key,)).fetchall()
        value = json.loads(text)
        new = MARK if not where else changed(value, where, is_key, MARK)
        query = f"UPDATE {table} SET {column} = ? WHERE {key_of(table)} = ?"
        database.execute(query, (json.dumps(new), key))


def key_of(table: str) -> str:
    keys = {"trials": "trial_id", "settings": "name", "decisions": "number", "waves": "number"}
    return keys.get(table, "trial_id")


def row_keys(folder: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "study.sqlite")) as database:
        query = f"SELECT {key_of(table)} FROM {table} ORDER BY 1"
        return [key for (key,) in database.execute(query)]


def injections(original: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """(name, what it does to a copy of a study)."""
    best = json.loads((original / "best.json").read_text())
    for where, is_key in paths(best):
        yield (
            f"best.json {where} {'key' if is_key else 'value'}",
            lambda f, w=where, k=is_key: in_json(f / "best.json", w, k),
        )
    with closing(sqlite3.connect(original / "study.sqlite")) as database:
        for table in ("trials", "members", "waves", "settings", "decisions"):
            columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
            for column in columns:
                for row in {"trials": (0, 1, 4)}.get(table, (0,)):
                    yield (
                        f"{table}.{column} of row {row}",
                        lambda f, t=table, c=column, r=row: in_column(f, t, c, r),
                    )
                if (table, column) not in JSON_COLUMNS:
                    continue
                query = f"SELECT {key_of(table)}, {column} FROM {table} ORDER BY 1"
                rows = database.execute(query).fetchall()
                for key, text in rows[:1] if table == "trials" else rows:
                    value = json.loads(text)
                    inside = paths(value) if isinstance(value, list | dict) else [((), False)]
                    for where, is_key in inside:
                        yield (
                            f"{table}.{column} of {key} {where} {'key' if is_key else 'value'}",
                            lambda f, t=table, c=column, n=key, w=where, k=is_key: in_column_json(
                                f, t, c, n, w, k
                            ),
                        )
    for column in ("truth", "single", "ensemble", "row"):
        yield f"predictions {column}", lambda f, c=column: in_predictions(f, c)


def in_predictions(folder: Path, column: str) -> None:
    path = folder / "test_predictions.csv"
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    rows[0][column] = MARK
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def check_page(page: Page) -> bool:
    """Hold a page against the promise; whether the marker is shown in it."""
    found = Tags(page.body + page.footer)
    assert "x-mark" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    figures = json.dumps([inert(page.texts), *(f.to_json() for f in page.figures)])
    assert "<x-mark" not in figures
    assert "@ink'" not in re.findall(r'\{"@": "([^"]*)"', figures)
    return "x-mark" in page.body + page.title + figures


@pytest.fixture
def injected(original: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Copies of the study, each with one field changed."""

    def copies() -> Iterator[tuple[str, Path]]:
        for name, inject in injections(original):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(original, copy)
            inject(copy)
            yield name, copy

    return copies()


def test_a_marker_in_any_field_is_text_or_is_refused(injected: Iterator[tuple[str, Path]]) -> None:
    shown, refused = [], dict[str, str]()
    for name, folder in injected:
        try:
            page = sections.compose(contents.read(folder))
        except UserError as error:
            refused[name] = str(error)
            continue
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        if check_page(page):
            shown.append(name)
    assert "0.score: input should be a valid number" in refused["trials.score of row 0"]
    assert "trials.reason of row 0" in shown or "trials.reason of row 1" in shown
    assert all("damaged" in line for line in refused.values()), refused
    assert len(shown) > 20
    assert len(refused) > 20


def hostile_study(original: Path, folder: Path) -> Path:
    """All fields that may hold text hold the marker at once."""
    shutil.copytree(original, folder)
    tried = folder.with_name("tried")
    for name, inject in injections(original):
        shutil.rmtree(tried, ignore_errors=True)
        shutil.copytree(folder, tried)
        if "best.json" in name and "analysis" in name and "key" in name:
            continue  # else the whole analysis would be left out
        try:
            inject(tried)
            contents.read(tried)
        except (UserError, KeyError, IndexError, sqlite3.Error, ValueError):
            continue
        shutil.rmtree(folder)
        shutil.copytree(tried, folder)
    return folder


def test_the_page_runs_our_scripts_only(original: Path) -> None:
    text = report.page_of(original).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == 3
    assert "script-src 'sha256-" in policy


@needs_browser
def test_a_browser_builds_no_element_of_a_strangers_text(original: Path, tmp_path: Path) -> None:
    folder = hostile_study(original, tmp_path / "hostile")
    page = report.build(folder)
    document, console = open_in_browser(page, tmp_path / "profile")
    assert console == []
    drawn = re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
    assert "&lt;x-mark" in drawn
    assert "x-mark" not in Tags(drawn).tags


@needs_browser
def test_a_browser_refuses_a_script_that_got_in(original: Path, tmp_path: Path) -> None:
    page = report.build(original)
    script = "<script>document.documentElement.dataset.hit = 1</script>"
    changed = tmp_path / "changed.html"
    changed.write_text(page.read_text().replace("</main>", f"{script}</main>"))
    page.unlink()
    document, console = open_in_browser(changed, tmp_path / "profile")
    assert "data-hit" not in document
    assert "data-drawn" in document, "our own scripts run"
    assert any("Content Security Policy" in line for line in console)


def test_a_diagnosis_of_a_stranger_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "diagnosis.json").write_text(json.dumps({"schema": 1, "causes": [MARK]}))
    with pytest.raises(UserError, match="damaged"):
        diagnosis_page_of(tmp_path)


def test_a_file_name_that_is_no_text_gets_a_page(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    shutil.copytree(original, folder)
    assert "caf?" in own_text(report.build(folder)) or report.page_of(folder)


# The one escaping place.


def test_text_is_escaped_once_and_markup_never() -> None:
    assert html("<b>{}</b>", MARK).count("<") == 2
    assert plain(plain("a<b")) == "a&lt;b"
    assert joined(["<i>", html("<b>{}</b>", "x")]) == "&lt;i&gt;<b>x</b>"
    assert hover("%{x}<br>", "%{y}<b>") == "%{x}<br><extra>%&#123;y}&lt;b&gt;</extra>"


def test_figures_hold_text_colours_and_numbers() -> None:
    data = [{"x": [1.0, float("nan")], "y": ["@ink", "<b>"], "name": html("<i>{}</i>", "<")}]
    found = Figure("a", data, {"color": Color("ink"), "text": Hover(3)}).to_json()
    assert found["data"] == [{"x": [1.0, None], "y": ["@ink", "&lt;b&gt;"], "name": "<i>&lt;</i>"}]
    assert found["layout"] == {"color": {"@": "ink"}, "text": {"#": "3"}}
    with pytest.raises(TypeError):
        inert({"x": object()})
