"""Assemble the page: sections, charts as JSON, style and scripts in one file."""

import base64
import hashlib
import importlib.util
import json
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.report import contents, curves_page, diagnosis_page, sections
from jaxopt_lab.report.figures import inert
from jaxopt_lab.report.page_parts import Page
from jaxopt_lab.report.words import html, joined, plain
from jaxopt_lab.stabilization.logged import CurvesDiagnosis
from jaxopt_lab.storage.files import write_file

FILE_NAME = "report.html"


def page_of(directory: str | Path) -> bytes:
    """Make the page of what a study's directory holds, which is only read.

    The page needs nothing else: no network, no other file.

    Args:
      directory: with `study.sqlite`, `best.json` and `test_predictions.csv`; what is absent is
        left out with a line that says so.

    Returns:
      HTML in UTF-8.

    Raises:
      UserError: if there is neither a study nor its result, or a file is damaged.
    """
    return render(sections.compose(contents.read(directory)))


def build(directory: str | Path) -> Path:
    """Write `report.html` into a study's directory; see `page_of`.

    Returns:
      The path of the page.

    Raises:
      UserError: if there is neither a study nor its result, or a file is damaged.
      MachineError: if the page cannot be written.
    """
    path = Path(directory) / FILE_NAME
    write_file(path, page_of(directory))
    return path


def diagnosis_page_of(directory: str | Path) -> bytes:
    """Make the page of the `diagnosis.json` in a directory.

    Returns:
      HTML in UTF-8.

    Raises:
      UserError: if there is none, or it is damaged.
    """
    return render(diagnosis_page.compose(directory))


def curves_page_of(found: CurvesDiagnosis) -> bytes:
    """Make the page of a diagnosis of logged curves.

    Returns:
      HTML in UTF-8.
    """
    return render(curves_page.compose(found))


def build_diagnosis(directory: str | Path) -> Path:
    """Write `report.html` from the `diagnosis.json` in a directory.

    Returns:
      The path of the page.

    Raises:
      UserError: if there is none, or it is damaged.
      MachineError: if the page cannot be written.
    """
    path = Path(directory) / FILE_NAME
    write_file(path, diagnosis_page_of(directory))
    return path


def render(page: Page) -> bytes:
    """Put a page into the template."""
    figures = {figure.name: figure.to_json() for figure in page.figures}
    scripts = {"theme": _asset("theme.js"), "script": _asset("script.js"), "plotly": _plotly()}
    text = Template(_asset("page.html")).substitute(
        title=plain(page.title),
        nav=joined(html('<a href="#{}">{}</a>', key, label) for key, label in page.nav),
        body=plain(page.body),
        footer=plain(page.footer),
        style=_asset("style.css"),
        allowed=" ".join(map(_digest, scripts.values())),
        figures=_json(figures),
        texts=_json(inert(page.texts)),
        **scripts,
    )
    # A file name that is not UTF-8 has half characters in it: `?` stands for each.
    return text.encode(errors="replace")


def _digest(script: str) -> str:
    """By which the page's policy tells our scripts from any that got into it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("jaxopt_lab.report").joinpath(name).read_text(encoding="utf-8")


def _json(content: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _plotly() -> str:
    """The browser library that the Python package ships; the package itself is not imported."""
    spec = importlib.util.find_spec("plotly")
    for folder in (spec and spec.submodule_search_locations) or []:
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.exists():
            return path.read_text(encoding="utf-8")
    raise MachineError("plotly is not installed whole; install it again: pip install plotly")
