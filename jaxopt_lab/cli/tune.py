"""`jaxopt-lab tune`: from a table to a tuned network, its scores and its report."""

import os
import warnings
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxopt_lab.cli import environment, process, progress, summary
from jaxopt_lab.cli.console import make_console
from jaxopt_lab.core.errors import MachineError, UserError

if TYPE_CHECKING:
    from jaxopt_lab.datasets import Table
    from jaxopt_lab.tuning.settings import Settings

#: Programs that took less than this to compile are not worth a file.
_MIN_COMPILE_SECONDS = 0.2
_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".json", ".jsonl", ".arff", ".xlsx")


def execute(args: Namespace) -> int:
    """Tune, or go on where the same command stopped, and print what came out."""
    directory = Path(args.out).expanduser() if args.out else default_directory(args.data)
    console = make_console()
    prepare_jax(stored_devices(directory))
    from jaxopt_lab.integrations import placements, trackers
    from jaxopt_lab.tuning import tune

    settings, callbacks = read_settings(args), trackers.from_options(args.log, args.optuna)
    placement = placements.from_options(args.ray)
    table = load(args)
    console.print(_introduce(table, directory), soft_wrap=True)
    for note in table.notes:
        console.print(f"note: {note}", soft_wrap=True)
    with progress.display(console, args.trials) as shown:
        content = tune.run(
            table,
            settings,
            directory,
            shown.update,
            shown.say,
            callbacks=callbacks,
            placement=placement,
        )
        has_report = write_report(directory)
    summary.print_summary(console, content, directory, has_report)
    return 0 if has_report else process.MACHINE


def load(args: Namespace) -> "Table":
    """The table that the options of `tune` name."""
    from jaxopt_lab import datasets

    return datasets.load_table(
        args.data,
        target=args.target,  # texts, each a column's name or several with commas
        task=args.task,
        log_target=args.log_target,
        group=args.group,
        time=args.time,
        weights=args.weights,
        keep_split_column=args.keep_split_column,
        max_bytes=args.max_bytes,
    )


def default_directory(data: str) -> Path:
    """`runs/` and the name of the data without its suffixes.

    Examples:
      >>> default_directory("tables/houses.csv.gz").as_posix()
      'runs/houses'
    """
    name = Path(data).name
    for suffix in (".gz", ".bz2", ".xz", ".zip", *_SUFFIXES):
        name = name.removesuffix(suffix)
    return Path("runs") / (name or "study")


def stored_devices(directory: Path) -> int | None:
    """The number of devices that the study in a directory began with; None for a new one."""
    from jaxopt_lab.storage.store import NoStudy, Store

    try:
        store = Store.open(directory, read_only=True)
    except NoStudy:
        return None
    try:
        settings = store.settings()
    finally:
        store.close()
    on_cpu = settings.get("device") == "cpu"
    return settings.get("num_devices") if on_cpu else None


def prepare_jax(num_devices: int | None, keep_programs: bool = True) -> None:
    """One device per core (as many as the study began with), and programs kept on disk.

    Options of JAX that training does not work under are overruled, with a note.

    Raises:
      UserError: if XLA does not know flags of the environment.
      MachineError: if JAX cannot start on the platform that JAX_PLATFORMS names.
    """
    configure_jax(num_devices, keep_programs)
    start_jax()


def configure_jax(num_devices: int | None, keep_programs: bool = True) -> None:
    """Say how JAX is to start: one device per core, programs kept on disk."""
    from jaxopt_lab.core.devices import use_all_cores

    environment.check_flags()
    for name in environment.settle_jax():
        process.complain(f"note: {name} is overruled: networks are not trained under it")
    use_all_cores(num_devices)
    if keep_programs:
        _keep_programs()


def start_jax() -> None:
    """Start JAX.

    Raises:
      MachineError: if it cannot start on the platform that JAX_PLATFORMS names.
    """
    import jax

    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter where no plugin is installed
        wanted = os.environ.get("JAX_PLATFORMS", "")
        named = f" with JAX_PLATFORMS={wanted}" if wanted else ""
        reason = (str(error).splitlines() or ["nothing installed here serves that platform"])[0]
        raise MachineError(f"JAX does not start{named}: {reason}") from None


def _keep_programs() -> None:
    """Turn on JAX's cache of compiled programs, unless the user has set it."""
    import jax

    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache entry"
    )
    if jax.config.values.get("jax_compilation_cache_dir"):
        return
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = Path(home).expanduser() / "jaxopt_lab" / "programs"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)


def read_settings(args: Namespace) -> "Settings":
    """What the options of `tune` ask for.

    Raises:
      UserError: for a space or calibration that cannot be.
    """
    from jaxopt_lab.cli.loss import read_loss
    from jaxopt_lab.cli.scheduler import read_scheduler
    from jaxopt_lab.planning import sizing
    from jaxopt_lab.problems.mlp import hyperparameters
    from jaxopt_lab.spaces.space import SearchSpace, read_toml
    from jaxopt_lab.tuning import settings

    space = None
    if args.space:
        try:
            space = SearchSpace.from_toml(args.space)
            hyperparameters.check_values(space.extremes())
        except UserError as error:
            text = str(error)
            raise UserError(text if args.space in text else f"{args.space}: {text}") from None
    scheduler, scheduler_settings = read_scheduler(args.scheduler, args.space, "race")
    loss = read_loss(args.loss, args.quantile, args.space)
    prior = read_toml(args.prior, "hyperparameters") if args.prior else None
    return settings.Settings(
        trials=args.trials,
        folds=args.folds,
        epochs=args.epochs,
        seed=args.seed,
        search=args.search,
        scheduler=scheduler,
        scheduler_settings=scheduler_settings,
        space=space,
        test_fraction=args.test_fraction,
        time_limit=args.time_limit,
        widen=args.widen,
        prefer=args.prefer,
        ensemble=args.ensemble,
        members=args.members,
        numeric=args.numeric,
        num_bins=args.bins,
        near=args.near,
        loss=loss.name,
        quantile=loss.quantile,
        prior=prior,
        stop_at=args.stop_at,
        stop_improvement=args.stop_improvement,
        costs=sizing.read_costs(args.calibration) if args.calibration else None,
        memory_limit=args.memory_limit and int(args.memory_limit * 2**30),
        cohort_width=args.cohort_width,
    )


def _introduce(table: "Table", directory: Path) -> str:
    """What is learnt from what, in one line."""
    rows, columns = table.frame.shape
    what = f"{table.task} of {table.target_name}"
    if table.classes:
        what += f" ({table.num_classes} classes)"
    return f"{table.source}: {rows} rows, {columns} columns, {what}; study in {directory}"


def write_report(directory: Path) -> bool:
    """Write `report.html`; a failure there must not take away what was computed.

    Returns:
      Whether it was written.
    """
    try:
        from jaxopt_lab import report

        report.build(directory)
        return True
    except Exception as error:
        if os.environ.get(process.DEBUG) == "1":
            raise
        message, _ = process.explain(error)
        process.complain(
            f"no report was written: {message}; all else is there, and jaxopt-lab report "
            f"{directory} tries again"
        )
        return False
