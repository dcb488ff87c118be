"""A diagnosis of problems that are no tables: by roles, curves, and what cures do."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import optax

import jaxopt_lab as lab
from jaxopt_lab import report
from jaxopt_lab.stabilization.finished import FOLDER


class MLP(nn.Module):
    """One hidden layer."""

    width: int = 8

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[:, 0]


def waves(**options: Any) -> Any:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(256, 3)).astype(np.float32)
    noise = rng.normal(0, 0.1, 256)
    targets = (np.sin(2 * inputs[:, 0]) + inputs[:, 1] + noise).astype(np.float32)
    return lab.supervised(MLP, (inputs, targets), loss=optax.squared_error, **options)


def test_a_rate_that_is_too_high_is_found_and_fixed(tmp_path: Path) -> None:
    lines: list[str] = []
    problem = waves(batch_size=32)
    hparams = {"learning_rate": 0.3}
    found = lab.stabilize(
        problem, hparams, num_epochs=32, num_seeds=3, directory=tmp_path, say=lines.append
    )
    assert found.main_cause == "learning_rate_too_high"
    assert found.chosen is not None
    assert found.recommended["learning_rate"] < 0.3
    assert found.chosen.fluctuation.value < 0.5
    assert found.solved
    # The default optimizer's own values are known, so they are cures as well.
    assert {"b1", "b2", "weight_decay"} <= set(found.base)
    assert any(name.startswith("b2") for name in found.remedies)
    assert any("not declared" in line and "clip_norm" in line for line in lines)
    assert found.chosen.name in found.sentence
    kept = len(list((tmp_path / FOLDER).iterdir()))
    assert kept == found.setting["num_trainings"]
    found.save(tmp_path)
    content = json.loads((tmp_path / "diagnosis.json").read_text())
    assert content["causes"][0]["name"] == "learning_rate_too_high"
    assert content["gradient_norms"] is None
    page = report.build_diagnosis(tmp_path).read_text()
    for name in ("before-after", "forest", "ladder"):
        assert f'id="plot-{name}"' in page
    assert 'id="plot-norms"' not in page
    assert "not declared" in page
