"""The documentation's Python runs as it stands, its links lead somewhere, its site builds."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

import jaxopt_lab as lab

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


#: Pages whose examples take ten seconds and more; what they show has tests of its own.
LONG = ("coming-from.md", "integrations.md", "own-code.md", "scikit-learn.md")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name in LONG else (), id=page.name)
        for page, text in PAGES.items()
        if BLOCK.search(text)
    ],
)
def test_examples_run(page: Path, houses: pd.DataFrame, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    houses.to_csv("houses.csv", index=False)
    names: dict[str, object] = {"__name__": "page"}
    for block in BLOCK.findall(PAGES[page]):
        # use_all_cores is for the start of a process; the tests have set JAX up already.
        exec(compile(block.replace("lab.use_all_cores()", "pass"), str(page), "exec"), names)
    close = getattr(names.get("study"), "close", lambda: None)
    close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(PAGES[page]):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation() -> None:
    listed = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert [page for page in pages if page not in listed] == []


def test_every_public_name_is_in_the_reference() -> None:
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (DOCS / "reference").glob("*.md"))
    entries = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    said = {entry.rpartition(".")[2] for entry in entries} | {"UserError", "MachineError"}
    assert "jaxopt_lab.core.errors" in entries  # a module, whose two they are
    rooms = ("datasets", "metrics", "models", "placements", "schedulers", "search", "sklearn")
    rooms += ("stopping", "tasks", "trackers")
    assert [name for name in lab.__all__ if name not in said and name not in rooms] == []
    for room in ("sklearn", "placements"):
        public = [name for name in getattr(lab, room).__all__ if name != "EXPECTED_FAILURES"]
        assert [name for name in public if name not in said] == []


def test_one_version_is_said() -> None:
    root = DOCS.parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited.group(1) == project["version"]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=DOCS.parent,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "supervised" in (tmp_path / "reference" / "problems" / "index.html").read_text()
