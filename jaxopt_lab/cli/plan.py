"""`jaxopt-lab plan`: what `tune` would do with the same options, without training anything."""

from argparse import Namespace
from pathlib import Path

from jaxopt_lab.cli.console import make_console
from jaxopt_lab.cli.tune import load, prepare_jax, read_settings


def execute(args: Namespace) -> int:
    """Print programs, cohorts, padding and expected seconds. Nothing is written."""
    console = make_console()
    prepare_jax(None)
    from jaxopt_lab.storage.store import FILE_NAME
    from jaxopt_lab.tuning import phases, tune

    settings = read_settings(args)
    table = load(args)
    for note in table.notes:
        console.print(f"note: {note}", soft_wrap=True)
    found = tune.plan(table, settings, lambda text: console.print(text, soft_wrap=True))
    console.print(str(found), soft_wrap=True, highlight=False, markup=False)
    if not phases.is_one_phase(settings):
        console.print(
            "the trials of the refined search are not known yet: random ones stand for them",
            soft_wrap=True,
        )
    if settings.costs is None:
        console.print(
            "seconds are those of the shipped costs, which a slow or busy machine exceeds several "
            "times: jaxopt-lab calibrate measures this one",
            soft_wrap=True,
        )
    if args.out and (Path(args.out).expanduser() / FILE_NAME).exists():
        console.print(
            f"note: the study in {args.out} keeps the programs it began with", soft_wrap=True
        )
    return 0
