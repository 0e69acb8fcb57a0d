"""The data path costs what its budget says: instructions, system calls, clock reads, allocations, bytes held."""

import pytest
from gates import budget, cases, load, verdict

BUDGETS = load().get("data path", {})


@pytest.mark.parametrize("measure, side, kind", cases(BUDGETS))
def test_cost_is_within_its_budget(data_path, measure, side, kind):
    problem = verdict(f"{measure}, {side}'s node", kind, data_path[measure][side], BUDGETS[measure][side][kind])
    assert problem is None, problem


def test_bytes_under_way_cost_no_allocation(data_path):
    for measure, sides in data_path.items():
        for side, profile in sides.items():
            if "MiB" in measure:
                # What timers do meanwhile is two or three for each MiB when one falls into it (program text is given back); a
                # read's would be four and more, a record's sixty-four.
                assert profile.total("allocations") < 4, (measure, side, profile.demangled().counts["allocations"])


def test_everything_measured_has_a_budget(data_path):
    assert {(measure, side, kind) for measure, sides in data_path.items() for side, profile in sides.items()
            for kind in budget(measure, profile)} == set(cases(BUDGETS))
