"""Reads what valgrind's massif wrote: who holds how many bytes of the heap."""

import collections
import pathlib
import re

from callgrind import Profile

# The beginning of the linker's name of a function of ours, as Swift makes it: `$s` and the module.
_OURS = re.compile(r"\$s(" + "|".join(
    f"{len(path.name)}{path.name}" for path in sorted((pathlib.Path(__file__).resolve().parents[2] / "Sources").iterdir())) + ")")
_LINE = re.compile(r"( *)n(\d+): (\d+) (?:0x[0-9A-F]+: (\S+))?")


def read(path):
    """A profile of bytes that were asked for and not given back, by the innermost function of ours that is behind it."""
    held, frames = collections.Counter(), []
    with open(path, errors="replace") as lines:
        for line in lines:
            found = _LINE.match(line)
            if not found:
                continue
            depth, callers, count, name = len(found[1]), int(found[2]), int(found[3]), found[4]
            del frames[depth:]
            frames.append(name or "")
            if callers == 0:
                ours = next((frame for frame in frames if _OURS.match(frame)), None)
                held[ours or next((frame for frame in reversed(frames) if frame), "(many small ones)")] += count
    return Profile({"bytes": held})
