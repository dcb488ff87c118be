"""Set JAX up before its backend starts, check annotations at run time, share small tables."""

import contextlib
import ctypes
import gc
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import hypothesis
import jax
import jaxtyping
import numpy as np
import pandas as pd
import pytest
from jax._src import compiler

# Two CPU devices, so that waves of more than one cohort are tested on any machine.
jax.config.update("jax_num_cpu_devices", 2)

# Compiled programs outlive the run: the second run of the tests is fast.
if not jax.config.jax_compilation_cache_dir:
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(cache_home / "jaxopt_lab" / "tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Before anything imports the package: shapes and dtypes in annotations are checked on every call.
# Only modules that state some are hooked, a third of the tests' time less; mypy checks the others.
PACKAGE = Path(__file__).parent.parent / "jaxopt_lab"
jaxtyping.install_import_hook(
    [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ],
    "beartype.beartype",
)

# The first example of a property compiles, so no deadline; the same examples in every run.
hypothesis.settings.register_profile("jaxopt_lab", deadline=None, derandomize=True)
hypothesis.settings.load_profile("jaxopt_lab")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")


#: Variants of tests that compile for ten seconds and more and whose kind another variant, which
#: stays, tests: for `--runslow`. Test -> its variants.
LONG_VARIANTS = {
    "test_a_merged_program_trains_the_same_network": (
        "width", "depth", "blocks", "activations", "optimizers",
    ),
    "test_a_diverging_neighbour_harms_nobody_in_a_merged_program": (
        "width", "depth", "blocks", "activations", "optimizers",
    ),
    "test_a_merge_differs_no_more_than_one_ulp_does": ("width", "depth", "blocks", "optimizers"),
    "test_skipped_layers_leave_penalties_norms_and_averages_alone": ("penalised-merged-blocks",),
    "test_the_code_for_accelerators_trains_the_same_network": ("False",),
    "test_every_optimizer_of_a_merged_program_decays_as_alone": ("sgd", "adam"),
    "test_a_population_trains_as_each_alone": ("mlp", "gru", "lstm"),
    "test_it_learns_and_stays_finite": ("gru", "lstm"),
    "test_the_key_decides": ("cnn-plain", "mlp-tanh", "gru", "lstm"),
    "test_outputs_have_one_row_per_row": ("cnn-plain",),
    "test_a_trial_is_what_a_plain_optax_loop_trains": ("average", "lion, whole rows"),
    "test_inside_the_space": ("20-4-conditional-bayesian", "20-4-finite-bayesian"),
    "test_members_are_plain_networks_and_learn_by_the_mean_of_their_losses": ("mini", "late"),
    "test_the_ensemble_is_the_weighted_mean": ("wall",),
    "test_every_optimizer_is_probed_in_a_population": ("nesterov", "momentum", "rmsprop", "adam"),
}  # fmt: skip


#: Files that take longest, in this order: those that begin last make the other workers wait.
FIRST = (
    "test_resume", "test_engine", "test_front_doors", "test_trainer", "test_search", "test_models",
    "test_docs", "test_readme", "test_sweep_resume", "test_devices", "test_schedules",
    "test_optuna_adapter", "test_stopping", "test_experiments",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))
    if config.getoption("--runslow"):
        return
    for item in items:
        variant = item.callspec.id if hasattr(item, "callspec") else None
        is_long = variant in LONG_VARIANTS.get(getattr(item, "originalname", ""), ())
        if is_long or "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: needs --runslow"))


def pytest_sessionstart() -> None:
    """Libraries stay: no garbage collection needs to look at them."""
    for name in ("flax.nnx", "optax", "sklearn.ensemble", "jaxopt_lab.cli"):
        importlib.import_module(name)
    with contextlib.suppress(ModuleNotFoundError):  # an extra
        importlib.import_module("optuna")
    gc.collect()
    gc.freeze()


