"""`jaxopt-lab report`: write a study's page again."""

import os
from argparse import Namespace
from pathlib import Path


def execute(args: Namespace) -> int:
    """Rebuild the page and say where it is; the study itself is only read."""
    from jaxopt_lab import report
    from jaxopt_lab.core.errors import UserError
    from jaxopt_lab.report.page import FILE_NAME as PAGE
    from jaxopt_lab.storage.files import is_stream, write_file, write_output
    from jaxopt_lab.storage.store import FILE_NAME, Store

    folder = Path(args.directory).expanduser()
    output = None if args.output is None else Path(args.output).expanduser()
    if output is not None and output.is_dir():
        raise UserError(f"{output} is a directory; give a file to write, such as {output}/{PAGE}")
    is_diagnosis = (folder / "diagnosis.json").exists() and not (folder / FILE_NAME).exists()
    if not is_diagnosis:
        Store.open(folder, read_only=True).close()
    page = report.diagnosis_page_of(folder) if is_diagnosis else report.page_of(folder)
    if output is not None:
        write_output(output, page)
        if not is_stream(output):
            print(output)
        return 0
    path = folder / PAGE
    effective = os.access in os.supports_effective_ids
    if not os.access(
        folder, os.W_OK, effective_ids=effective
    ):  # a read-only medium, or somebody else's study
        path = _free_name(Path(f"{folder.resolve().name}-{PAGE}"))
        print(f"note: nothing can be written to {folder}; the page is in this directory")
    write_file(path, page)
    print(path)
    return 0


def _free_name(path: Path) -> Path:
    """The path, or one with a number where there is a file already."""
    number, found = 2, path
    while found.exists():
        found = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return found
