"""The Python of docs/integrations.md runs as it stands there, block by block."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jaxopt_lab.core.errors import MachineError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "integrations.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of MLflow itself
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the blocks of trackers that are not installed."""
    pytest.importorskip("optuna").logging.set_verbosity(50)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    names: dict[str, Any] = {}
    for block in BLOCKS:
        with suppress(MachineError):  # a tracker that is not installed
            exec(block, names)
    assert "0 completed" in capsys.readouterr().out
    assert names["theirs"].best_params.keys() == {"learning_rate"}
    assert len(names["other"].trials) == 5
    assert names["state"].step == 0
    assert {"best.safetensors", "best-checkpoint", "all-checkpoint"} <= {
        path.name for path in tmp_path.iterdir()
    }
