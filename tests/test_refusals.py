"""Bad input gets one clear line, the right exit code, no traceback, and loses nothing."""

import errno
import fcntl
import gzip
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lab.cli import run, tune
from jaxopt_lab.storage.store import Store

Refused = Callable[..., str]


def csv_of(**columns: list) -> str:
    """CSV text of columns of equal length."""
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


def table(**replaced: list) -> str:
    """A good table of 40 rows, columns replaced or added."""
    size = np.random.default_rng(0).uniform(1.0, 9.0, 40).round(3).tolist()
    price = [round(3.0 * s + i % 7, 3) for i, s in enumerate(size)]
    kind = ["a", "b"] * 20
    return csv_of(**{"size": size, "kind": kind, "price": price, **replaced})


FILES: dict[str, str | bytes] = {
    "good.csv": table(),
    "empty.csv": "",
    "blank.csv": "\n\n",
    "header.csv": "size,kind,price\n",
    "binary.csv": bytes(range(256)) * 20,
    "damaged.csv.gz": gzip.compress(table().encode())[:60],
    "sheet.xlsx": b"PK\x03\x04" + bytes(100),
    "twice.csv": "size,size,price\n" + "1,2,3\n" * 40,
    "ragged.csv": table() + "1,b,2,9,9,9\n",
    "constant.csv": table(price=[7.5] * 40),
    "text.csv": table(price=[1.5] * 39 + ["cheap"]),
    "inf.csv": table(price=[*np.arange(39.0), "inf"]),
    "negative.csv": table(price=[*np.arange(39.0), -1.0]),
    "gone.csv": table(price=[""] * 40),
    "one_class.csv": table(kind=["a"] * 40),
    "rare_class.csv": table(kind=["a"] * 20 + ["b"] * 17 + ["c"] * 3),
    "lone_class.csv": table(kind=["a"] * 20 + ["b"] * 19 + ["c"]),
    "only_target.csv": csv_of(price=list(range(40))),
    "short.csv": csv_of(size=[1.0, 2.5, 3.0], price=[1.0, 2.0, 4.5]),
    "upside_down.toml": "[space]\ndropout = { uniform = [0.5, 0.1] }\n",
    "log_zero.toml": "[space]\nlearning_rate = { log_uniform = [0.0, 0.1] }\n",
    "unknown_name.toml": "[space]\nlearnin_rate = 0.1\n",
    "unknown_kind.toml": "[space]\ndropout = { unifrom = [0.1, 0.5] }\n",
    "unknown_value.toml": '[space]\noptimizer = "adamm"\n',
    "broken.toml": "[space\nlearning_rate = 0.1\n",
    "wrong_type.toml": '[space]\nlearning_rate = "fast"\n',
    "wrong_end.toml": '[space]\nlearning_rate = { uniform = ["a", 1] }\n',
    "three_ends.toml": "[space]\ndropout = { uniform = [0.1, 0.2, 0.3] }\n",
    "hard_limit.toml": "[space]\ndropout = { uniform = [0.1, 1.0] }\n",
    "no_table.toml": "[spcae]\nlearning_rate = 0.1\n",
    "date.toml": "[space]\nlearning_rate = 2024-01-01\n",
    "fractional.toml": "[space]\nnum_layers = { choice = [1, 2.5] }\n",
    "diverging.toml": (
        '[space]\noptimizer = "sgd"\nlearning_rate = 1e6\nnum_layers = 2\nhidden_size = 8\n'
    ),
    "tiny.toml": "[space]\nlearning_rate = { uniform = [0.01, 0.1] }\nnum_layers = 1\n"
    "hidden_size = 4\n",
}

