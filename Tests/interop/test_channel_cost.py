"""What an idle channel holds: measured in a process of its own, for the heap counts whatever any thread allocates."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def transport_bench():
    build = ["swift", "build", "-c", "release", "--product", "transport-bench"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.check_output([*build, "--show-bin-path"], cwd=ROOT, text=True).strip()
    return f"{shown}/transport-bench"


@pytest.mark.parametrize("options, limit", [([], 12_000), (["--libssl"], 30_000)], ids=["own records", "libssl's records"])
def test_an_idle_channel_holds_kilobytes(transport_bench, options, limit):
    held = int(subprocess.check_output([transport_bench, "memory", *options], text=True))
    assert 1_000 < held < limit
