"""`jaxopt-lab report`: write a study's page again."""

from argparse import Namespace


def execute(args: Namespace) -> int:
    """Rebuild `report.html` and say where it is."""
    from jaxopt_lab.store import Store

    Store.open(args.directory, read_only=True).close()
    from jaxopt_lab import report

    print(report.build(args.directory))
    return 0
