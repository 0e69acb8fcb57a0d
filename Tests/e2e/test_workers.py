"""Several workers on each node: connections of one pair of pods, and their tunnels, spread over them."""

import re

import pytest
from warrenlab import Lab, receive, wait

WORKERS = 4
CONNECTIONS = 16


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        for node in lab.nodes.values():
            node.daemon.environment = {"WARREN_WORKERS": str(WORKERS)}
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.far = lab.pod("shop/far", node="b")
        lab.far.serve()
        lab.start()
        yield lab


def workers(node, direction):
    """The worker of each tunnel, as the status page shows it."""
    return [tunnel["worker"] for tunnel in node.status()["tunnels"] if tunnel["direction"] == direction]


def counted(node, direction):
    """The same by the metrics: how many tunnels each worker carries."""
    page = node.netns.run("curl", "-s", "--max-time", "5", "http://127.0.0.1:15020/metrics")
    found = re.findall(r'warren_worker_tunnels\{worker="(\d+)",direction="' + direction + r'"\} (\d+)', page)
    assert len(found) == WORKERS, found
    return {int(worker): int(count) for worker, count in found}


def test_one_pair_of_pods_uses_several_workers_and_tunnels(lab):
    """The kernel gives each connection to one of the listeners, so all of them at one worker is a chance of one in a
    billion; the other node hands its tunnels out one by one to whoever has fewest."""
    connections = [lab.client.connect(lab.far.ip, 8080) for _ in range(CONNECTIONS)]
    try:
        for number, connection in enumerate(connections):
            connection.sendall(b"%04d" % number)
            assert receive(connection, 4) == b"%04d" % number
        for letter, direction in (("a", "outbound"), ("b", "inbound")):
            node = lab.nodes[letter]
            used = workers(node, direction)
            assert len(set(used)) >= 2, used
            # A worker has one tunnel for the pair: its connections use that, never another worker's.
            if direction == "outbound":
                assert len(used) == len(set(used)), used
            per_worker = {worker: used.count(worker) for worker in range(WORKERS)}
            wait(lambda: counted(node, direction) == per_worker, f"the metrics of node {letter} say {per_worker}")
    finally:
        for connection in connections:
            connection.close()
