"""A plan is what training would do, told beforehand."""

from pathlib import Path

import pytest

import jaxopt_lab as lab
from jaxopt_lab.planning.costs import SHIPPED, Load
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.planning import make_plan

SPACE = lab.SearchSpace(
    hidden_size=lab.Choice([4, 8]), num_layers=lab.IntUniform(1, 2), batch_size=lab.Choice([32, 64])
)


def test_a_study_compiles_and_trains_as_planned(houses_csv: Path) -> None:
    table = lab.datasets.load_table(str(houses_csv), target="price")
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), SPACE)
    plan = study.plan(6, 2, 2)
    assert study.trials.empty, "a plan trains nothing"
    study.optimize(lab.search.random(), 6, 2, 2)
    waves = study.store.waves()
    assert {p.name for p in plan.programs} == {w.program for w in waves}
    assert plan.num_waves == len(waves)
    assert sum(p.num_networks for p in plan.programs) == sum(w.jobs for w in waves)
    assert {p.name: p.width for p in plan.programs} == study.store.settings()["widths"]


SIZING = Sizing(SHIPPED[True], on_cpu=True, num_devices=2)


def configs(*sizes: int) -> list[dict]:
    return [complete({"hidden_size": size, "num_layers": 2}) for size in sizes]


@pytest.mark.parametrize("epochs", [1, 10_000])
def test_padding_and_empty_places_add_up(epochs: int) -> None:
    space = lab.SearchSpace(hidden_size=lab.Choice([8, 128]), num_layers=2)
    load = Load(5, epochs, 2, 4000, 8, 2)
    plan = make_plan(configs(8, 8, 128, 128, 128), space, load, SIZING)
    if epochs == 1:
        small, large = 8 * 8 + 8 * 8, 8 * 128 + 128 * 128
        (program,) = plan.programs
        assert plan.empty_slots == pytest.approx(1 - 10 / (plan.num_waves * program.width * 2))
        assert plan.padding == pytest.approx(1 - (2 * small + 3 * large) / (5 * large))
        assert "why: every shape by itself would be 2 programs" in str(plan)
    else:
        assert len(plan.programs) == 2
        assert plan.padding == 0
        assert "why" not in str(plan)
    assert f"expected: {plan.compile_seconds:.0f} s compiling" in str(plan)
