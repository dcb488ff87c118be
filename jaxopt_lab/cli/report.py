"""`jaxopt-lab report`: write a study's page again."""

from argparse import Namespace


def execute(args: Namespace) -> int:
    """Rebuild `report.html` and say where it is."""
    from pathlib import Path

    from jaxopt_lab import report
    from jaxopt_lab.storage.store import FILE_NAME, Store

    folder = Path(args.directory).expanduser()
    if (folder / "diagnosis.json").exists() and not (folder / FILE_NAME).exists():
        print(report.build_diagnosis(folder))
        return 0
    Store.open(args.directory, read_only=True).close()
    print(report.build(args.directory))
    return 0
