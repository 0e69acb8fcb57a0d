"""The TCP congestion control of tunnels: by path, the system's, or by name.

Pod client on node a reaches pod near over the bridge between the nodes. Pod far is reached through a pair of TUN devices
whose packets a thread keeps for a few milliseconds.
"""

import contextlib
import fcntl
import heapq
import itertools
import os
import pathlib
import re
import select
import struct
import threading
import time

import pytest
from warrenlab import Lab, wait

SYSTEMS = "bbr"
DELAY = 0.004

pytestmark = pytest.mark.skipif(
    SYSTEMS not in pathlib.Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split(),
    reason=f"the kernel has no {SYSTEMS}")


class SlowPath:
    """A point-to-point link between two namespaces whose packets take DELAY."""

    def __init__(self, *ends):
        self._devices, self._stop = [], threading.Event()
        for netns in ends:
            with netns.inside():
                device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"slow", 0x1001))  # TUNSETIFF, IFF_TUN|IFF_NO_PI
            netns.ip("link", "set", "slow", "up")
            self._devices.append(device)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self):
        under_way, numbers = [], itertools.count()
        other = dict(zip(self._devices, reversed(self._devices)))
        while not self._stop.is_set():
            patience = max(0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            for device in select.select(self._devices, [], [], patience)[0]:
                with contextlib.suppress(BlockingIOError):
                    packet = os.read(device, 65536)
                    heapq.heappush(under_way, (time.monotonic() + DELAY, next(numbers), other[device], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(under_way)
                os.write(device, packet)

    def close(self):
        self._stop.set()
        self._thread.join()
        for device in self._devices:
            os.close(device)


@pytest.fixture(scope="module")
def lab():
    with Lab("abc") as lab:
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.near = lab.pod("shop/near", node="b")
        lab.far = lab.pod("shop/far", node="c")
        for pod in lab.pods.values():
            pod.netns.sysctl(f"net.ipv4.tcp_congestion_control={SYSTEMS}")
        a, c = lab.nodes["a"], lab.nodes["c"]
        path = SlowPath(a.netns, c.netns)
        a.netns.ip("route", "replace", f"10.98.{c.index}.0/24", "dev", "slow")
        c.netns.ip("route", "replace", f"10.98.{a.index}.0/24", "dev", "slow")
        for pod in (lab.near, lab.far):
            pod.serve()
        lab.start()
        yield lab
        path.close()


def restart(lab, choice):
    for node in lab.nodes.values():
        node.daemon.environment = {"WARREN_TUNNEL_CONGESTION": choice}
        node.daemon.restart()
    lab.settle()


def by_socket(pod, end):
    """What ss says of the tunnels in the pod's namespace whose local (sport) or other end (dport) is port 15008."""
    lines = pod.run("ss", "-tinH", "state", "established", f"( {end} = :15008 )").splitlines()
    return [line.split()[0] for line in lines if line.startswith("\t")]


def by_status(node, destination):
    return [tunnel["congestionControl"] for tunnel in node.status()["tunnels"]
            if tunnel["address"] == f"{destination.ip}:15008"]


@pytest.mark.parametrize("choice, near, far", [
    ("auto", "cubic|reno", SYSTEMS),
    ("system", SYSTEMS, SYSTEMS),
    ("reno", "reno", "reno"),
])
def test_tunnels_send_by_the_congestion_control_that_was_chosen(lab, choice, near, far):
    restart(lab, choice)
    for pod, expected in ((lab.near, near), (lab.far, far)):
        assert wait(lambda: lab.client.echoes(pod.ip, 8080), f"{pod.name} answers")
        told = [*by_status(lab.nodes["a"], pod), *by_status(pod.node, pod)]
        assert len(told) == 2 and all(re.fullmatch(expected, one) for one in told), (pod.name, told)
        seen = by_socket(pod, "sport")
        assert len(seen) == 1 and re.fullmatch(expected, seen[0]), (pod.name, seen)
    seen = by_socket(lab.client, "dport")
    assert len(seen) == 2 and all(re.fullmatch(f"{near}|{far}", one) for one in seen), seen


def test_bytes_come_whole_over_a_path_that_changed_its_congestion_control(lab):
    restart(lab, "auto")
    for pod in (lab.near, lab.far):
        assert lab.client.echoes(pod.ip, 8080, os.urandom(300_000), timeout=30)


def test_a_name_that_the_kernel_does_not_have_ends_the_daemon_with_the_names_that_it_has(lab):
    daemon = lab.nodes["a"].daemon
    daemon.stop()
    daemon.environment = {"WARREN_TUNNEL_CONGESTION": "nobodys"}
    daemon.start()
    wait(lambda: not daemon.is_running, "the daemon has ended")
    assert daemon.process.returncode == 1
    assert "--tunnel-congestion nobodys: the kernel has no such TCP congestion control; it has reno" in daemon.output()
    daemon.environment = {}
    daemon.start()
    lab.settle()
