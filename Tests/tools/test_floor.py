"""The floor that Tools/bench measures: whatever it leaves out, every byte arrives, and connections end as they should.

      client's pod ── node ══ node ── server's pod          or both pods on one node
"""

import os
import subprocess
import sys

import pytest
from benchmarks import floor, stage
from benchmarks.load import BULK, HTTP
from lab.topology import NETNS, Node, Pod, Topology

# Reads a request to its end and answers with its digest and who seems to have sent it, then with as many bytes of its own.
SERVER = """
import hashlib, socket, sys, threading
def serve(connection, peer):
    digest, count = hashlib.sha256(), 0
    while piece := connection.recv(1 << 20):
        digest.update(piece)
        count += len(piece)
    connection.sendall(f"{digest.hexdigest()} {peer[0]}\\n".encode() + b"y" * count)
    connection.close()
with socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=128) as server:
    while True:
        threading.Thread(target=serve, args=server.accept(), daemon=True).start()
"""
# Sends requests of several sizes at once, each closed for writing before its answer is read.
CLIENT = """
import hashlib, os, socket, sys, threading
address, port, closed, own = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def ask(size):
    request = os.urandom(size)
    with socket.create_connection((address, port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    said, _, rest = answer.partition(b"\\n")
    assert said.decode() == f"{hashlib.sha256(request).hexdigest()} {own}", said
    assert rest == b"y" * size, len(rest)
    good.append(size)
good = []
threads = [threading.Thread(target=ask, args=(size,)) for size in sys.argv[5:] for size in [int(size)]]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(good) == len(threads)
try:
    socket.create_connection((address, closed), timeout=60).recv(1)
    sys.exit("nobody listens there, and yet there was an answer")
except ConnectionError:
    print("good")
"""
SIZES = [0, 1, 1000, 65536, 3_000_000, 20_000_000] + [100] * 40


def made(name):
    """A contender as the bench has it, on nodes and in pods with other names."""
    one = floor.FloorWithin(64) if name == "floor-same-node" else floor.FloorPair(name, 60)
    nodes = [Node(node.name, node.number, f"floor-test-{node.number}") for node in stage.NODES]
    for number, side in enumerate(("client", "server")):
        pod = getattr(one, side)
        setattr(one, side, Pod(pod.name, pod.group, nodes[pod.node.number - 1], pod.host, f"floor-test-{side}"))
    return nodes, one


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root")
@pytest.mark.parametrize("name", floor.NAMES)
def test_every_byte_arrives_under_the_client_s_address(tmp_path, monkeypatch, name):
    monkeypatch.setattr(floor, "PROGRAM", tmp_path / "floor")
    floor.build()
    nodes, one = made(name)
    with Topology(nodes, one.pods) as topology, stage.Programs(topology, tmp_path) as programs:
        server = programs.start(one.server, "server", sys.executable, "-c", SERVER, HTTP)
        programs.wait(one.server, HTTP, server)
        one.start(programs)
        answer = subprocess.run(
            ["nsenter", f"--net={NETNS / one.client.namespace}", sys.executable, "-c", CLIENT, one.address, *map(str, (HTTP, BULK)),
             one.client.addresses[0], *map(str, SIZES)], capture_output=True, text=True, timeout=200)
        assert answer.stdout == "good\n", answer.stderr + "".join(log.read_text() for log in programs.logs.iterdir())
        assert all(child.poll() is None for child in programs.children)


def test_the_mark_of_the_rules_is_the_program_s():
    assert f"MARK = {floor.MARK:#x}" in floor.SOURCE.read_text()


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["accept"], ["join", "one"], ["join", "--seal", "one", "two"], ["accept", "--transparent"]])
def test_what_the_floor_does_not_understand_is_refused(tmp_path, monkeypatch, arguments):
    monkeypatch.setattr(floor, "PROGRAM", tmp_path / "floor")
    floor.build()
    answer = subprocess.run([floor.PROGRAM, *arguments], capture_output=True, text=True)
    assert answer.returncode == 2 and answer.stdout.startswith("usage")
