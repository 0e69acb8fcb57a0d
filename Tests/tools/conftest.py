"""The tools' own parts: what Tools/bench computes, and the load that it makes."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tools"))
