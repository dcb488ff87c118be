"""The command line's grammar; every mistake in it becomes one line with the nearest name."""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

from jaxopt_lab.cli.converters import GIB, SECONDS, near, number, one_of, whole
from jaxopt_lab.core.errors import UserError, did_you_mean

#: `search.REGISTRY` by name, known here so that help and mistakes need no JAX.
SEARCHES = ("random", "grid", "quasi_random", "bayesian")
#: `tuning.settings.SCHEDULERS`.
SCHEDULERS = (
    *("race", "successive_halving", "hyperband", "median_stopping", "curve_extrapolation", "bohb"),
    *("population_based_training", "pb2", "none"),
)
TASKS = ("auto", "regression", "classification")
LOG_TARGETS = ("auto", "yes", "no")
NUMERICS = ("standard", "quantile", "piecewise_linear")
PREFERENCES = ("best", "small")
#: `datasets.target_losses.LOSSES`.
LOSSES = ("squared", "absolute", "huber", "quantile")
#: `tuning.other_candidates.ENSEMBLES`.
ENSEMBLES = ("networks", "all")
#: The greatest seed that scikit-learn's splitters take.
_MAX_SEED = 2**32 - 1


class _Options(Protocol):
    """A parser, or a group of its options under a heading."""

    @property
    def add_argument(self) -> Callable[..., Any]: ...


class _Parser(argparse.ArgumentParser):
    """Raises `UserError` instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ")
        missing = "the following arguments are required: "
        if text.startswith(missing):
            text = f"missing {text.removeprefix(missing)}"
        raise UserError(f"{text}; see '{self.prog} --help'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Args:
      argv: what follows the command's name.

    Returns:
      The options, with `command`.

    Raises:
      UserError: in one line, for anything unknown, missing or out of range.
      SystemExit: after --help and --version.
    """
    parser, commands = _build()
    if not argv:
        names = ", ".join(commands)
        raise UserError(f"give a command: {names}; see 'jaxopt-lab --help'")
    first = argv[0]
    if first in commands:
        _check_options(argv[1:], commands[first])
    elif not first.startswith("-"):
        hint = did_you_mean(first, commands)
        raise UserError(f"unknown command {first!r}.{hint} Known: {', '.join(commands)}")
    else:
        _check_options(argv, parser)
    args, rest = parser.parse_known_args(argv)
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; see 'jaxopt-lab {first} --help'")
    return args


