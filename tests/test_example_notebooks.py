"""The example notebooks run in a kernel of their own, and show tables and figures."""

from pathlib import Path
from typing import Any

import jax
import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
#: Each takes ten seconds and more, most of it imports and compilation.
LONG = ("table", "own_module")


def outputs_of(path: Path, folder: Path) -> list[Any]:
    """What its cells show."""
    notebook = jupytext.read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem in LONG else ())
        for path in sorted(FOLDER.glob("*.py"))
    ],
)
def test_it_runs_and_shows_tables_and_figures(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_flags: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent.parent))
    monkeypatch.setenv("XLA_FLAGS", quick_flags)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(jax.config.jax_compilation_cache_dir))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    outputs = outputs_of(path, tmp_path)
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    shown = [o.data for o in outputs if o.output_type in ("execute_result", "display_data")]
    assert any("<table" in data.get("text/html", "") for data in shown)
    figures = [data for data in shown if "application/vnd.plotly.v1+json" in data]
    assert figures
    assert all(f["application/vnd.plotly.v1+json"]["data"] for f in figures)
