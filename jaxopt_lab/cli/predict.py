"""`jaxopt-lab predict`: predict the rows of a table with a tuned model."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxopt_lab.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from jaxopt_lab.problems.tabular.predictor import Predictor


def execute(args: Namespace) -> int:
    """Read the model and the table, write one prediction per row, say what was repaired."""
    folder, output = model_folder(args.directory), Path(args.output).expanduser()
    _check_output(output, Path(args.data))
    from jaxopt_lab import datasets
    from jaxopt_lab.problems.tabular.predictor import Predictor
    from jaxopt_lab.storage.files import write_file

    model = Predictor.load(folder)
    encoder = model.encoders[0]
    frame = datasets.load_frame(args.data, wanted=encoder.columns, max_bytes=args.max_bytes)
    for note in encoder.check(frame):
        print(f"note: {note}")
    found = predictions(model, frame, args.single)
    write_file(output, found.to_csv(index=False, lineterminator="\n").encode())
    print(f"{len(found)} predictions of {model.target_name}: {output}")
    return 0


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


def predictions(model: "Predictor", frame: "pd.DataFrame", single: bool) -> "pd.DataFrame":
    """A column named like the target; for classes also one with each probability."""
    import numpy as np
    import pandas as pd

    raw = model.predict_raw(frame, single)
    if model.task == "regression":
        return pd.DataFrame({model.target_name: raw})
    labels = np.asarray(model.classes, dtype=object)[raw.argmax(axis=1)]
    shares = {f"probability_{name}": raw[:, i] for i, name in enumerate(model.classes)}
    return pd.DataFrame({model.target_name: labels, **shares})


def _check_output(output: Path, data: Path) -> None:
    if output.is_dir():
        raise UserError(f"{output} is a directory; give a file to write, such as {output}/out.csv")
    if output.exists() and data.exists() and output.samefile(data):
        raise UserError(f"{output} is the table itself; give another file for the predictions")
