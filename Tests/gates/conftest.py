"""Each part is measured once, for all tests of a run."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import datapath  # noqa: E402
import scaling as scaling_  # noqa: E402


@pytest.fixture(scope="session")
def data_path():
    return datapath.measure()


@pytest.fixture(scope="session")
def scaling():
    return scaling_.measure()
