"""Generated TOML files: every one is a space, or one line that says why not."""

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxopt_lab import search
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.spaces.space import SearchSpace

NAMES = (
    "learning_rate",
    "dropout",
    "optimizer",
    "num_layers",
    "momentum",
    "ema",
    "warmup",
    '"ä b"',
)
KINDS = ("uniform", "log_uniform", "int_uniform", "log_int_uniform", "choice", "chioce", "fixed")
ATOMS = (
    "0", "1", "-3", "64", "0.5", "1e-4", "1e308", "1e400", "-0.0", "nan", "inf", "-inf", "true",
    "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "0xff", "0o7", "1_000", '""', '"adam"',
    "'mom\\entum'", '"\\u0000"', '"""a\nb"""', "9" * 25, "9" * 400, "9" * 5000, "0x" + "f" * 300,
    "9223372036854775807", "-9223372036854775808", "[]", "{}", "1.7976931348623157e308",
)  # fmt: skip


def value(rng: random.Random, depth: int = 0) -> str:
    """A TOML value, right or wrong."""
    kind = rng.random()
    if kind < 0.6 or depth > 3:
        return rng.choice(ATOMS)
    if kind < 0.9:
        return f"[{', '.join(value(rng, depth + 1) for _ in range(rng.randrange(4)))}]"
    return f"{{ a = {value(rng, depth + 1)} }}".replace("\n", " ")


def entry(rng: random.Random) -> str:
    """A parameter: mostly a distribution, mostly of the right form."""
    if rng.random() < 0.1:
        return value(rng)
    kind = rng.choice(KINDS[:5])
    if rng.random() < 0.7:
        args = (
            '["adam", "momentum", [1, 2]]'
            if kind == "choice"
            else rng.choice(("[1, 4]", "[2, 1e3]"))
        )
        return f"{{ {kind} = {args}{rng.choice(('', '', ', static = true'))} }}"
    kind = rng.choice(KINDS)
    if rng.random() < 0.8:
        args = f"[{value(rng)}, {value(rng)}]"
    else:
        args = value(rng)
    parts = [f"{kind} = {args}"]
    if rng.random() < 0.3:
        parts.append(f"when = {{ {rng.choice(NAMES)} = {value(rng)} }}")
    if rng.random() < 0.05:
        parts.append(f"when = {value(rng)}")
    if rng.random() < 0.2:
        parts.append(f"static = {rng.choice(['true', 'false', '1', value(rng)])}")
    rng.shuffle(parts)
    return f"{{ {', '.join(parts)} }}"


def file(rng: random.Random) -> bytes:
    """A file with a table [space]; some are torn, nested deeply, or hold strange bytes."""
    names = rng.sample(NAMES, rng.randrange(1, 5))
    text = "[space]\n" + "".join(f"{name} = {entry(rng)}\n" for name in names)
    kind = rng.random()
    if kind < 0.05:
        text += "deep = " + "[" * 3000 + "]" * 3000 + "\n"
    elif kind < 0.1:
        text += "\n[space" + ".a" * 2000 + "]\nb = 1\n"
    elif kind < 0.15:
        text += "".join(
            f"c{i} = {{ choice = [1, 2], when = {{ c{i + 1} = 1 }} }}\n" for i in range(1200)
        ) + rng.choice(["c1200 = 1\n", "c1200 = { choice = [1, 2], when = { c0 = 1 } }\n"])
    content = text.encode()
    if rng.random() < 0.15:
        at = rng.randrange(len(content))
        content = content[:at] + rng.choice([b"", b"\xff", b"\x00", b"'", b"]", b"="])
        content += text.encode()[at + 1 :] if rng.random() < 0.5 else b""
    return content


def read(path: Path) -> SearchSpace | None:
    """The space of a file; None where it was refused in a line."""
    try:
        return SearchSpace.from_toml(path)
    except UserError as error:
        message = str(error)
    assert 0 < len(message) < 1000
    return None


def check(space: SearchSpace) -> None:
    """A space that was read can be written, read again and drawn from."""
    written: dict[str, Any] = json.loads(json.dumps(space.to_dict()))
    assert SearchSpace.from_dict(written) == space
    history = search.History.empty(space)
    (config,) = search.random().propose(jax.random.key(0), space, history, 1)
    assert space.why_outside(config) is None
    with contextlib.suppress(UserError):
        hyperparameters.check_values(space.extremes())


def run(folder: Path, num: int, seed: int) -> None:
    rng, path, read_well = random.Random(seed), folder / "space.toml", 0
    for _ in range(num):
        path.write_bytes(file(rng))
        space = read(path)
        if space is not None:
            check(space)
            read_well += 1
    assert 0.05 * num < read_well < 0.8 * num, "the generator must make both kinds"


def test_a_generated_file_is_a_space_or_one_line(tmp_path: Path) -> None:
    run(tmp_path, 100, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_generated_files(tmp_path: Path, seed: int) -> None:
    run(tmp_path, 1000, seed)