#: Files whose programs XLA compiles with little optimisation, in a quarter of the time, but for
#: `--runslow`: what they state holds within tolerances, or of any code. The others, about
#: bits, resuming and XLA's own choices, compile what users run.
QUICKLY_COMPILED = {
    "test_baselines", "test_boosting", "test_calibration", "test_clipping", "test_docs",
    "test_effects", "test_ensemble", "test_experiments", "test_front_doors",
    "test_gaussian_process", "test_in_place", "test_intervals", "test_members",
    "test_members_study", "test_mlp_kernel", "test_models", "test_moments", "test_neighbours",
    "test_notebooks", "test_observation", "test_optimizers", "test_optuna_adapter",
    "test_other_kinds", "test_padded_models", "test_planning", "test_population_search",
    "test_predictor", "test_probes", "test_products", "test_records",
    "test_refusals", "test_report", "test_report_injection", "test_row_roles", "test_rows",
    "test_rungs", "test_runner", "test_schedules", "test_search", "test_sequences",
    "test_several_targets", "test_sizing", "test_sklearn", "test_stabilization",
    "test_stabilize_any", "test_stopping", "test_study", "test_supervised",
    "test_supervised_metrics", "test_sweep", "test_target_losses", "test_trainer",
}  # fmt: skip
QUICK_OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}
if jax.__version_info__ < (0, 11):  # JAX 0.12 has no such option; 0.11 was not tried
    QUICK_OPTIONS["xla_cpu_use_fusion_emitters"] = False
users_options = compiler.get_compile_options


def quick_options(*args: Any, **kwargs: Any) -> Any:
    """Options of a compilation, as JAX makes them, and `QUICK_OPTIONS`."""
    overrides = kwargs.pop("env_options_overrides", None) or {}
    return users_options(*args, env_options_overrides={**overrides, **QUICK_OPTIONS}, **kwargs)


@pytest.fixture
def quick_flags(request: pytest.FixtureRequest) -> str:
    """`XLA_FLAGS` of another process whose programs may be compiled quickly, too."""
    flags = os.environ.get("XLA_FLAGS", "")
    if request.config.option.runslow:
        return flags
    return " ".join([flags, *(f"--{k}={str(v).lower()}" for k, v in QUICK_OPTIONS.items())])


#: What compilers have freed, gigabytes of it, glibc keeps until it is told to return it.
return_freed = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


def forget() -> None:
    """Drop all compiled programs."""
    from jaxopt_lab.core import sharing  # after the hook

    sharing.forget()
    jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def forget_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """What one file's tests compiled, no other file's need: else they fill gigabytes."""
    with pytest.MonkeyPatch.context() as patch:
        quickly = request.path.stem in QUICKLY_COMPILED and not request.config.option.runslow
        if quickly and jax.default_backend() == "cpu":
            patch.setattr(compiler, "get_compile_options", quick_options)
        yield
    forget()
    gc.collect()
    if return_freed is not None:
        return_freed(0)


@contextlib.contextmanager
def compiling(options: Callable[..., Any]) -> Iterator[None]:
    """What is compiled within has these options, and nothing of it is left behind."""
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", options)
        yield
    forget()


@pytest.fixture
def as_users_compile() -> Iterator[None]:
    """A test about bits in a file that is compiled quickly: its programs are those of users."""
    with compiling(users_options):
        yield


@pytest.fixture
def quickly(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[None]]:
    """`with quickly():` for what a file about bits states within tolerances."""
    if request.config.option.runslow or jax.default_backend() != "cpu":
        return contextlib.nullcontext
    return lambda: compiling(quick_options)


@pytest.fixture
def full_precision() -> Iterator[None]:
    """Matrix products of reference code in float32 on accelerators, too, as in training."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="session")
def houses() -> pd.DataFrame:
    """300 made-up sales: numbers, two categories, a positive `price`. Copy before changing it."""
    rng = np.random.default_rng(0)
    num_rows = 300
    area = rng.lognormal(7.2, 0.35, num_rows).round()
    age = rng.integers(0, 90, num_rows)
    wall = rng.choice(["brick", "frame", "stone"], num_rows, p=[0.5, 0.4, 0.1])
    wall_effect = pd.Series(wall).map({"brick": 0.1, "frame": 0.0, "stone": 0.25}).to_numpy()
    log_price = 4.5 + 0.95 * np.log(area) - 0.006 * age + wall_effect
    return pd.DataFrame(
        {
            "area": area,
            "lot": (area * rng.lognormal(1.6, 0.5, num_rows)).round(),
            "age": age,
            "rooms": np.clip((area / 250 + rng.normal(0, 1, num_rows)).round(), 2, 12).astype(int),
            "wall": wall,
            "heating": rng.choice(["gas", "electric"], num_rows),
            "price": np.exp(log_price + rng.normal(0, 0.15, num_rows)).round(),
        }
    )


@pytest.fixture
def houses_csv(houses: pd.DataFrame, tmp_path: Path) -> Path:
    """The same table as a CSV file."""
    path = tmp_path / "houses.csv"
    houses.to_csv(path, index=False)
    return path
