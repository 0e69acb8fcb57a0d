"""Bytes: all of them, in order, and ends that mean what they meant."""

import concurrent.futures
import hashlib
import json
import socket
import struct
import subprocess
import sys
import time

import pytest
import warrenlab
from warrenlab import Lab, chunks, digest, receive, receive_all, wait

BIG = 200_000_000


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.namespace("legacy", mode=None)
        lab.client = lab.pod("shop/client", node="a")
        lab.far = lab.pod("shop/far", node="b")
        lab.near = lab.pod("shop/near", node="a")
        lab.outside = lab.pod("legacy/outside", node="b")
        lab.journals = {pod: pod.serve() for pod in (lab.far, lab.near, lab.outside)}
        yield lab.start()


# A tunnel between nodes, the same node's way, and a passthrough: three relays.
WAYS = ["far", "near", "outside"]


@pytest.fixture(params=WAYS)
def server(request, lab):
    return getattr(lab, request.param)


def upload(lab, server, byte_count):
    with lab.client.connect(server.ip, 8081, timeout=60) as connection:
        for chunk in chunks(byte_count):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        return receive_all(connection).decode()


def download(lab, server, byte_count, pause=lambda total: None):
    sum_, total = hashlib.sha256(), 0
    with lab.client.connect(server.ip, 8082, timeout=60) as connection:
        connection.sendall(b"%d\n" % byte_count)
        while data := connection.recv(1 << 18):
            sum_.update(data)
            total += len(data)
            pause(total)
    assert total == byte_count
    return sum_.hexdigest()


def test_every_byte_arrives_up_and_down_at_once(lab, server):
    expected = digest(BIG)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        up, down = pool.submit(upload, lab, server, BIG), pool.submit(download, lab, server, BIG)
        assert up.result() == expected
        assert down.result() == expected


def test_half_close_is_not_close(lab, server):
    for round_ in range(200):
        with lab.client.connect(server.ip, 8086) as connection:
            connection.sendall(b"request %d" % round_)
            connection.shutdown(socket.SHUT_WR)
            assert receive_all(connection) == b"late", round_
    for size in (0, 1, 16_384, 65_536, 1_000_000):
        assert upload(lab, server, size) == digest(size)


def test_a_servers_reset_reaches_the_client(lab, server):
    for _ in range(20):
        with lab.client.connect(server.ip, 8084) as connection:
            connection.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_a_clients_reset_reaches_the_server_and_a_close_does_not_look_like_one(lab, server):
    journal = lab.journals[server]
    seen = journal.output()
    for reset in (False, True):
        connection = lab.client.connect(server.ip, 8085)
        connection.sendall(b"12345")
        if reset:
            # Give the bytes time to arrive: a reset may overtake what has not been read.
            time.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        line = wait(lambda: journal.output()[len(seen):].strip(), "how the connection ended")
        assert line.startswith("reset" if reset else "ended 5"), line
        seen = journal.output()


def test_a_server_may_speak_first(lab, server):
    for _ in range(20):
        with lab.client.connect(server.ip, 8083) as connection:
            assert connection.recv(100).startswith(b"220 ")
            connection.sendall(b"QUIT")
            assert receive(connection, 4) == b"QUIT"


def test_a_slow_reader_stalls_nobody_else(lab, server):
    slow = lab.client.connect(server.ip, 8082, timeout=60)
    with slow:
        slow.sendall(b"%d\n" % 60_000_000)
        received = len(receive(slow, 1000))
        # It stops reading; its stream fills every buffer on the way. The others go on.
        for _ in range(20):
            assert lab.client.echoes(server.ip, 8080)
        assert download(lab, server, 20_000_000) == digest(20_000_000)
        while data := slow.recv(1 << 18):
            received += len(data)
        assert received == 60_000_000


def test_a_slow_writer_is_waited_for(lab, server):
    with lab.client.connect(server.ip, 8080) as connection:
        for piece in (b"a", b"bb", b"ccc"):
            time.sleep(0.3)
            connection.sendall(piece)
            assert receive(connection, len(piece)) == piece


def test_ten_thousand_short_connections(lab):
    result = json.loads(lab.client.run(
        sys.executable, warrenlab.TRAFFIC, "burst", lab.far.ip, 8080, 10_000, 64, timeout=120))
    assert result["failed"] == 0 and result["ok"] == 10_000, result


def test_two_thousand_connections_at_once(lab):
    process = subprocess.Popen(
        ["nsenter", f"--net={lab.client.netns.path}", "--", "bash", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "-",
         sys.executable, str(warrenlab.TRAFFIC), "hold", lab.far.ip, "8080", "2000"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "open\n"
        # All of them are open now, and a new one is served all the same.
        assert lab.client.echoes(lab.far.ip, 8080)
        output, _ = process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.wait()
    result = json.loads(output)
    assert result["failed"] == 0 and result["ok"] == 2000, result


def test_connections_of_one_pair_share_tunnels(lab):
    with lab.client.connect(lab.far.ip, 8080), lab.client.connect(lab.far.ip, 8080):
        tunnels = [one for one in lab.nodes["a"].status()["tunnels"]
                   if one["direction"] == "outbound" and lab.far.ip in one["address"]]
    # One a worker at most, whatever went before.
    assert 0 < len(tunnels) <= 64, tunnels
