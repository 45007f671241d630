"""One folder in which the whole workflow has run, for all tests of it."""

import pytest
from running import snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder in which the whole workflow has run once."""
    folder = tmp_path_factory.mktemp("tiny")
    done = snakemake(folder)
    assert done.returncode == 0, done.output[-6000:]
    return folder
