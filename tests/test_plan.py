"""Every job trains exactly once, in cohorts of one kind and bounded width."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lab.core import cohorts as plan
from jaxopt_lab.core.cohorts import Job, default_width, make_waves
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.signature import Signature


def signature(block: int, accumulate: bool) -> Signature:
    return Signature(
        optimizers=("adam",),
        activations=("relu",),
        num_layers=3,
        hidden_size=8,
        block=block,
        ema=False,
        early_stopping=False,
        penalize_biases=False,
        features=frozenset(),
        draw_width=8,
        noise_rows=block,
        masked_depth=True,
        accumulate=accumulate,
    )


SIGNATURES = [signature(16, False), signature(32, False), signature(16, True)]


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """Distinct members in any order."""
    members = draw(
        st.lists(
            st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 1)),
            unique=True,
            min_size=1,
            max_size=60,
        )
    )
    found = []
    for trial_id, fold, replicate in members:
        kind = draw(st.sampled_from(SIGNATURES))
        multiple = draw(st.integers(1, 3)) if kind.accumulate else 1
        layers = draw(st.integers(1, 3))
        config = complete({"batch_size": kind.block * multiple, "num_layers": layers})
        epochs = draw(st.sampled_from([3, 20]))
        job = Job(trial_id, fold, replicate, config, kind, epochs, 20)
        found.append(job._replace(start=draw(st.sampled_from([0, 0, 4]))))
    return found


def name(job: Job) -> tuple[int, int, int]:
    return job.trial_id, job.fold, job.replicate


@given(jobs(), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4))
def test_every_job_stands_in_exactly_one_cohort(work: list[Job], width: int, devices: int) -> None:
    widths = {SIGNATURES[0]: width, SIGNATURES[1]: 1, SIGNATURES[2]: 2 * width}
    waves = make_waves(work, widths, devices)
    assert Counter(name(j) for w in waves for j in w.jobs) == Counter(map(name, work))
    for wave in waves:
        assert 1 <= len(wave.cohorts) <= devices
        epochs = [cohort.num_units for cohort in wave.cohorts]
        assert epochs == sorted(epochs, reverse=True)
        assert len({cohort.start > 0 for cohort in wave.cohorts}) == 1
        for cohort in wave.cohorts:
            assert 1 <= len(cohort.jobs) <= widths[wave.program]
            assert cohort.order == max(j.config["num_layers"] for j in cohort.jobs)
            for job in cohort.jobs:
                assert (job.program, job.fold, job.replicate, job.num_units) == cohort[:4]
                assert job.config["batch_size"] == cohort.extra[0] * cohort.program.block
                assert cohort.program == wave.program


@given(jobs(), st.integers(1, 4))
def test_the_plan_depends_on_the_jobs_alone(work: list[Job], devices: int) -> None:
    widths = dict.fromkeys(SIGNATURES, 4)
    assert make_waves(work, widths, devices) == make_waves(list(work), widths, devices)


@given(jobs())
def test_no_cohort_is_split_more_than_its_width_asks(work: list[Job]) -> None:
    cohorts = [c for w in make_waves(work, dict.fromkeys(SIGNATURES, 4), 2) for c in w.cohorts]
    sizes: dict[tuple, list[int]] = {}
    for cohort in cohorts:
        sizes.setdefault(cohort[:-1], []).append(len(cohort.jobs))
    for found in sizes.values():
        assert sum(size < 4 for size in found) <= 1


@pytest.mark.parametrize("on_cpu", [True, False])
def test_width_is_a_power_of_two_that_fits(on_cpu: bool) -> None:
    room = plan.CACHE_BYTES if on_cpu else plan.ACCELERATOR_BYTES
    most = plan.MAX_WIDTH if on_cpu else plan.MAX_ACCELERATOR_WIDTH
    widths = [default_width(n, on_cpu) for n in (1, 500, 5000, 50_000, 10**6, 10**8)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == most
    for n, width in zip((1, 500, 5000, 50_000, 10**6, 10**8), widths, strict=True):
        assert width.bit_count() == 1
        assert width <= plan.MIN_WIDTH or width * 16 * n <= room


def test_a_trial_larger_than_the_cache_trains_alone() -> None:
    assert default_width(plan.CACHE_BYTES // 16 + 1, on_cpu=True) == 1
