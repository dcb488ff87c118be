"""`jaxopt-lab sweep`: search the hyperparameters of a problem that a script exports."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_lab.cli import process, progress, show, summary, tune
from jaxopt_lab.cli.console import duration, make_console, short
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.storage.store import Store
from jaxopt_lab.storage.validation import settings_of

if TYPE_CHECKING:
    from rich.console import Console

    from jaxopt_lab.cli.script import Exported
    from jaxopt_lab.tuning.sweep import SweepSettings


def execute(args: Namespace) -> int:
    """Sweep, or go on where the same command stopped, and print the best trial."""
    from jaxopt_lab.cli import script

    path, name = script.split_name(args.script)
    directory = Path(args.out).expanduser() if args.out else default_directory(path, name)
    console = make_console()
    # The script may say more about JAX before it starts.
    tune.configure_jax(None if args.plan else tune.stored_devices(directory))
    exported = script.load(path, name, args.space)
    tune.start_jax()
    from jaxopt_lab.integrations import placements, trackers
    from jaxopt_lab.tuning import sweep

    settings = read_settings(args)
    if args.plan:
        found = sweep.plan(exported.problem, exported.space, settings)
        console.print(str(found), soft_wrap=True, highlight=False, markup=False)
        return 0
    callbacks = trackers.from_options(args.log, args.optuna)
    placement = placements.from_options(args.ray, exported.module)
    console.print(_introduce(exported, path, directory), soft_wrap=True)
    with progress.display(console, args.trials, "trainings") as shown:
        content = sweep.run(
            exported.problem,
            exported.space,
            settings,
            directory,
            progress=shown.update,
            say=shown.say,
            source=exported.sha256,
            callbacks=callbacks,
            placement=placement,
        )
        _write_trials(directory)
        has_report = tune.write_report(directory)
    print_best(console, content, directory, has_report)
    return 0 if has_report else process.MACHINE


def default_directory(path: Path, name: str | None) -> Path:
    """`runs/` and the names of the script and, where it is given, of the problem.

    Examples:
      >>> default_directory(Path("experiments/train.py"), None).as_posix()
      'runs/train'
      >>> default_directory(Path("train.py"), "digits").as_posix()
      'runs/train-digits'
    """
    return Path("runs") / (f"{path.stem}-{name}" if name else path.stem)


def read_settings(args: Namespace) -> "SweepSettings":
    """What the options of `sweep` ask for."""
    from jaxopt_lab.cli.scheduler import read_scheduler
    from jaxopt_lab.tuning.sweep import SweepSettings

    scheduler, scheduler_settings = read_scheduler(args.scheduler, args.space, "none")
    return SweepSettings(
        trials=args.trials,
        budget=args.budget,
        seed=args.seed,
        search=args.search,
        scheduler=scheduler,
        scheduler_settings=scheduler_settings,
        time_limit=args.time_limit,
        memory_limit=args.memory_limit and int(args.memory_limit * 2**30),
        cohort_width=args.cohort_width,
        keep=args.keep,
    )


def _introduce(exported: "Exported", path: Path, directory: Path) -> str:
    """What is optimised over what, in one line."""
    objective = exported.problem.objective
    names = ", ".join(exported.space.names) or "nothing"
    return (
        f"{path}: {exported.name}, {objective.direction} {objective.metric} over {names}; study in "
        f"{directory}"
    )


def _write_trials(directory: Path) -> None:
    """Write `trials.csv`: what `show --csv` prints."""
    store = Store.open(directory, read_only=True)
    try:
        settings = settings_of(store)
        rows = show.signed(show.table_rows(store, timing=False), settings)
    finally:
        store.close()
    write_file(directory / "trials.csv", show.csv_of(rows, settings).encode())


def print_best(
    console: "Console", content: dict[str, Any], directory: Path, has_report: bool = True
) -> None:
    """Print the best trial, how the others ended, and where to look.

    Args:
      console: where to.
      content: of `best.json`.
      directory: of the study.
      has_report: whether its page was written.
    """
    validation, folds = content["validation"], content["validation"]["folds"]
    error = validation["standard_error"]
    around = (
        f" (standard error over {len(folds)} runs {short(error, 2)})" if error is not None else ""
    )
    chosen = ", ".join(f"{k}={short(v)}" for k, v in content["hyperparameters"].items())
    lines = [
        "",
        f"best: trial {content['trial_id']}, {validation['metric']} "
        f"{short(validation['mean'], 5)}{around}: {chosen}",
        f"trials: {', '.join(f'{n} {status}' for status, n in content['trials'].items())}; "
        f"{duration(content['seconds']['total'])}, "
        f"{duration(content['seconds']['compile'])} of it compiling",
        *summary.curve_findings(content),
        "",
        *summary.where_to_look(directory, has_report),
    ]
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)
