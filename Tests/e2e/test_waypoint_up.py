"""`warren up` with a waypoint in its manifests: started in its pod's namespace, shown, and taken away."""

import signal
import subprocess

import pytest
import warrenlab
from warrenlab import Lab, wait


@pytest.fixture(scope="module")
def lab():
    with Lab(nodes="ab") as lab:
        lab.namespace("shop", **{"istio.io/use-waypoint": "wp"})
        lab.alice = lab.pod("shop/alice", node="a")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.vip, _ = lab.service("shop/server", {"app": "server"}, {80: 8080})
        lab.server.serve()
        # Its daemons are not ours to start here.
        lab.waypoint_ = lab.waypoint("shop/wp", nodes="ab")
        lab.up = lab.program("up", lab.hub, [
            warrenlab.BINARIES / "warren", "up", "-f", lab.config, "--run-directory", lab.run_directory, "--port", "25012"])
        lab.up.start().wait_for("the mesh is up", timeout=60)
        yield lab


def warren(lab, *arguments, status=0):
    answer = subprocess.run(
        [warrenlab.BINARIES / "warren", *arguments, "--run-directory", lab.run_directory], capture_output=True, text=True)
    assert answer.returncode == status, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


def test_the_waypoints_of_the_manifests_run(lab):
    assert "; waypoints: shop/wp-1, shop/wp-2" in lab.up.output()
    assert lab.alice.echoes(lab.vip, 80)
    wait(lambda: f"dst.hbone_addr={lab.server.ip}:8080" in lab.up.output() and 'direction="waypoint"' in lab.up.output(),
         "its line is passed on")
    for pod in lab.waypoint_.pods:
        (pid,) = pod.netns.inhabitants()
        status = open(f"/proc/{pid}/status").read()
        assert "Uid:\t13371\t13371\t13371\t13371" in status and "CapEff:\t0000000000000000" in status


def test_they_are_shown(lab):
    table = warren(lab, "status", "waypoints")
    rows = [line.split() for line in table.splitlines()]
    for pod in ("wp-1", "wp-2"):
        row = next(row for row in rows if row[:2] == ["shop/wp", pod])
        assert row[2] == "ready" and row[-1] == "shop/server.shop.svc.cluster.local", table
    whole = warren(lab, "status")
    assert "spiffe://cluster.local/ns/shop/sa/wp" in whole
    workload = next(line.split() for line in whole.splitlines() if line.split()[:2] == ["shop", "wp-1"])
    assert "waypoint" in workload, whole


def test_a_token_for_one_elsewhere(lab):
    token = warren(lab, "token", "create", "--waypoint", "shop/wp").strip()
    assert token.startswith("warren1w.") and " " not in token
    assert "no waypoint shop/other" in warren(lab, "token", "create", "--waypoint", "shop/other", status=1)
    assert "NAMESPACE/NAME" in warren(lab, "token", "create", "--waypoint", "wp", status=2)
    assert "--waypoint" in warren(lab, "token", "create", status=2)


def test_one_that_dies_is_started_again(lab):
    (pid,) = lab.waypoint_.pods[0].netns.inhabitants()
    subprocess.run(["kill", "-9", str(pid)], check=True)
    wait(lambda: lab.waypoint_.pods[0].netns.inhabitants() not in ([], [pid]), "it runs again")
    wait(lambda: lab.waypoint_.status()["ready"], "it is ready again")


def test_nothing_is_left(lab):
    assert lab.up.stop(signal.SIGINT, timeout=30) == 0
    for netns in [pod.netns for pod in lab.waypoint_.pods] + [node.netns for node in lab.nodes.values()]:
        assert netns.inhabitants() == []
    assert [path.name for path in lab.run_directory.iterdir()] == []
    assert not lab.alice.has_rules()
