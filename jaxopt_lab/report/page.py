"""Assemble the page: sections, charts as JSON, style and scripts in one file."""

import importlib.util
import json
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.report import contents, diagnosis_page, sections
from jaxopt_lab.storage.files import write_file

FILE_NAME = "report.html"


def build(directory: str | Path) -> Path:
    """Write `report.html` from what a study's directory holds.

    The file needs nothing else: no network, no other file.

    Args:
      directory: with `study.sqlite`, `best.json` and `test_predictions.csv`; what is absent is
        left out with a line that says so.

    Returns:
      The path of the page.

    Raises:
      UserError: if there is neither a study nor its result, or a file is damaged.
      MachineError: if the page cannot be written.
    """
    return write(sections.compose(contents.read(directory)), Path(directory) / FILE_NAME)


def build_diagnosis(directory: str | Path) -> Path:
    """Write `report.html` from the `diagnosis.json` in a directory.

    Returns:
      The path of the page.

    Raises:
      UserError: if there is none, or it is damaged.
      MachineError: if the page cannot be written.
    """
    return write(diagnosis_page.compose(directory), Path(directory) / FILE_NAME)


def write(page: "sections.Page", path: Path) -> Path:
    """Write a page as one file."""
    figures = {figure.name: figure.to_json() for figure in page.figures}
    text = Template(_asset("page.html")).substitute(
        title=page.title,
        nav="".join(f'<a href="#{key}">{label}</a>' for key, label in page.nav),
        body=page.body,
        footer=page.footer,
        style=_asset("style.css"),
        script=_asset("script.js"),
        figures=_inert(figures),
        texts=_inert(page.texts),
        plotly=_plotly(),
    )
    write_file(path, text.encode())
    return path


def _asset(name: str) -> str:
    return resources.files("jaxopt_lab.report").joinpath(name).read_text(encoding="utf-8")


def _inert(content: dict[str, Any]) -> str:
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
