"""The load generator: what it counts is what a server has seen, and nothing that is late is left out."""

import contextlib
import json
import socket
import socketserver
import subprocess
import threading
import time

import pytest
from lab.mesh import ROOT

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def program():
    subprocess.run(["swift", "build", "--product", "load-generator"], cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.run(["swift", "build", "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True)
    return f"{shown.stdout.strip()}/load-generator"


class Server(socketserver.ThreadingTCPServer):
    """Answers requests one after the other, whatever connection they are on: a stall of one holds up all."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer=ANSWER, stall=None):
        self.answer, self.stall = answer, stall  # stall: (after so many requests, seconds)
        self.requests, self.connections, self.lock = 0, 0, threading.Lock()
        super().__init__(("127.0.0.1", 0), Connection)
        self.port = self.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        with self.server.lock:
            self.server.connections += 1
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            while request := self.request.recv(4096):
                with self.server.lock:
                    self.server.requests += 1
                    if self.server.stall and self.server.requests == self.server.stall[0]:
                        time.sleep(self.server.stall[1])
                # In two pieces, as an answer may come.
                self.request.sendall(self.server.answer[:20])
                self.request.sendall(self.server.answer[20:])
                if b"Connection: close" in request:
                    return


def run(program, mode, port, *arguments):
    answer = subprocess.run([program, mode, "127.0.0.1", *map(str, (port, *arguments))], capture_output=True, text=True,
                            timeout=60)
    lines = answer.stdout.splitlines()
    assert answer.returncode == 0, answer.stdout
    return json.loads(lines[0]), [int(word) for word in "".join(lines[1:]).split()]


def test_every_request_of_a_fixed_rate_is_made_and_counted(program):
    with Server() as server:
        summary, latencies = run(program, "rate", server.port, 4, 1, 200)
    assert (summary["completed"], summary["failed"], len(latencies)) == (200, 0, 200)
    assert server.requests == 204 and server.connections == 4  # each connection is warm before it counts
    assert summary["seconds"] > 0.99


def test_requests_that_were_due_in_a_stall_are_late(program):
    with Server(stall=(50, 1.0)) as server:
        _, latencies = run(program, "rate", server.port, 4, 2, 100)
    # A closed loop of four connections would know of four late answers; a hundred were due meanwhile.
    assert sum(one > 100_000_000 for one in latencies) >= 80
    assert max(latencies) > 900_000_000


def test_each_request_has_a_connection_of_its_own(program):
    with Server() as server:
        summary, latencies = run(program, "open", server.port, 8, 60, 100)
        assert (summary["completed"], summary["failed"], len(latencies)) == (100, 0, 100)
        assert server.connections == server.requests == 100


def test_an_answer_that_is_none_is_a_failure(program):
    for answer in (ANSWER.replace(b"200", b"503"), b"", ANSWER + b"!"):
        with Server(answer) as server:
            summary, latencies = run(program, "open", server.port, 1, 60, 3)
            assert (summary["completed"], summary["failed"], latencies) == (0, 3, []), answer


def test_nobody_who_listens_is_a_failure(program):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    summary, _ = run(program, "open", port, 1, 60, 2)
    assert (summary["completed"], summary["failed"]) == (0, 2)


def test_connections_are_held_until_told(program):
    with Server() as server:
        holder = subprocess.Popen([program, "hold", "127.0.0.1", str(server.port), "50"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout.readline() == "open\n"
            assert server.connections == server.requests == 50
            assert holder.poll() is None
            assert holder.communicate("", timeout=20) == ("", None)
            assert holder.returncode == 0
        finally:
            holder.kill()
            holder.wait()


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("connections", [1, 8])
def test_bulk_counts_what_has_arrived(program, direction, connections):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sink = subprocess.Popen([program, "sink", str(port)])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and sink.poll() is None
                time.sleep(0.02)
        summary, _ = run(program, direction, port, connections, 1)
        assert summary["bytes"] > 1_000_000 and summary["seconds"] >= 1
        assert sink.poll() is None
    finally:
        sink.kill()
        sink.wait()


@pytest.mark.parametrize("arguments", [[], ["rate"], ["up", "127.0.0.1", "x"], ["open", "nowhere", "1", "1", "1", "1"]])
def test_what_is_not_understood_is_refused(program, arguments):
    answer = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert answer.returncode == 2 and answer.stdout.startswith("usage")
