"""What the shell's environment may have done to JAX and to the standard streams."""

import os
import re
import subprocess
import sys
import traceback
from typing import Any

from jaxopt_lab.core.errors import UserError

#: Options of JAX that training does not work under, and what they are set to.
OVERRULED: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_disable_jit": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
}
_FLAGS = "XLA_FLAGS"
_UNKNOWN = re.compile(rf"Unknown flags? in {_FLAGS}:(.*)")


def open_streams() -> None:
    """Put the null device in the place of standard streams that the shell has closed.

    Else the next files opened, a database for instance, would get their numbers, and whatever a
    library prints there.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def settle_jax() -> list[str]:
    """Turn off options of JAX that training does not work under.

    Returns:
      The names of the environment variables that are overruled so.
    """
    import jax

    changed = []
    for name, value in OVERRULED.items():
        if jax.config.values.get(name, value) != value:
            jax.config.update(name, value)
            changed.append(name.upper())
    return changed


def is_refused_setting(error: Exception) -> bool:
    """Whether JAX, being imported, has refused the value of a variable such as JAX_ENABLE_X64."""
    source = os.path.join("jax", "_src", "config.py")
    return isinstance(error, ValueError) and any(
        frame.name == "<module>" and frame.filename.endswith(source)
        for frame in traceback.extract_tb(error.__traceback__)
    )


def check_flags() -> None:
    """Refuse flags that XLA does not know: it would abort the process.

    Another process starts JAX first, and only where the variable is set.

    Raises:
      UserError: naming the flags.
    """
    if not os.environ.get(_FLAGS, "").strip():
        return
    code = "import jax; jax.config.update('jax_platforms', 'cpu'); jax.local_devices()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    found = _UNKNOWN.search(done.stderr)
    if done.returncode == 0 or (done.returncode > 0 and not found):
        return
    import jax

    flags = " ".join(re.findall(r"--?\w+", found[1])) if found else os.environ[_FLAGS]
    raise UserError(
        f"XLA of JAX {jax.__version__} does not start with the flags {flags} in the environment: "
        f"take them out of {_FLAGS}"
    )
