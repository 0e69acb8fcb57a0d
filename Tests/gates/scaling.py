"""What a decision costs by the size of the mesh, and what a change of it does: the program snapshot-cost under callgrind."""

import pathlib
import subprocess
import tempfile

import callgrind

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = (10, 1_000, 100_000)


def measure():
    """{what: {size: Profile of one}}."""
    build = ["swift", "build", "-c", "release", "--static-swift-stdlib", "--product", "snapshot-cost"]
    built = subprocess.run(build, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert built.returncode == 0, built.stdout
    shown = subprocess.check_output([*build, "--show-bin-path"], cwd=ROOT, text=True).strip()
    costs = {}
    with tempfile.TemporaryDirectory() as directory:
        program = callgrind.stripped(f"{shown}/snapshot-cost", directory)
        result = subprocess.run(
            ["valgrind", "--tool=callgrind", "--vgdb=no", "--instr-atstart=no", f"--callgrind-out-file={directory}/out",
             program, *map(str, SIZES)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"SWIFT_DETERMINISTIC_HASHING": "1"})
        assert result.returncode == 0, result.stdout
        for path in sorted(pathlib.Path(directory).glob("out.*"), key=lambda path: int(path.suffix[1:])):
            name, _, times = callgrind.trigger(path).rpartition("/")
            what, _, size = name.rpartition(", ")
            counts = callgrind.read(path).each(lambda kind, function, count: count / int(times)).counts
            costs.setdefault(what, {})[size] = callgrind.Profile(
                {kind: counts[kind] for kind in ("instructions", "allocations")})
    return costs
