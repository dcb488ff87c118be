"""The summary of the comparison on tables: ranks, wins and ratios by hand."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "bench_tables.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(errors: dict[str, dict[str, list[float]]]) -> list[dict]:
    return [
        {"table": table, "seed": seed, "model": model, "error": error}
        for table, found in errors.items()
        for model, of_seeds in found.items()
        for seed, error in enumerate(of_seeds)
    ]


def test_ranks_wins_and_ratios(bench: ModuleType) -> None:
    found = bench.summary(
        lines(
            {
                "a": {"single": [1.0, 3.0], bench.REFERENCE: [4.0, 4.0], "lightgbm": [8.0]},
                "b": {"single": [2.0], bench.REFERENCE: [1.0], "lightgbm": [2.0]},
                "c": {"single": [5.0], bench.REFERENCE: [5.0], "lightgbm": [6.0], "other": [1.0]},
            }
        )
    )
    assert found["tables"] == 3
    rows = found["summary"]
    assert list(rows) == [bench.REFERENCE, "single", "lightgbm"], "what not all tables have is out"
    assert rows["single"]["mean_rank"] == pytest.approx(4 / 3, abs=1e-3)
    assert rows[bench.REFERENCE]["mean_rank"] == pytest.approx(4 / 3, abs=1e-3)
    assert [rows[name]["wins"] for name in rows] == [2, 2, 0]
    assert rows["single"]["to_reference"] == pytest.approx((0.5 * 2 * 1) ** (1 / 3))
    assert rows["lightgbm"]["to_best_other"] == pytest.approx((4 * 2 * 1.2) ** (1 / 3), abs=1e-4)


def test_one_table_or_none(bench: ModuleType) -> None:
    assert bench.summary([])["summary"] == {}
    (row,) = bench.summary(lines({"a": {"single": [1.0]}}))["summary"].values()
    assert row == {"mean_rank": 1, "wins": 1}
