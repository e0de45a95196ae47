"""Jobs of tiny models run on one core."""

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def one_core():
    """A plan takes all cores this process may use; on tiny models, threads only wait for each other."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[os.getpid() % len(cores)]})
    yield
    os.sched_setaffinity(0, cores)