def _check_options(given: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Refuse unknown options before argparse complains about what they leave missing."""
    known = parser._option_string_actions
    for token in given:
        if token == "--":
            return
        name = token.partition("=")[0]
        if name.startswith("--") and name not in known:
            long = [option for option in known if option.startswith("--")]
            hint = did_you_mean(name, long)
            raise UserError(f"unknown option {name!r}.{hint} See '{parser.prog} --help'")


def _build() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(
        prog="jaxopt-lab",
        description="Tune neural networks, or any function, by training populations of trials.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary, build in (
        ("tune", "search hyperparameters for a table and train the winner", _tune),
        ("plan", "say what tune would compile and train, and how long it would take", _tune),
        ("sweep", "search hyperparameters of a problem that a Python script exports", _sweep),
        ("calibrate", "measure this machine for the choice of programs", _calibrate),
        ("stabilize", "find out why a validation loss fluctuates, and fix it", _stabilize),
        ("diagnose", "say what the logged curves of any training show", _diagnose),
        ("show", "print the trials of a study", _show),
        ("predict", "predict the rows of a table with a tuned model", _predict),
        ("report", "write a study's report.html again", _report),
        ("replay", "train alone the schedule that a population found", _replay),
    ):
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            allow_abbrev=False,
        )
        build(sub)
    return parser, commands.choices


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"jaxopt-lab {version('jaxopt-lab')}")
        except PackageNotFoundError:
            print("jaxopt-lab, not installed")
        raise SystemExit(0)


def _tune(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", help="CSV, TSV, JSON, Excel or Parquet file, or lucas_houses")
    add(
        "--target",
        metavar="COLUMN",
        action="append",
        required=True,
        help="the column to predict; several columns of numbers, which one network predicts, with "
        "commas between them or by one --target each",
    )
    add(
        "--task",
        type=one_of(TASKS),
        default="auto",
        metavar="|".join(TASKS),
        help="auto: classification for text, booleans, integers with at most 20 values",
    )
    add("--out", metavar="DIR", help="where to keep the study (default: runs/NAME of the data)")
    add(
        "--seed",
        metavar="S",
        type=whole(0, _MAX_SEED),
        default=0,
        help="of everything (default: 0)",
    )
    _tune_search(parser)
    _table(parser)
    _winner(parser)
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--calibration", metavar="FILE", help="what 'jaxopt-lab calibrate' wrote on this machine"
    )
    _max_gib(machine)
    _bounds(machine)
    _others(parser)


def _tune_search(parser: argparse.ArgumentParser) -> None:
    """What `tune` tries, and how long."""
    group = parser.add_argument_group(
        "search",
        "Trials, folds and epochs follow from rows and columns; 'jaxopt-lab plan' says what to.",
    )
    add = group.add_argument
    add("--trials", metavar="N", type=whole(1), help="configurations to try")
    add("--folds", metavar="K", type=whole(1), help="of the cross-validation; 1: one hold-out")
    add("--epochs", metavar="E", type=whole(1), help="epochs of each network")
    add(
        "--space",
        metavar="FILE.toml",
        help="search space, in a table [space]; a table [scheduler] may set a scheduler",
    )
    _search(
        group,
        "bayesian, after a quasi-random wide search",
        "race: one fold first, then the better half on the others",
    )
    add(
        "--prior",
        metavar="FILE.toml",
        help="configuration that you believe in, in a table [hyperparameters]: tried first, then "
        "others around it",
    )
    add("--widen", action="store_true", help="let refined ranges leave those of the space file")
    add(
        "--stop-at",
        type=number("a number", math.isfinite),
        metavar="SCORE",
        help="stop searching once a trial's score is at most this",
    )
    add(
        "--stop-improvement",
        type=number("a number above 0", lambda value: 0.0 < value < math.inf),
        metavar="SHARE",
        help="stop once the expected improvement stays below this share of the best trial's "
        "standard error over folds (0.35, say)",
    )


def _table(parser: argparse.ArgumentParser) -> None:
    """What `tune` makes of rows and columns."""
    add = parser.add_argument_group("rows and columns").add_argument
    add(
        "--test-fraction",
        type=number("a number from 0 to below 1", lambda value: 0.0 <= value < 1.0),
        default=0.2,
        metavar="F",
        help="share of the rows held out to the end (default: 0.2)",
    )
    add("--group", metavar="COLUMN", help="splits keep rows with the same value there together")
    add(
        "--time",
        metavar="COLUMN",
        help="dates or numbers; validation and test rows are later than training rows",
    )
    add(
        "--keep-split-column",
        action="store_true",
        help="learn from the column of --group or --time, too",
    )
    add("--weights", metavar="COLUMN", help="numbers of at least 0, what each row counts in losses")
    add(
        "--log-target",
        type=one_of(LOG_TARGETS),
        default="auto",
        metavar="|".join(LOG_TARGETS),
        help="learn the logarithm; auto: if positive and skewed",
    )
    add(
        "--loss",
        type=one_of(LOSSES),
        metavar="|".join(LOSSES),
        help="what a number is learnt by, and trials are compared by: squared predicts a mean, "
        "absolute the median, huber what lies between, quantile the one of --quantile (default: "
        "that of a table [loss] in the space file, else squared)",
    )
    add(
        "--quantile",
        type=number("a number between 0 and 1", lambda value: 0.0 < value < 1.0),
        metavar="Q",
        help="of --loss quantile: 0.9 predicts what 90 %% of the rows lie below",
    )
    add(
        "--numeric",
        type=one_of(("auto", *NUMERICS)),
        default="auto",
        metavar="|".join(("auto", *NUMERICS)),
        help="encoding of numeric columns (default: piecewise_linear, but standard where that "
        "makes more columns than there are rows and tells less)",
    )
    add(
        "--bins",
        metavar="B",
        type=whole(2),
        help="bins of piecewise_linear (default: square root of the rows, 32 to 96; 24, 12 or 6 "
        "where these tell more of rows that are held out)",
    )
    add(
        "--near",
        metavar="COLUMN,COLUMN|auto|none",
        type=near,
        default="auto",
        help="two columns that say where a row is: the target of the nearest training rows becomes "
        "a feature (default: they are looked for)",
    )


def _winner(parser: argparse.ArgumentParser) -> None:
    """What comes out of `tune`."""
    add = parser.add_argument_group("winner").add_argument
    add(
        "--prefer",
        type=one_of(PREFERENCES),
        default="best",
        metavar="|".join(PREFERENCES),
        help="small: the smallest network within one standard error of the best",
    )
    add(
        "--ensemble",
        type=one_of(ENSEMBLES),
        default="networks",
        metavar="|".join(ENSEMBLES),
        help="all: gradient boosting and a linear model may join the networks (default: networks)",
    )
    add(
        "--members",
        metavar="K",
        type=whole(1, 256),
        default=1,
        help="train the winner's configuration again as networks of K members that share their "
        "kernels (TabM); one wins, or joins the ensemble, where it scores better (default: none)",
    )


def _search(group: _Options, sampler: str, scheduler: str) -> None:
    """Who proposes trials, who stops them, and when all stop.

    Args:
      group: of a command's options.
      sampler: the default, in words.
      scheduler: the same.
    """
    add = group.add_argument
    add(
        "--search",
        type=one_of(SEARCHES),
        default="bayesian",
        metavar="NAME",
        help=f"{', '.join(SEARCHES)} (default: {sampler})",
    )
    add(
        "--scheduler",
        type=one_of(SCHEDULERS),
        metavar="NAME",
        help=f"who is stopped early, or learns from whom: {', '.join(SCHEDULERS)} "
        f"(default: that of a table [scheduler] in the space file, else {scheduler})",
    )
    add(
        "--time-limit",
        type=SECONDS,
        metavar="SECONDS",
        help="stop searching in time; the rest of the trials is marked stopped",
    )


def _others(parser: argparse.ArgumentParser) -> None:
    """Who else is told of a search while it runs, and who trains it."""
    add = parser.add_argument_group("other tools").add_argument
    add(
        "--log",
        metavar="KIND:WHERE",
        action="append",
        default=[],
        help="a tracker, any number of times: tensorboard:DIR, mlflow:URI, wandb:DIR, trackio:NAME",
    )
    add(
        "--optuna",
        metavar="URL",
        help="storage of Optuna's, such as sqlite:///x.db, for 'optuna-dashboard URL'",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="train on the workers of a Ray cluster: its address, auto, or local to start one here",
    )


def _max_gib(group: _Options) -> None:
    """The size of the table, for every command that reads one."""
    add = group.add_argument
    add(
        "--max-gib",
        dest="max_bytes",
        metavar="GIB",
        type=lambda text: int(GIB(text) * 2**30),
        default=2**30,
        help="read tables that hold at most this much, unpacked (default: 1)",
    )


def _bounds(group: _Options) -> None:
    """What bounds how many trials train together."""
    add = group.add_argument
    add(
        "--memory-limit",
        metavar="GIB",
        type=GIB,
        help="what training may take on all devices; Python and XLA take half a GiB more",
    )
    add(
        "--cohort-width",
        metavar="V",
        type=whole(1),
        help="at most so many trials train together on a device",
    )


def _sweep(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "script",
        metavar="FILE.py[:NAME]",
        help="script and name of its problem, or of a function that returns one (default: "
        "problem, or the only one)",
    )
    add("--space", metavar="FILE.toml", help="search space, in a table [space], not the script's")
    add("--trials", metavar="N", type=whole(1), default=32, help="to try (default: 32)")
    add("--budget", metavar="B", type=whole(1), help="units of each trial: steps, epochs")
    _search(parser, "bayesian", "none")
    add("--out", metavar="DIR", help="where to keep the study (default: runs/NAME of the script)")
    add("--seed", metavar="S", type=whole(0, _MAX_SEED), default=0, help="(default: 0)")
    _bounds(parser)
    add(
        "--keep",
        metavar="N",
        type=whole(1),
        default=20,
        help="trials, the best, of which results such as weights are kept (default: 20)",
    )
    add("--plan", action="store_true", help="say what would be compiled and train nothing")
    _others(parser)


def _calibrate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", metavar="FILE", default="calibration.json", help="(default: calibration.json)")
    add("--quick", action="store_true", help="fewer and shorter runs")


def _stabilize(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        nargs="?",
        help="CSV, TSV, JSON, Excel or Parquet file, or lucas_houses",
    )
    add("--target", metavar="COLUMN", help="the column to predict")
    add("--config", metavar="BASE.toml", help="configuration, in a table [hyperparameters]")
    add("--study", metavar="DIR", help="instead of DATA: a study, whose table is read again")
    add("--trial", metavar="ID", type=whole(0), help="the trial of it to stabilise")
    add(
        "--epochs",
        metavar="E",
        type=whole(4),
        help="epochs of each training (default: 20 to 60, or the study's; fewer if that is long)",
    )
    add("--seeds", metavar="R", type=whole(2, 64), help="of each (default: 4, 2 if that is long)")
    add("--out", metavar="DIR", help="where to write (default: runs/NAME-stabilize)")
    add(
        "--time-limit",
        type=SECONDS,
        metavar="SECONDS",
        help="try no more cures after a part of this time",
    )
    add("--seed", metavar="S", type=whole(0, _MAX_SEED), default=0, help="(default: 0)")
    add("--task", type=one_of(TASKS), default="auto", metavar="|".join(TASKS), help="as in tune")
    add(
        "--log-target",
        type=one_of(LOG_TARGETS),
        default="auto",
        metavar="|".join(LOG_TARGETS),
        help="as in tune",
    )
    _max_gib(parser)


def _diagnose(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "files",
        metavar="FILE",
        nargs="+",
        help="CSV file of epochs or steps, such as Keras' and Lightning's CSVLogger write, or a "
        "folder of TensorBoard; several are several runs",
    )
    for name, what in (
        ("--loss", "validation loss"),
        ("--train-loss", "training loss"),
        ("--grad-norm", "gradient norm"),
        ("--lr", "learning rate"),
        ("--step", "epoch or step"),
        ("--run", "run, where one file holds several"),
    ):
        add(name, metavar="COLUMN", help=f"{what} (default: found by its name)")
    add(
        "--constant",
        metavar="LOSS",
        type=number("a number above 0", lambda value: 0.0 < value < math.inf),
        help="validation loss of the best constant prediction, to tell what learned nothing",
    )
    add("--valid-rows", metavar="N", type=whole(1), help="validation rows that the loss is of")
    add("--json", action="store_true", help="print JSON instead of text")
    add("-o", "--output", metavar="FILE.json", help="write JSON there; - for standard output")
    add("--report", metavar="FILE.html", help="write a page of curves and evidence there")


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the study's directory")
    parser.add_argument("--csv", action="store_true", help="CSV on stdout, no clock times")
    parser.add_argument("--timing", action="store_true", help="add networks trained and seconds")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the study's directory, or its model/")
    parser.add_argument("data", metavar="DATA", help="table with the feature columns")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.csv",
        required=True,
        help="where to write predictions; - for standard output, .gz compresses",
    )
    parser.add_argument(
        "--single", action="store_true", help="use the single network, not the ensemble"
    )
    parser.add_argument(
        "--interval",
        type=number("a number between 0 and 1", lambda value: 0.0 < value < 1.0),
        metavar="C",
        help="add columns TARGET_lower and TARGET_upper of each target, which hold the truth of a "
        "new row with probability C (0.9, say)",
    )
    parser.add_argument(
        "--excel",
        action="store_true",
        help="put ' before labels that a spreadsheet takes for formulas: those with = + - @ first",
    )
    _max_gib(parser)


def _replay(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", metavar="DIR", help="the study's directory")
    add(
        "script",
        metavar="FILE.py[:NAME]",
        nargs="?",
        help="the script of its problem, as for sweep; a table is found without",
    )
    add("--trial", metavar="ID", type=whole(0), help="whose schedule (default: the best trial's)")
    add("-o", "--output", metavar="FILE.csv", help="write the schedule; - for standard output")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the study's directory")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.html",
        help="where to write the page (default: report.html in DIR)",
    )
