"""Every module of these tests has a lab of its own (warrenlab.py), made by a fixture called `lab` in the module."""

import os

import pytest
import warrenlab

# This process forks for every program of a lab, with grpcio's threads running in some modules. No child goes on with
# grpcio's connections, so its fork handlers have nothing to do but harm. Read when grpcio is first imported: later.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# What a module needs when it is not both daemons, each in namespaces of its own.
PROGRAMS = {"test_lab": (), "test_pycontrol": (), "test_control_wire": ("warren-control",), **dict.fromkeys(
    ("test_node_under_pycontrol", "test_node_certificates", "test_node_bearer"), ("warren-node",)), **dict.fromkeys(
    ("test_waypoint", "test_waypoint_up"), ("warren-node", "warren-control", "warren-waypoint", "warren"))}
ROOTLESS = {"test_pycontrol", "test_control_wire"}


def pytest_collection_modifyitems(items):
    for item in items:
        module = item.path.stem
        missing = ", ".join(warrenlab.missing_programs(*PROGRAMS.get(module, ("warren-node", "warren-control"))))
        if os.geteuid() != 0 and module not in ROOTLESS:
            item.add_marker(pytest.mark.skip(reason="needs root, for network namespaces"))
        elif missing:
            item.add_marker(pytest.mark.skip(
                reason=f"no {missing} in {warrenlab.BINARIES} (set WARREN_BIN, or build: Tools/build)"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of every log of its lab."""
    outcome = yield
    report = outcome.get_result()
    lab = item.funcargs.get("lab") if hasattr(item, "funcargs") else None
    if report.failed and isinstance(lab, warrenlab.Lab):
        report.sections.append(("logs of the lab", lab.report()))
