"""Memory and descriptors: bounded while there is trouble, and back to where they were after it."""

import contextlib
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import time

import pytest
import warrenlab
from warrenlab import Lab, receive, wait

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.far = lab.pod("shop/far", node="b")
        lab.near = lab.pod("shop/near", node="a")
        for pod in (lab.far, lab.near):
            pod.serve()
        lab.start()
        # What is made once is made.
        for pod in (lab.far, lab.near):
            burst(lab, pod, 2000)
        yield lab


def burst(lab, pod, count):
    result = json.loads(lab.client.run(
        sys.executable, warrenlab.TRAFFIC, "burst", pod.ip, 8080, count, 64, timeout=240))
    assert result["failed"] == 0 and result["ok"] == count, result


def resident(lab):
    """Bytes of memory of each node's daemon."""
    return [int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{node.daemon.pid}/status").read_text())[1]) * 1024
            for node in lab.nodes.values()]


def processor_time(lab):
    """Seconds that each node's daemon has used."""
    fields = [pathlib.Path(f"/proc/{node.daemon.pid}/stat").read_text().split() for node in lab.nodes.values()]
    return [(int(one[13]) + int(one[14])) / os.sysconf("SC_CLK_TCK") for one in fields]


def descriptors(lab):
    return [len(os.listdir(f"/proc/{node.daemon.pid}/fd")) for node in lab.nodes.values()]


def grown(now, before):
    return max(one - other for one, other in zip(now, before))


def tunnels(lab):
    """Tunnels that each node has open: they are kept for a while without connections, by design."""
    return [len(node.status()["tunnels"]) for node in lab.nodes.values()]


@contextlib.contextmanager
def comes_back(lab, megabytes):
    """Descriptors are where they were afterwards, but for the tunnels kept, and memory within so many megabytes of it."""
    memory, open_, kept = resident(lab), descriptors(lab), tunnels(lab)
    yield

    def is_back():
        now = [one - other for one, other in zip(descriptors(lab), tunnels(lab))]
        before = [one - other for one, other in zip(open_, kept)]
        # A pipe for splicing, and who else asks at the time.
        assert grown(now, before) <= 8, f"descriptors: {before}, now {now}"
        now = [one // MEGABYTE for one in resident(lab)]
        assert grown(now, [one // MEGABYTE for one in memory]) <= megabytes, f"megabytes: {memory}, now {now}"
        return True

    # A reset behind a window that is shut is seen after 30 s, and on the other node what waits for a deaf application is
    # given up 30 s later; buffers go back to the system after a while.
    wait(is_back, "all is as before", timeout=150, every=1)


def test_short_connections_leave_nothing_behind(lab):
    with comes_back(lab, 16):
        for pod in (lab.far, lab.near):
            burst(lab, pod, 10_000)


@pytest.mark.parametrize("server", ["far", "near"])
def test_many_open_connections_leave_nothing_behind(lab, server):
    with comes_back(lab, 24):
        process = subprocess.Popen(
            ["nsenter", f"--net={lab.client.netns.path}", "--", "bash", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "-",
             sys.executable, str(warrenlab.TRAFFIC), "hold", getattr(lab, server).ip, "8080", "2000"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "open\n"
            result = json.loads(process.communicate("\n", timeout=60)[0])
        finally:
            process.kill()
            process.wait()
        assert result["failed"] == 0 and result["ok"] == 2000, result


def stall(lab, server):
    """A connection that asks for much, reads a little, and stops."""
    connection = lab.client.connect(server.ip, 8082)
    connection.sendall(b"%d\n" % 100_000_000)
    assert len(receive(connection, 1000)) == 1000
    return connection


@pytest.mark.parametrize("server", ["far", "near"])
def test_a_few_readers_that_stop_stop_no_one_else(lab, server):
    server = getattr(lab, server)
    with contextlib.ExitStack() as stack:
        # In the same tunnels, for they are there first.
        neighbours = [stack.enter_context(lab.client.connect(server.ip, 8080)) for _ in range(20)]
        for connection in neighbours:
            connection.sendall(b"before")
            assert receive(connection, 6) == b"before"
        for _ in range(3):
            stack.enter_context(stall(lab, server))
        for _ in range(10):
            for connection in neighbours:
                connection.sendall(b"x" * 10_000)
                assert receive(connection, 10_000) == b"x" * 10_000


@pytest.mark.parametrize("server", ["far", "near"])
def test_readers_that_stop_cost_no_more_than_their_windows(lab, server):
    server = getattr(lab, server)
    memory = resident(lab)
    # The allocator keeps some of the pages that it got meanwhile, for the next time.
    with comes_back(lab, 80), contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(stall(lab, server))
        # 2 GB want to come, and each stream may hold its window of 4 MiB. Who comes now gets another tunnel.
        limit = 120 * MEGABYTE
        for _ in range(20):
            assert lab.client.echoes(server.ip, 8080)
            assert grown(resident(lab), memory) < limit
        with pytest.raises(AssertionError):
            wait(lambda: grown(resident(lab), memory) > limit, "too much memory", timeout=3)


def test_writers_to_a_deaf_application_are_held_back(lab):
    server, memory = lab.far, resident(lab)
    with comes_back(lab, 32), contextlib.ExitStack() as stack:
        writers = [stack.enter_context(lab.client.connect(server.ip, 8088)) for _ in range(20)]
        sent = 0
        for connection in writers:
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while sent < 1 << 31:
                    sent += connection.send(b"x" * MEGABYTE)
        # Windows on the way, and what two kernels keep in their buffers.
        assert sent < 400 * MEGABYTE, sent
        assert lab.client.echoes(server.ip, 8080)
        assert grown(resident(lab), memory) < 120 * MEGABYTE
        # To an application that never reads a mere end would never be delivered, here as without a mesh.
        for connection in writers:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        # What nobody can act on yet must not keep a loop busy either.
        before = processor_time(lab)
        time.sleep(2)
        assert grown(processor_time(lab), before) < 0.5
