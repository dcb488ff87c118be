"""A scheduler by option or by a table of the space file, and what a plan says of it."""

from pathlib import Path

import pytest

from jaxopt_lab import schedulers
from jaxopt_lab.cli import arguments
from jaxopt_lab.cli.scheduler import read_scheduler
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.planning.plan import pieces, rungs_in_words
from jaxopt_lab.tuning.settings import Settings
from jaxopt_lab.tuning.sweep import SweepSettings

SPACE = "[space]\nlearning_rate = { log_uniform = [1e-3, 1e-1] }\n"


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE + '[scheduler]\nname = "hyperband"\nreduction = 4\n')
    return path


def test_the_file_or_the_option_says_which(space_file: Path, tmp_path: Path) -> None:
    assert read_scheduler(None, str(space_file), "race") == ("hyperband", {"reduction": 4})
    assert read_scheduler("hyperband", str(space_file), "race") == ("hyperband", {"reduction": 4})
    plain = tmp_path / "plain.toml"
    plain.write_text(SPACE)
    assert read_scheduler(None, str(plain), "race") == ("race", {})
    assert read_scheduler("bohb", str(plain), "race") == ("bohb", {})
    plain.write_text(SPACE + "[scheduler]\nmin_epochs = 2\n")
    assert read_scheduler("bohb", str(plain), "race") == ("bohb", {"min_epochs": 2})
    assert read_scheduler(None, None, "none") == ("none", {})


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        ('name = "hyperband"', "race", "has the name 'hyperband', --scheduler is race"),
        ('name = "hyperbend"', None, "Did you mean 'hyperband'? Known: race, successive_halving"),
        ("name = 3", None, "unknown scheduler 3. Known: race"),
        ('name = "bohb"\nreductoin = 4', None, "Did you mean 'reduction'? Known: reduction"),
        ('name = "bohb"\nreduction = "4"', None, "reduction must be a whole number, got '4'"),
        ("every = 2", None, "scheduler race: unknown setting 'every'"),
        ("", None, "table [scheduler] is empty"),
    ],
)
def test_a_mistake_is_one_line_with_the_file(
    tmp_path: Path, table: str, given: str | None, message: str
) -> None:
    path = tmp_path / "space.toml"
    path.write_text(f"{SPACE}[scheduler]\n{table}\n")
    with pytest.raises(UserError) as found:
        read_scheduler(given, str(path), "race")
    assert message in str(found.value)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_the_names_of_the_command_line_are_those_that_there_are() -> None:
    assert (*schedulers.REGISTRY, schedulers.NONE) == arguments.SCHEDULERS


@pytest.mark.parametrize("kind", [Settings, SweepSettings])
def test_bohb_needs_a_search_that_sees_scores(kind: type) -> None:
    with pytest.raises(UserError, match="give --search bayesian, not random"):
        kind(scheduler="bohb", search="random")
    with pytest.raises(UserError, match="unknown setting 'rate'"):
        kind(scheduler="bohb", scheduler_settings={"rate": 1})


@pytest.mark.parametrize(
    "name",
    [n for n in schedulers.REGISTRY if isinstance(schedulers.make(n), schedulers.Scheduler)],
)
def test_pieces_add_up_to_whole_trainings(name: str) -> None:
    scheduler = schedulers.make(name)
    for fold in range(3):
        found = pieces(20, 27, 3, fold, scheduler)
        ages: dict[int, int] = {}
        for trial, age, units in found:
            assert ages.get(trial, 0) == age
            ages[trial] = age + units
        assert max(ages.values()) == 27


def test_a_plan_says_rungs_and_epochs() -> None:
    halving = schedulers.successive_halving()
    assert rungs_in_words(9, 9, 2, "epoch", halving) == (
        "bracket of 9 trials: 9 to epoch 1, 3 to epoch 3, 1 to epoch 9",
        "at most 42 of the 162 epochs that all would take in full (26%)",
    )
    assert rungs_in_words(5, 4, 3, "step", schedulers.race()) == (
        "bracket of 5 trials: 5 to step 4 on 1 split, 3 to step 4",
        "at most 44 of the 60 steps that all would take in full (73%)",
    )
