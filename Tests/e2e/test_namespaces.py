"""A namespace is accepted for a pod only if it can be nobody else's; each refusal says what to do."""

import contextlib
import os

import pytest
from warrenlab import Lab, run, wait


@pytest.fixture(scope="module")
def lab():
    # A name for the namespace that the machine itself is in. Not one of the lab's: nothing in it is to be removed.
    machine = f"wref{os.getpid()}"
    run("ip", "netns", "attach", machine, os.getpid())
    with contextlib.ExitStack() as stack:
        stack.callback(run, "ip", "netns", "del", machine)
        lab = stack.enter_context(Lab(nodes="a"))
        lab.namespace("shop")
        lab.good = lab.pod("shop/good", node="a")
        lab.bad = {
            "missing": lab.pod("shop/missing", node="a", netns_annotation="no-such-namespace"),
            "not-one": lab.pod("shop/not-one", node="a", netns_annotation="/dev/null"),
            "fifo": lab.pod("shop/fifo", node="a", netns_annotation=str(lab.directory / "fifo")),
            "escaping": lab.pod("shop/escaping", node="a", netns_annotation="../../etc/passwd"),
            "nodes": lab.pod("shop/nodes", node="a", netns_annotation=lab.nodes["a"].netns.name),
            "hosts": lab.pod("shop/hosts", node="a", netns_annotation=machine),
            "shared": lab.pod("shop/shared", node="a", netns_annotation=lab.good.netns.name),
            "wrong-address": lab.pod("shop/wrong-address", node="a", netns_annotation=lab.hub.name),
        }
        os.mkfifo(lab.directory / "fifo")
        yield lab.start()


# What the reason says; "shared" has a test of its own below.
REASONS = {
    "missing": "No such file", "not-one": "not a network namespace", "fifo": "not a network namespace",
    "escaping": "cannot be used", "nodes": "node daemon itself", "hosts": "network namespace",
    "wrong-address": "does not hold",
}


@pytest.mark.parametrize("name", list(REASONS))
def test_refuses(lab, name):
    workload = wait(
        lambda: (one := lab.workload(f"shop/{name}"))["state"] == "refused" and one, f"{name} is refused")
    assert workload["reason"] and REASONS[name] in workload["reason"]


def test_one_of_two_pods_that_name_one_namespace_has_it(lab):
    # Which of both came first is open; that exactly one has it is not.
    states = sorted(lab.workload(f"shop/{name}")["state"] for name in ("good", "shared"))
    assert states == ["captured", "refused"]


def test_nothing_was_written_anywhere_else(lab):
    others = [pod.netns for name, pod in lab.bad.items() if name != "missing"]
    for netns in (lab.hub, lab.nodes["a"].netns, *others):
        assert "warren" not in netns.run("nft", "list", "ruleset"), netns.name
        assert "fwmark" not in netns.run("ip", "rule"), netns.name


def test_a_corrected_pod_is_captured(lab):
    pod = lab.bad["missing"]
    pod.netns_annotation = pod.netns.name
    pod.write()
    wait(pod.captured, "the corrected pod is captured")
    assert pod.has_rules()
