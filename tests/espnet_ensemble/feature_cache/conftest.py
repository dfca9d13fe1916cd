"""Fixtures for the tests of the feature cache."""

import pytest
from cache_runs import write_noises


@pytest.fixture
def data(tmp_path):
    """A data directory of noises at 16 kHz: <tmp_path>/wav/<id>.wav."""
    return write_noises(tmp_path)
