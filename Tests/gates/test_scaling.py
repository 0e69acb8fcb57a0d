"""A larger mesh makes a decision no dearer, nor a change of it."""

import pytest
from gates import cases, load, verdict

BUDGETS = load().get("scaling", {})


@pytest.mark.parametrize("measure, size, kind", cases(BUDGETS))
def test_cost_is_within_its_budget(scaling, measure, size, kind):
    problem = verdict(f"{measure}, {size}", kind, scaling[measure][size], BUDGETS[measure][size][kind])
    assert problem is None, problem


@pytest.mark.parametrize("measure, times", [
    # A connection asks for these. What it does beside has no part in the size of the mesh.
    ("decision to a workload", 2), ("decision to a service", 2), ("decision about a client, 50 policies", 2),
    # A node of 100 pods has more to look after than one of 10.
    ("snapshot after a change of a pod elsewhere", 2), ("snapshot after a change of a pod of the node", 3),
    ("snapshot after a change of a policy", 3)])
def test_a_mesh_of_100000_costs_hardly_more_than_one_of_10(scaling, measure, times):
    small, large = (scaling[measure][f"{size} workloads"].total("instructions") for size in (10, 100_000))
    assert large <= times * small, f"{large:.0f} instructions, and {small:.0f} in a mesh of 10"


def test_everything_measured_has_a_budget(scaling):
    assert {(measure, size) for measure, sizes in scaling.items() for size in sizes} == {
        (measure, size) for measure, sizes in BUDGETS.items() for size in sizes}
