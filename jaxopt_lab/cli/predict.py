"""`jaxopt-lab predict`: predict the rows of a table with a tuned model."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_lab.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from jaxopt_lab.problems.tabular.predictor import Predictor

#: What makes a spreadsheet take a cell for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def execute(args: Namespace) -> int:
    """Read the model and the table, write one prediction per row, say what was repaired."""
    from jaxopt_lab.storage.files import is_stream, write_output

    folder, output = model_folder(args.directory), Path(args.output).expanduser()
    check_output(output, Path(args.data))
    from jaxopt_lab import datasets
    from jaxopt_lab.problems.tabular.predictor import Predictor

    # Where predictions may be read by a program, what is said about them must not come between.
    said = sys.stderr if is_stream(output) else sys.stdout
    model = Predictor.load(folder)
    if args.interval is not None:  # what cannot be is said before a large table is read
        model.interval_distance(args.interval, args.single)
        _check_columns(model)
    encoder = model.encoders[0]
    frame = datasets.load_frame(args.data, wanted=encoder.columns, max_bytes=args.max_bytes)
    for note in encoder.check(frame):
        print(f"note: {note}", file=said)
    found = predictions(model, frame, args.single, args.interval)
    if args.excel:
        found = guarded(found)
    text = found.to_csv(index=False, lineterminator="\n")
    write_output(output, text.encode(errors="surrogateescape"))
    if not is_stream(output):
        which = f", {model.loss.predicts}" if model.loss.predicts else ""
        print(f"{len(found)} predictions of {model.target_name}{which}: {output}")
    return 0


def guarded(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Put `'` before text that a spreadsheet would take for a formula; numbers stay numbers.

    Args:
      frame: predictions; its labels and its column names may come from a stranger's table.

    Examples:
      >>> import pandas as pd
      >>> guarded(pd.DataFrame({"=kind": ["=1+1", "a"], "share": [-0.5, 1.0]})).to_csv(index=False)
      "'=kind,share\\n'=1+1,-0.5\\na,1.0\\n"
    """

    def safe(cell: Any) -> Any:
        is_formula = isinstance(cell, str) and cell.startswith(FORMULA)
        return f"'{cell}" if is_formula else cell

    columns = {safe(str(name)): frame[name].map(safe) for name in frame.columns}
    import pandas as pd

    return pd.DataFrame(columns)


def model_folder(directory: str) -> Path:
    """The folder of a model, given a study's directory or the folder itself.

    Raises:
      UserError: if there is none.
    """
    given = Path(directory).expanduser()
    if not given.is_dir():
        raise UserError(f"there is no directory {directory}")
    if (given / "model.json").exists():
        return given
    if not (given / "model").is_dir():
        unfinished = (given / "study.sqlite").exists()
        hint = "; its study is not finished: run the same tune command again" if unfinished else ""
        raise UserError(f"there is no model in {directory}{hint}")
    return given / "model"


def predictions(
    model: "Predictor", frame: "pd.DataFrame", single: bool, interval: float | None = None
) -> "pd.DataFrame":
    """A column named like the target, or one for each of several; for classes also one with each
    probability, and with the coverage of an interval one for each end of it."""
    import numpy as np
    import pandas as pd

    raw = model.predict_raw(frame, single)
    if model.task == "regression":
        ends = None if interval is None else model.interval_around(raw, interval, single)
        columns = {}
        for place, name in enumerate(model.targets or (model.target_name,)):
            mine = (slice(None), place) if model.targets else slice(None)
            columns[name] = raw[mine]
            if ends is not None:
                columns[f"{name}_lower"], columns[f"{name}_upper"] = ends[mine].T
        return pd.DataFrame(columns)
    labels = np.asarray(model.classes, dtype=object)[raw.argmax(axis=1)]
    shares = {f"probability_{name}": raw[:, i] for i, name in enumerate(model.classes)}
    return pd.DataFrame({model.target_name: labels, **shares})


def _check_columns(model: "Predictor") -> None:
    """See that columns of ends are told from those of targets.

    Raises:
      UserError: naming a target that is called like the end of another one's interval.
    """
    for name in model.targets:
        for end in (f"{name}_lower", f"{name}_upper"):
            if end in model.targets:
                raise UserError(
                    f"{end!r} is a target, and the column of an end of the interval of {name!r} "
                    "would have that name, too; use predict_interval of lab.Predictor"
                )


def check_output(output: Path, data: Path) -> None:
    """Refuse an output that is a directory, or the table that is read.

    Raises:
      UserError: saying so.
    """
    if output.is_dir():
        raise UserError(f"{output} is a directory; give a file to write, such as {output}/out.csv")
    if output.exists() and data.exists() and output.samefile(data):
        raise UserError(f"{output} is the table itself; give another file for the predictions")
