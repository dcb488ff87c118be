"""The same study on one device and on several: the same table."""

import io
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab import cli

SCRIPT = """
import sys
import jaxopt_lab as lab

lab.use_all_cores(int(sys.argv[1]))
table = lab.datasets.load_table(sys.argv[2], target="price")
space = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-4, 1e-3),
    hidden_size=8,
    num_layers=lab.IntUniform(1, 2),
    batch_size=lab.Choice([32, 64]),
    dropout=lab.Uniform(0.0, 0.3),
    activation="tanh",
)
study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space)
study.optimize(lab.search.random(), num_trials=12, num_epochs=3, num_folds=2)
assert study.store.settings()["num_devices"] == int(sys.argv[1])
study.trials.to_csv(sys.stdout, index=False)
"""


def table_with(num_devices: int, data: Path, flags: str) -> pd.DataFrame:
    command = [sys.executable, "-c", SCRIPT, str(num_devices), str(data)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(io.StringIO(done.stdout))


def test_the_number_of_devices_does_not_show_in_the_table(
    houses_csv: Path, quick_flags: str
) -> None:
    one, *others = (table_with(num_devices, houses_csv, quick_flags) for num_devices in (1, 8))
    scores = ["score", "standard_error"]
    assert len(one) == 12
    for found in others:
        pd.testing.assert_frame_equal(found.drop(columns=scores), one.drop(columns=scores))
        np.testing.assert_allclose(found[scores], one[scores], rtol=1e-4)


def test_going_on_with_other_devices_is_recorded_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = lab.from_function(lambda key, hparams: {"loss": hparams["x"]})
    space = lab.SearchSpace(x=lab.Uniform(0.0, 1.0))
    one, two = jax.devices()[:1], jax.devices()[:2]
    for num_trials, devices in ((2, one), (4, two), (6, two), (8, one)):
        with lab.Study(problem, space, tmp_path / "moved", devices=devices) as study:
            study.optimize("random", num_trials)
            moved = study.trials
    with lab.Study(problem, space, tmp_path / "stayed", devices=one) as study:
        for num_trials in (2, 4, 6, 8):
            study.optimize("random", num_trials)
        pd.testing.assert_frame_equal(moved, study.trials)
    assert cli.run(["show", str(tmp_path / "moved")]) == 0
    line = "devices: begun on 1 cpu, then 2 cpu from wave 1, then 1 cpu from wave 3"
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert cli.run(["show", str(tmp_path / "stayed")]) == 0
    assert "devices:" not in capsys.readouterr().out


THREADS = """
import os, sys
import jax, jax.numpy as jnp
from jaxopt_lab.core.devices import use_cores_of

devices = use_cores_of(int(sys.argv[1]))
jax.block_until_ready(jax.jit(lambda x: jnp.tanh(x @ x))(jnp.ones((300, 300))))
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(devices, jax.local_device_count(), sum(name.startswith("tf_XLAEigen") for name in names))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells of threads")
@pytest.mark.skipif(jax.__version_info__ < (0, 8), reason="JAX 0.7 does not name its threads")
@pytest.mark.parametrize("number", [1, 3])
def test_a_worker_computes_on_as_many_threads_as_it_has_devices(number: int) -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", THREADS, str(number)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(number)] * 3
