"""Two workers of Ray's, one core each, one of them killed in the middle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import os, signal, sys
from pathlib import Path
import jax, jax.numpy as jnp
import jaxopt_lab as lab

def build(*, width=3):
    def init(key, hparams):
        return {"x": jax.random.normal(key, (width,))}
    def step(state, hparams, shared):
        noise = 0.01 * jax.random.normal(shared.key, (width,))
        return {"x": state["x"] * (1 - hparams.learning_rate) + noise}, {}
    def evaluate(state, hparams, shared):
        return {"loss": jnp.sum(state["x"] ** 2)}
    return lab.Trainable(init, step, evaluate)

problem = lab.from_steps(build, objective="loss", num_seeds=2)
space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1), width=lab.Choice([3, 5]))

def search(directory, **where):
    with lab.Study(problem, space, directory, cohort_width=2, **where) as study:
        def kill(progress):
            if where.get("placement") and progress.jobs_done <= 2:
                os.kill(int(study.workers["worker"].iloc[0].rpartition(":")[2]), signal.SIGKILL)
        scheduler = lab.schedulers.successive_halving()
        study.optimize("random", num_trials=12, budget=4, scheduler=scheduler, progress=kill)
        return study.workers["worker"].nunique()

local = search(Path(sys.argv[1]) / "local", devices=jax.local_devices()[:1])
there = search(Path(sys.argv[1]) / "ray", placement=lab.placements.ray("local", num_workers=2))
print(local, there)
"""


def show(directory: Path) -> str:
    command = [sys.executable, "-m", "jaxopt_lab", "show", "--csv", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    script = tmp_path / "search.py"
    script.write_text(SCRIPT)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    local, there = map(int, done.stdout.split()[-2:])
    assert local == 0
    assert there >= 2
    assert show(tmp_path / "ray") == show(tmp_path / "local") != ""
