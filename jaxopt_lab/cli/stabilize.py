"""`jaxopt-lab stabilize`: why a configuration's validation loss fluctuates, and what calms it."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_lab.cli.console import duration, make_console
from jaxopt_lab.cli.tune import default_directory, prepare_jax
from jaxopt_lab.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from jaxopt_lab.problems import TabularTask

_TABLE_OPTIONS = ("data", "target", "config")


def execute(args: Namespace) -> int:
    """Diagnose, write `diagnosis.json` and `report.html`, and print the verdict."""
    _check(args)
    directory = _directory(args)
    console = make_console()
    prepare_jax(None)
    task, hparams, epochs, seed = _from_study(args) if args.study else _from_table(args)
    from jaxopt_lab import report
    from jaxopt_lab.stabilization import stabilize

    found = stabilize(
        task,
        hparams,
        num_epochs=args.epochs or epochs,
        num_seeds=args.seeds,
        shorten=args.epochs is None,
        seed=seed,
        time_limit=args.time_limit,
        directory=directory,
        say=lambda text: console.print(text, soft_wrap=True),
    )
    found.save(directory)
    content = found.to_dict() | {"task": task.describe()}
    found_page = report.build_diagnosis(directory)
    _print(console, content)
    console.print(f"the report: {found_page}", soft_wrap=True)
    return 0


def _check(args: Namespace) -> None:
    """A table with its target and configuration, or a study with a trial: one of the two."""
    given = [name for name in _TABLE_OPTIONS if getattr(args, name) is not None]
    if args.study is None and args.trial is not None:
        raise UserError("--trial is a trial of a study: give --study DIR too")
    if args.study is not None:
        if args.trial is None:
            raise UserError("give the trial to stabilise: --trial ID")
        if given:
            name = given[0] if given[0] == "data" else f"--{given[0]}"
            raise UserError(f"{name.replace('data', 'DATA')} and --study exclude each other")
        return
    names = {"data": "DATA", "target": "--target", "config": "--config"}
    missing = [names[name] for name in _TABLE_OPTIONS if name not in given]
    if missing:
        raise UserError(
            f"missing {', '.join(missing)}: give DATA --target COLUMN --config BASE.toml, "
            "or --study DIR --trial ID"
        )


def _directory(args: Namespace) -> Path:
    if args.out:
        return Path(args.out).expanduser()
    if args.study:
        return Path(args.study).expanduser() / f"stabilize-{args.trial}"
    return Path(f"{default_directory(args.data)}-stabilize")


def _from_table(args: Namespace) -> tuple["TabularTask", dict[str, Any], int | None, int]:
    from jaxopt_lab import datasets
    from jaxopt_lab import problems as tasks
    from jaxopt_lab.problems.mlp import hyperparameters
    from jaxopt_lab.spaces.space import read_toml

    hparams = read_toml(args.config, "hyperparameters")
    try:
        hyperparameters.complete(hparams)
    except UserError as error:
        raise UserError(f"{args.config}: {error}") from None
    table = datasets.load_table(
        args.data,
        target=args.target,
        task=args.task,
        log_target=args.log_target,
        max_bytes=args.max_bytes,
    )
    return tasks.tabular(table), hparams, None, args.seed


def _from_study(args: Namespace) -> tuple["TabularTask", dict[str, Any], int | None, int]:
    from jaxopt_lab import problems as tasks
    from jaxopt_lab.storage.store import Store

    store = Store.open(args.study, read_only=True)
    try:
        settings, trials = store.settings(), store.trials()
    finally:
        store.close()
    if not 0 <= args.trial < len(trials):
        raise UserError(
            f"there is no trial {args.trial} in {args.study}; its trials are 0 to "
            f"{len(trials) - 1}: jaxopt-lab show {args.study}"
        )
    task = tasks.reopen(settings["task"], settings["table path"])
    epochs = settings.get("budget")
    return task, trials[args.trial].config, epochs, int(settings["seed"])


def _print(console: "Console", content: dict[str, Any]) -> None:
    """The verdict, the cures that were accepted, and what to change."""
    setting = content["setting"]
    lines = ["", content["sentence"], ""]
    for cause in content["causes"]:
        least = cause["thresholds"]
        numbers = ", ".join(
            f"{k} {v:.3g}" + (f" (at least {least[k]:.3g})" if k in least else "")
            for k, v in cause["evidence"].items()
        )
        lines.append(f"cause: {cause['name']} (confidence {cause['confidence']:.2f}): {numbers}")
    lines += [f"rejected: {c['name']}: {c['why']}" for c in content["rejected"]]
    calm = content["causes"][0]["name"] == "no_problem"
    cures = [r for r in content["remedies"] if r["family"] != "walk"]
    accepted = [r for r in cures if r["accepted"] and not calm]
    for remedy in sorted(accepted, key=lambda r: r["fluctuation_ratio"])[:5]:
        lines.append(f"cure: {remedy['name']}: {remedy['why']}")
    changes = content["recommended"]["changes"]
    if changes:
        lines.append(f"change: {', '.join(f'{k} = {v}' for k, v in changes.items())}")
        lines.append(f"in Optax: {content['optax']}")
        if content["averaging"]:
            lines.append(f"after each update: {content['averaging']}  # evaluate `averaged`")
    lines += [
        "",
        f"{setting['num_trainings']} trainings in {duration(setting['seconds'])}"
        + (f" ({setting['num_kept']} of them before)" if setting["num_kept"] else "")
        + f", {duration(setting['compile_seconds'])} of it compiling",
    ]
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)
    _print_walk(console, content["walk"])


def _print_walk(console: "Console", walk: list[dict[str, Any]]) -> None:
    """What each step of the usual walk did, if any was taken."""
    from jaxopt_lab.cli.grid import Column, print_grid

    if all(row["loss_ratio"] is None for row in walk):
        return
    console.print("\nthe usual walk, each step against the given configuration:")
    titles = {"fluctuation_ratio": "fluctuation ×", "loss_ratio": "best loss ×"}
    columns = [Column("step", [row["step"] for row in walk], False)]
    for name, title in titles.items():
        cells = ["–" if row[name] is None else f"{row[name]:.3g}" for row in walk]
        columns.append(Column(title, cells))
    columns.append(Column("outcome", [row["outcome"] for row in walk], False, 1))
    print_grid(console, columns)
