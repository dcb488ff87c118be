"""`jaxopt-lab replay`: train the schedule that a population found, alone."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxopt_lab.cli import tune
from jaxopt_lab.cli.console import make_console

if TYPE_CHECKING:
    from jaxopt_lab.study.replays import Replay
    from jaxopt_lab.study.study import Study


def execute(args: Namespace) -> int:
    """Print the schedule, whether it gives the same curve alone, and how to use it."""
    from jaxopt_lab.storage.files import write_output

    directory = Path(args.directory).expanduser()
    console = make_console()
    with _open(directory, args.script) as study:
        trial_id = study.best.trial_id if args.trial is None else args.trial
        found = study.replay(trial_id)
        lines = [*_verdict(study, trial_id, found), *_code(study, trial_id)]
    table = found.schedule.to_csv(index=False, lineterminator="\n")
    console.print(found.schedule.to_string(index=False), soft_wrap=True, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if args.output is not None:
        write_output(Path(args.output).expanduser(), table.encode())
    return 0


def _open(directory: Path, script: str | None) -> "Study":
    """The study; its problem comes from the table that it remembers, or from a script that the
    caller names: what a study itself names is not executed."""
    from jaxopt_lab.cli import script as scripts
    from jaxopt_lab.core.errors import UserError
    from jaxopt_lab.storage.store import Store

    store = Store.open(directory, read_only=True)
    settings = store.settings()
    store.close()
    is_table = settings.get("task", {}).get("kind", "tabular") == "tabular"
    if script is None and not is_table:
        raise UserError(
            f"the study in {directory} is of a problem of a script; give it: jaxopt-lab replay "
            f"{directory} FILE.py"
        )
    tune.configure_jax(tune.stored_devices(directory))
    exported = None
    if script is not None:
        path, name = scripts.split_name(script)
        exported = scripts.load(path, name, None)
    tune.start_jax()
    from jaxopt_lab.spaces.space import SearchSpace
    from jaxopt_lab.study.study import Study

    if exported is None:
        return Study.load(directory)
    space = SearchSpace.from_dict(settings["space"])
    return Study(exported.problem, space, directory, settings["seed"])


def _verdict(study: "Study", trial_id: int, found: "Replay") -> list[str]:
    """Whether the schedule alone gives what it gave in company."""
    metric, unit = study.problem.objective.metric, study.problem.unit
    root, last = int(found.schedule["trial_id"][0]), found.schedule.iloc[-1]
    units = int(last["unit"] + last["units"])
    runs = f" on {len(found.curves)} splits or seeds" if len(found.curves) > 1 else ""
    what = f"trial {trial_id}, from trial {root} on, alone for {units} {unit}s{runs}"
    if found.is_same:
        return [f"{what}: the same curves as in the population, bit for bit"]
    named = metric if metric in found.curves[0] else next(iter(found.curves[0]))
    return [
        f"{what}: {named} differs from the population's by at most "
        f"{found.difference(named):.3g}; another machine, device or version rounds differently"
    ]


def _code(study: "Study", trial_id: int) -> list[str]:
    """The learning rate of the schedule as Optax code, where there is one."""
    from jaxopt_lab.tuning.schedule_code import optax_code, rate_of, updates_per_unit

    name, stages = rate_of(study), study.schedule(trial_id)
    if name is None or not all(name in stage.config for stage in stages):
        return []
    per_unit = updates_per_unit(study, stages[0].config)
    return ["", optax_code(stages, name, per_unit, study.problem.unit)]
