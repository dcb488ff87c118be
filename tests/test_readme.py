"""The README's Python runs as it stands there, block by block, on a table of 300 rows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def names(
    houses: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Any]]:
    """What the blocks leave behind, run one after the other in a folder with `houses.csv`.

    A diagnosis of digits takes a minute: for `--runslow`; docs/stabilize.md has a quick one.
    """
    quick = not request.config.getoption("--runslow")
    folder = tmp_path_factory.mktemp("readme")
    houses.to_csv(folder / "houses.csv", index=False)
    found: dict[str, Any] = {
        "frame": houses.drop(columns="price").head(7),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            if quick and "lab.stabilize(" in block:
                continue
            # use_all_cores is for the start of a process; the tests have set JAX up already.
            exec(block.replace("lab.use_all_cores()", "pass"), found)
    yield found
    found["study"].close()


def test_the_example_tunes_a_network(names: dict[str, Any], houses: pd.DataFrame) -> None:
    study = names["study"]
    assert len(study.trials) == 16
    assert set(study.trials["status"]) <= {"completed", "infeasible"}
    best = study.best
    assert best.score == study.trials["score"].min()
    assert best.hyperparameters["batch_size"] in (32, 64, 128)
    assert len(best.folds) == len(best.curves) == 3
    predicted = best.predict(names["frame"])
    truth = houses["price"].head(7).to_numpy()
    assert predicted.shape == (7,)
    assert np.abs(np.log(predicted / truth)).mean() < np.log(houses["price"]).std()
