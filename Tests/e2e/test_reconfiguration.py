"""A thousand changes of a service's routes while requests flow through warren-waypoint: none fails, and none follows two versions.

Version N of the VirtualService has five effects: the path and a field that the endpoint sees, the subset that the request goes to, and two
fields of the answer, one of the route and one of its destination. The clients and the endpoints are of this file, so that each request
tells all five. A version is put in place of the one before as soon as some answer has shown it, so that every one of them was in force;
an endpoint takes its time with some requests, so that theirs begin under one version and end under another.
"""

import collections
import contextlib
import socket
import threading
import time

import pytest
from warrenlab import Lab, wait

CHANGES = 1_000
CLIENTS = ("kept", "kept", "slow", "slow", "fresh")
# How long an endpoint takes with a slow request, and a client between two requests; seconds.
PAUSE, PACE = 0.1, 0.005

Answer = collections.namedtuple("Answer", "status version destination path asked subset")


def version(number):
    """Odd versions lead to v1, even ones to v2."""
    return (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: server\n  namespace: shop\n"
        "spec:\n  hosts: [server]\n  http:\n  - match:\n    - uri: {prefix: /}\n"
        f"    rewrite: {{uri: /{number}/}}\n"
        f"    headers: {{request: {{set: {{x-asked: \"{number}\"}}}}, response: {{set: {{x-version: \"{number}\"}}}}}}\n"
        f"    route:\n    - destination: {{host: server, subset: v{2 - number % 2}}}\n"
        f"      headers: {{response: {{set: {{x-destination: \"{number}\"}}}}}}\n")


def read_head(stream):
    """The first line and the fields; None where nothing more comes."""
    first = stream.readline()
    if not first:
        return None
    fields = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    return first.decode().split(), fields


class Endpoint:
    """Says of each request which path and field it came with, and which subset it is."""

    def __init__(self, pod, subset):
        self.subset = subset
        with pod.inside():
            self.listener = socket.create_server(("0.0.0.0", 9080), backlog=1024)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while head := read_head(stream):
                (_, path, _), fields = head
                if path.endswith("slow"):
                    time.sleep(PAUSE)
                connection.sendall((
                    f"HTTP/1.1 200 OK\r\nx-path: {path}\r\nx-was-asked: {fields.get('x-asked')}\r\nx-subset: {self.subset}\r\n"
                    "content-length: 0\r\n\r\n").encode())

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Client:
    """Asks again and again, on one connection or each time on a fresh one, until it is told to stop."""

    def __init__(self, lab, kind, seen):
        self.lab, self.kind, self.seen = lab, kind, seen
        self.answers, self.failures = [], []
        self.is_stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.is_stopped.is_set():
            try:
                with self.lab.client.connect(self.lab.vip, 80, timeout=60) as connection, connection.makefile("rb") as stream:
                    while not self.is_stopped.is_set():
                        self.ask(connection, stream)
                        time.sleep(PACE)
                        if self.kind == "fresh":
                            break
            except (OSError, ValueError, EOFError) as error:
                self.failures.append(repr(error))

    def ask(self, connection, stream):
        connection.sendall(f"GET /{self.kind} HTTP/1.1\r\nhost: server\r\n\r\n".encode())
        head = read_head(stream)
        if head is None:
            raise EOFError("the connection ended without an answer")
        (_, status, *_), fields = head
        assert fields["content-length"] == "0" or stream.read(int(fields["content-length"]))
        answer = Answer(int(status), *(fields.get(name) for name in ("x-version", "x-destination", "x-path", "x-was-asked", "x-subset")))
        self.answers.append(answer)
        self.seen(answer)

    def stop(self):
        self.is_stopped.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def lab():
    with Lab(nodes="ab") as lab:
        lab.namespace("shop", **{"istio.io/use-waypoint": "wp"})
        lab.client = lab.pod("shop/client", node="a")
        endpoints = [
            Endpoint(lab.pod(f"shop/{name}", node=node, account="server", labels={"app": "server", "version": name}), name)
            for name, node in (("v1", "b"), ("v2", "a"))]
        lab.vip, _ = lab.service("shop/server", {"app": "server"}, {80: 9080}, protocol="http")
        lab.write("rule.yaml", (
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: server\n  namespace: shop\n"
            "spec:\n  host: server\n  subsets:\n"
            "  - name: v1\n    labels: {version: v1}\n  - name: v2\n    labels: {version: v2}\n"))
        lab.write("routes.yaml", version(1))
        waypoint = lab.waypoint("shop/wp", nodes="a")
        lab.start()
        waypoint.start()
        yield lab
        for endpoint in endpoints:
            endpoint.close()


def first_answer(lab):
    """Whether version 1 is in force."""
    answers = []
    client = Client(lab, "fresh", answers.append)
    time.sleep(0.05)
    client.stop()
    return any(answer.version == "1" for answer in answers)


def test_a_thousand_changes_and_every_request_follows_one_version(lab):
    wait(lambda: first_answer(lab), "the first version is in force")
    newest = 1
    changed = threading.Condition()

    def seen(answer):
        nonlocal newest
        with changed:
            if answer.version and int(answer.version) > newest:
                newest = int(answer.version)
                changed.notify()

    clients = [Client(lab, kind, seen) for kind in CLIENTS]
    try:
        for number in range(2, CHANGES + 2):
            lab.write("routes.yaml", version(number))
            with changed:
                assert changed.wait_for(lambda: newest >= number, 60), f"version {number} does not come: {newest} is in force"
    finally:
        for client in clients:
            client.stop()
    answers = [answer for client in clients for answer in client.answers]
    assert not [failure for client in clients for failure in client.failures]
    assert {answer.status for answer in answers} == {200}
    mixed = [
        answer for client in clients for answer in client.answers
        if answer != Answer(
            200, answer.version, answer.version, f"/{answer.version}/{client.kind}", answer.version, f"v{2 - int(answer.version) % 2}")]
    assert not mixed, f"{len(mixed)} of {len(answers)} follow two versions: {mixed[:5]}"
    # Each was in force, and slow requests were under way while versions changed.
    assert {int(answer.version) for answer in answers} >= set(range(2, CHANGES + 2))
    assert all(len(client.answers) > 1 for client in clients)
