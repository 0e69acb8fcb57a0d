"""What routing a request costs: no allocation, whatever the number of routes."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_routing_a_request_allocates_nothing():
    build = ["swift", "build", "-c", "release", "--product", "routing-cost"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.check_output([*build, "--show-bin-path"], cwd=ROOT, text=True).strip()
    lines = subprocess.check_output([f"{shown}/routing-cost"], text=True).splitlines()
    allocations = {name: float(count) for name, count, _ in map(str.split, lines)}
    assert len(allocations) == 4
    # The very first match of a regular expression makes its automaton.
    assert max(allocations.values()) < 0.01, lines
