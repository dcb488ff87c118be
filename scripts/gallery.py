"""The pictures of docs/gallery.md: small studies, whose reports a headless Chromium draws.

    python scripts/gallery.py [--only NAME] [--out docs/images/gallery] [--work runs/gallery]

Needs Chromium and Pillow. Takes some five minutes on two slow cores; a study that is there
already is only drawn again.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, make_friedman1

#: Of the window, pixels: the width, and a height for each picture.
WIDTH, HEIGHTS = 1300, {"tune": 2600, "population": 3040, "stabilize": 2900, "diagnose": 2300}
#: Of a picture; a report has few.
COLOURS = 96
#: Sections that a picture leaves out, by their ids.
HIDDEN = {"tune": ("test", "effects", "columns", "winner", "ensemble")}
POPULATION = '''"""A minimum that is far away at first, with noise in every step."""

import jax
import jax.numpy as jnp

import jaxopt_lab as lab


def build():
    def init(key, hparams):
        return jnp.full(8, 4.0)

    def step(x, hparams, shared):
        noise = jax.random.normal(shared.key, x.shape)
        x = x - hparams["learning_rate"] * (x + 2.0 * noise)
        return x, {"loss": jnp.mean(x**2)}

    return lab.Trainable(init, step)


problem = lab.from_steps(build, objective="loss", budget=24)
space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1.0))
'''
#: One shape of network, so that few programs compile.
SPACE = """[space]
learning_rate = { log_uniform = [1e-4, 1e-1] }
dropout = { uniform = [0.0, 0.5] }
weight_decay = { log_uniform = [1e-5, 1.0] }
activation = { choice = ["relu", "gelu"] }
num_layers = 2
hidden_size = 32
batch_size = 32
"""
CONFIG = """[hyperparameters]
learning_rate = 0.05
batch_size = 16
num_layers = 2
hidden_size = 32
"""


def table(work: Path) -> Path:
    """442 patients and the progression of their disease."""
    frame = load_diabetes(as_frame=True).frame.rename(columns={"target": "progression"})
    frame.to_csv(work / "diabetes.csv", index=False)
    return work / "diabetes.csv"


def tune(work: Path) -> Path:
    """A table, with Hyperband: the search, who was stopped, what matters."""
    (work / "space.toml").write_text(SPACE, encoding="utf-8")
    inputs, target = make_friedman1(800, noise=1.0, random_state=0)
    frame = pd.DataFrame(inputs, columns=[f"x{i}" for i in range(inputs.shape[1])])
    frame.assign(y=target).to_csv(work / "friedman1.csv", index=False)
    options = ["--trials", "32", "--epochs", "27", "--folds", "2", "--scheduler", "hyperband"]
    options += ["--space", str(work / "space.toml"), "--out", str(work / "friedman1")]
    command("tune", work / "friedman1.csv", "--target", "y", *options)
    return work / "friedman1" / "report.html"


def population(work: Path) -> Path:
    """Population-based training: lineage over time, the winner's schedule."""
    (work / "follow.py").write_text(POPULATION, encoding="utf-8")
    options = ["--trials", "16", "--scheduler", "population_based_training"]
    command("sweep", work / "follow.py", *options, "--out", work / "population")
    return work / "population" / "report.html"


def stabilize(work: Path) -> Path:
    """A loss that fluctuates: causes, the usual walk, what helped."""
    (work / "base.toml").write_text(CONFIG, encoding="utf-8")
    options = ["--config", work / "base.toml", "--epochs", "24", "--seeds", "2"]
    folder = work / "diabetes-stabilize"
    command("stabilize", table(work), "--target", "progression", *options, "--out", folder)
    return folder / "report.html"


def diagnose(work: Path) -> Path:
    """The log of a training that was run elsewhere."""
    rng, epochs = np.random.default_rng(0), np.arange(60)
    trend = 0.3 + np.exp(-epochs / 8)
    train, valid = (np.exp(rng.normal(0, s, 60)) * trend for s in (0.05, 0.1))
    log = {"epoch": epochs, "loss": train, "val_loss": 1.1 * valid, "learning_rate": 1e-3}
    pd.DataFrame(log).to_csv(work / "log.csv", index=False)
    page = work / "diagnose.html"
    command("diagnose", work / "log.csv", "--valid-rows", "4000", "--report", page)
    return page


PICTURES = {f.__name__: f for f in (tune, population, stabilize, diagnose)}


def command(*arguments: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "jaxopt_lab", *map(str, arguments)], check=True)


def shoot(page: Path, picture: Path, height: int, hidden: Sequence[str]) -> None:
    """Draw a page as a small PNG, without the empty part below it."""
    from PIL import Image, ImageChops

    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise SystemExit("gallery.py: no Chromium on the path")
    with tempfile.TemporaryDirectory() as folder:
        raw, shown = Path(folder) / "page.png", Path(folder) / "page.html"
        style = "".join(f"#{name} {{ display: none }} " for name in hidden)
        text = page.read_text(encoding="utf-8").replace(
            "</head>", f"<style>{style}</style></head>", 1
        )
        shown.write_text(text, encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += [f"--window-size={WIDTH},{height}", "--virtual-time-budget=20000"]
        subprocess.run(
            [browser, *flags, f"--screenshot={raw}", shown.as_uri()],
            check=True,
            capture_output=True,
        )
        image = Image.open(raw).convert("RGB")
    ground = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    _, _, _, bottom = ImageChops.difference(image, ground).getbbox() or (0, 0, 0, image.height)
    image = image.crop((0, 0, image.width, min(bottom + 20, image.height)))
    picture.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(COLOURS).save(picture, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=PICTURES)
    parser.add_argument("--out", type=Path, default=Path("docs/images/gallery"))
    parser.add_argument("--work", type=Path, default=Path("runs/gallery"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name, make in PICTURES.items():
        if options.only in (None, name):
            picture = options.out / f"{name}.png"
            shoot(make(options.work), picture, HEIGHTS[name], HIDDEN.get(name, ()))
            print(f"{picture}: {picture.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
