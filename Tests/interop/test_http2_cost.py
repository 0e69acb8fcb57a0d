"""What the HTTP/2 machine costs: no allocation for a frame of content, and a fixed number for a stream."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_content_allocates_nothing_and_a_stream_little():
    build = ["swift", "build", "-c", "release", "--product", "http2-allocations"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.check_output([*build, "--show-bin-path"], cwd=ROOT, text=True).strip()
    lines = subprocess.check_output([f"{shown}/http2-allocations"], text=True).splitlines()
    allocations = {line.rsplit(" ", 2)[0]: float(line.rsplit(" ", 2)[1]) for line in lines}
    content = [count for name, count in allocations.items() if name.startswith("DATA frame")]
    assert len(content) == 2 and max(content) < 0.001
    # Both sides together: the request's and the response's blocks, each made once and read once.
    assert allocations["stream, both sides"] < 16