# name: (options after `tune`, what the line must say)
TUNE = {
    "missing file": ("absent.csv", "there is no file"),
    "missing file, near name": ("goood.csv", "Did you mean 'good.csv'?"),
    "a directory": (".", "is a directory"),
    "empty file": ("empty.csv", "empty.csv is empty"),
    "blank file": ("blank.csv", "blank.csv is empty"),
    "header only": ("header.csv", "no rows"),
    "binary file": ("binary.csv", "binary file"),
    "damaged gzip": ("damaged.csv.gz", "damaged or incomplete gzip"),
    "Excel file": ("sheet.xlsx", "Excel"),
    "no such column": ("good.csv --target prise", "no column 'prise'. Did you mean 'price'?"),
    "duplicate columns": ("twice.csv", "duplicate column names: 'size'"),
    "ragged rows": ("ragged.csv", "line 42"),
    "constant target": ("constant.csv --task regression", "constant: every row is 7.5"),
    "text in target": ("text.csv --task regression", "holds 'cheap'"),
    "inf in target": ("inf.csv --task regression", "infinite in data row 40"),
    "log of negative": ("negative.csv --task regression --log-target yes", "zero or negative"),
    "target missing": ("gone.csv", "missing in every row"),
    "one class": ("one_class.csv --target kind", "one class only"),
    "rare class": ("rare_class.csv --target kind --folds 5", "smallest class has only 2"),
    "class of one row": ("lone_class.csv --target kind", "class 'c' has one row only"),
    "only the target": ("only_target.csv --task regression", "no usable feature columns"),
    "few rows": ("short.csv", "at least 10 are needed"),
    "more folds than rows": ("good.csv --folds 41", "41 folds are more than the 32"),
    "range upside down": (
        "good.csv --space upside_down.toml",
        "Uniform: low must be below high, got [0.5, 0.1]",
    ),
    "log range at zero": ("good.csv --space log_zero.toml", "low end must be above 0"),
    "unknown hyperparameter": (
        "good.csv --space unknown_name.toml",
        "unknown hyperparameter 'learnin_rate'. Did you mean 'learning_rate'?",
    ),
    "unknown distribution": ("good.csv --space unknown_kind.toml", "Did you mean 'uniform'?"),
    "unknown value": ("good.csv --space unknown_value.toml", "Did you mean 'adam"),
    "broken TOML": ("good.csv --space broken.toml", "broken.toml is not valid TOML"),
    "missing TOML": ("good.csv --space absent.toml", "cannot read"),
    "wrong type": ("good.csv --space wrong_type.toml", "learning_rate must be a number"),
    "wrong type of an end": ("good.csv --space wrong_end.toml", "must be finite numbers"),
    "three ends": ("good.csv --space three_ends.toml", "takes [low, high]"),
    "hard limit": ("good.csv --space hard_limit.toml", "dropout = 1 is outside [0, 1)"),
    "no table": ("good.csv --space no_table.toml", "Did you mean 'spcae'?"),
    "a date": ("good.csv --space date.toml", "learning_rate: write a plain value"),
    "fractional layers": ("good.csv --space fractional.toml", "must be a whole number"),
    "unknown option": ("good.csv --epoch 3", "unknown option '--epoch'. Did you mean '--epochs'?"),
    "unknown option, =": ("good.csv --trails=3", "Did you mean '--trials'?"),
    "option without value": ("good.csv --out", "--out: expected one argument"),
    "second table": ("good.csv other.csv", "unexpected argument 'other.csv'"),
    "negative epochs": ("good.csv --epochs -3", "at least 1, got '-3'"),
    "zero trials": ("good.csv --trials 0", "at least 1, got '0'"),
    "half a trial": ("good.csv --trials 2.5", "must be a whole number"),
    "zero folds": ("good.csv --folds 0", "at least 1, got '0'"),
    "unknown search": ("good.csv --search randm", "Did you mean 'random'?"),
    "unknown scheduler": ("good.csv --scheduler rase", "Did you mean 'race'?"),
    "unknown task": ("good.csv --task regresion", "Did you mean 'regression'?"),
    "unknown encoding": ("good.csv --numeric quantiles", "Did you mean 'quantile'?"),
    "unknown preference": ("good.csv --prefer smal", "Did you mean 'small'?"),
    "test fraction 1.5": ("good.csv --test-fraction 1.5", "from 0 to below 1, got '1.5'"),
    "test fraction nan": ("good.csv --test-fraction nan", "from 0 to below 1"),
    "seed no number": ("good.csv --seed one", "must be a whole number"),
    "seed beyond 32 bits": ("good.csv --seed 4294967296", "at most 4294967295"),
    "time limit 0": ("good.csv --time-limit 0", "above 0, got '0'"),
    "time limit negative": ("good.csv --time-limit -5", "above 0, got '-5'"),
    "one bin": ("good.csv --bins 1", "at least 2"),
}
OTHERS = {
    "no command": ("", "give a command"),
    "unknown command": ("tun good.csv", "unknown command 'tun'. Did you mean 'tune'?"),
    "no target": ("tune good.csv", "missing --target"),
    "show nothing": ("show absent", "no study in absent"),
    "report of nothing": ("report absent", "no study in absent"),
    "predict without directory": ("predict absent good.csv -o out.csv", "no directory absent"),
    "predict without model": ("predict . good.csv -o out.csv", "no model in ."),
    "predict without output": ("predict . good.csv", "missing -o/--output"),
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with all the files, and JAX left as the tests have set it up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "prepare_jax", lambda num_devices: None)
    for name, content in FILES.items():
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line that must fail; the one line that it prints."""

    def check(command: str, code: int = 2) -> str:
        found = run(command.split())
        printed = capsys.readouterr()
        assert found == code, printed
        lines = printed.err.splitlines()
        assert len(lines) == 1, printed.err
        assert lines[0].startswith("jaxopt-lab: ")
        assert "Traceback" not in printed.out + printed.err
        assert "unexpected " not in lines[0] or "argument" in lines[0], lines[0]
        return lines[0]

    return check


def with_target(options: str) -> str:
    return options if "--target" in options else f"{options} --target price"


@pytest.mark.parametrize("case", TUNE)
def test_tune_refuses(case: str, refused: Refused, workplace: Path) -> None:
    options, message = TUNE[case]
    assert message in refused(f"tune {with_target(options)}")
    assert not (workplace / "runs").exists(), "a refused command left a directory behind"


@pytest.mark.parametrize("case", OTHERS)
def test_others_refuse(case: str, refused: Refused) -> None:
    command, message = OTHERS[case]
    assert message in refused(command)


# A small study that a good command line makes.
QUICK = "tune good.csv --target price --space tiny.toml --trials 2 --folds 1 --epochs 2 --out study"
QUICK += " --numeric standard"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished study; copy it before changing it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "good.csv").write_text(table())
    (folder / "tiny.toml").write_text(str(FILES["tiny.toml"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        assert run(QUICK.split()) == 0
    return folder / "study"


@pytest.fixture
def study(finished: Path, workplace: Path) -> Path:
    """A copy of the finished study, as `study`."""
    import shutil

    return Path(shutil.copytree(finished, workplace / "study"))


TINY = "--space tiny.toml --trials 2 --epochs 2 --numeric standard --out study"


def test_folds_by_formula_come_down_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"tune rare_class.csv --target kind {TINY}".split()) == 0
    assert "note: 2 folds instead of 5: class 'c' has no more rows" in capsys.readouterr().out


def test_a_dozen_rows_are_enough(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    rows = FILES["good.csv"].splitlines()[:12]  # type: ignore[union-attr]
    (workplace / "dozen.csv").write_text("\n".join(rows) + "\n")
    assert run(f"tune dozen.csv --target price {TINY} --folds 1".split()) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "untuned_mlp cannot be fitted to this table: it has too few rows to set" in printed
    assert (workplace / "study" / "model" / "model.json").exists()


def test_appended_rows_are_said(study: Path, refused: Refused, workplace: Path) -> None:
    with open(workplace / "good.csv", "a") as file:
        file.write("1.5,a,7.25\n")
    assert "the table has changed since the study" in refused(QUICK)


def test_labels_come_back_as_they_were_written(workplace: Path) -> None:
    labels = ["01", "1", "None", "NA"] * 10
    (workplace / "labels.csv").write_text(table(kind=labels))
    assert run(f"tune labels.csv --target kind {TINY} --folds 1".split()) == 0
    (workplace / "new.csv").write_text("size,price\n1.5,3\n\n2.5,4\n")
    assert run(["predict", "study", "new.csv", "-o", "out.csv"]) == 0
    lines = (workplace / "out.csv").read_text().splitlines()
    assert len(lines) == 1 + 3
    names = [f"probability_{label}" for label in ("01", "1", "NA", "None")]
    assert sorted(lines[0].split(",")[1:]) == sorted(names)
    assert all(line.split(",")[0] in labels for line in lines[1:])


def test_a_corrupt_study_is_left_untouched(study: Path, refused: Refused) -> None:
    damaged = b"no database at all" * 300
    (study / "study.sqlite").write_bytes(damaged)
    for command in (QUICK, "show study", "report study"):
        assert "is corrupt and was left as it is" in refused(command)
        assert (study / "study.sqlite").read_bytes() == damaged


def test_a_study_with_damaged_pages_is_left_untouched(study: Path, refused: Refused) -> None:
    for extra in ("-wal", "-shm"):
        (study / f"study.sqlite{extra}").unlink(missing_ok=True)
    content = bytearray((study / "study.sqlite").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (study / "study.sqlite").write_bytes(content)
    assert "is corrupt and was left as it is" in refused(QUICK)
    assert (study / "study.sqlite").read_bytes() == content


def test_a_study_of_a_later_version_is_left_untouched(study: Path, refused: Refused) -> None:
    with closing(sqlite3.connect(study / "study.sqlite")) as database, database:
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("PRAGMA user_version=99")
    content = (study / "study.sqlite").read_bytes()
    for command in (QUICK, "show study"):
        assert "was written by a later version of jaxopt-lab (schema 99" in refused(command)
        assert (study / "study.sqlite").read_bytes() == content


def test_a_strange_database_is_left_untouched(workplace: Path, refused: Refused) -> None:
    (workplace / "study").mkdir()
    with closing(sqlite3.connect(workplace / "study" / "study.sqlite")) as database, database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    content = (workplace / "study" / "study.sqlite").read_bytes()
    assert "is not a study of jaxopt-lab" in refused(QUICK)
    assert (workplace / "study" / "study.sqlite").read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--seed 1", "another seed: 0 there, 1 now"),
        ("--epochs 3", "another budget: 2 there, 3 now"),
        ("--folds 2", "another num_folds: 1 there, 2 now"),
        ("--test-fraction 0.3", "0.2 there, 0.3 now"),
        ("--space diverging.toml", "another space"),
        ("--search random", "'quasi_random' there, 'random' now"),
    ],
)
def test_other_settings_are_refused(
    study: Path, refused: Refused, change: str, message: str
) -> None:
    before = (study / "best.json").read_bytes()
    assert message in refused(f"{QUICK} {change}")
    assert (study / "best.json").read_bytes() == before


def test_prediction_needs_every_column(study: Path, refused: Refused, workplace: Path) -> None:
    (workplace / "new.csv").write_text("siez,kind\n1.5,a\n")
    message = refused("predict study new.csv -o out.csv")
    assert "size" in message
    assert not (workplace / "out.csv").exists()


def test_predictions_do_not_replace_their_table(study: Path, refused: Refused) -> None:
    assert "is the table itself" in refused("predict study good.csv -o good.csv")
    assert Path("good.csv").read_text() == FILES["good.csv"]


def test_a_damaged_model_is_refused(study: Path, refused: Refused) -> None:
    (study / "model" / "weights.safetensors").write_bytes(b"damaged")
    assert "model in study/model is damaged" in refused("predict study good.csv -o out.csv")
    (study / "model" / "model.json").unlink()
    assert "model.json is missing" in refused("predict study good.csv -o out.csv")


def test_an_unwritable_directory(refused: Refused) -> None:
    command = QUICK.replace("--out study", "--out good.csv/study")
    assert "cannot write good.csv/study" in refused(command, code=1)


def test_an_unwritable_prediction(study: Path, refused: Refused) -> None:
    assert "cannot write" in refused("predict study good.csv -o good.csv/out.csv", code=1)


def no_space(handle: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert "the disk is full" in refused(QUICK, code=1)
    assert not list(workplace.rglob("*.part"))
    assert run(QUICK.split()) == 0


def test_a_full_disk_under_the_database(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    prepare = Store._prepare

    def cramped(self: Store, read_only: bool) -> None:
        prepare(self, read_only)
        self._db.execute("PRAGMA max_page_count=1")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_prepare", cramped)
        command = QUICK.replace("--epochs 2", "--epochs 500")  # curves that need pages of their own
        assert "the disk is full" in refused(command, code=1)
    assert run(command.split()) == 0


def test_a_directory_in_use(study: Path, refused: Refused) -> None:
    with open(study / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use by another process" in refused(QUICK, code=1)
        assert run(["show", "study"]) == 0, "others may look on"


def test_every_trial_diverged(refused: Refused) -> None:
    command = QUICK.replace("tiny", "diverging").replace("--epochs 2", "--epochs 20")
    message = refused(command, code=1)
    assert "every trial diverged (2 of 2; trial 0: " in message


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"JAX_PLATFORMS": "abacus"}, 1, "JAX does not start with JAX_PLATFORMS=abacus"),
        ({"JAX_PLATFORMS": "rocm"}, 1, "JAX does not start with JAX_PLATFORMS=rocm"),
        ({"XLA_FLAGS": "--xla_abacus=1"}, 2, "does not start with the flags --xla_abacus"),
    ],
)
def test_jax_does_not_start(changes: dict[str, str], code: int, message: str) -> None:
    environment = {**os.environ, **changes}
    done = subprocess.run(
        [sys.executable, "-m", "jaxopt_lab", *QUICK.split()],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
