"""`jaxopt-lab calibrate`: measure this machine, for `tune --calibration`."""

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from jaxopt_lab.cli.console import make_console
from jaxopt_lab.cli.tune import prepare_jax


def execute(args: Namespace) -> int:
    """Measure, write the file and print it beside the shipped costs."""
    console = make_console()
    # A program from the cache would take no time to compile.
    prepare_jax(None, keep_programs=False)
    import jax

    from jaxopt_lab.planning.costs import SHIPPED
    from jaxopt_lab.planning.sizing import write_costs
    from jaxopt_lab.problems.mlp.calibration import calibrate
    from jaxopt_lab.storage.files import check_folder, is_stream, write_output

    devices = jax.local_devices()
    path = Path(args.out).expanduser()
    if not is_stream(path):
        check_folder(path.parent)  # before measuring, which takes a while
    costs = calibrate(
        devices, args.quick, lambda text: console.print(text, soft_wrap=True, highlight=False)
    )
    write_output(path, write_costs(costs, devices[0].device_kind, len(devices)).encode())
    shipped = asdict(SHIPPED[devices[0].platform == "cpu"])
    console.print(f"{'':22}{'measured':>12}{'shipped':>12}", highlight=False)
    for name, value in asdict(costs).items():
        console.print(f"{name:22}{value:>12.3g}{shipped[name]:>12.3g}", highlight=False)
    console.print(f"written to {path}; use it with: --calibration {path}", soft_wrap=True)
    return 0
