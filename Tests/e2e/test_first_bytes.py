"""What an application sends at once goes along with its CONNECT: to one application at most, and to none that may not have it."""

import pathlib
import re
import signal
import socket

import pytest
import warrenlab
from warrenlab import Lab, receive, receive_all, wait

DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules:
  - to:
    - operation: {ports: ["8085"]}
"""


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server", "serves": "journal"})
        # Of the same service, and nothing listens in it.
        lab.dead = lab.pod("shop/dead", node="b", labels={"app": "dead", "serves": "journal"})
        lab.vip, _ = lab.service("shop/journal", {"serves": "journal"}, {80: 8085})
        lab.journal = lab.server.serve()
        yield lab.start()


def counter(lab, name, letter="a"):
    text = lab.nodes[letter].netns.run("curl", "-s", "--max-time", "5", "http://127.0.0.1:15020/metrics")
    return sum(float(value) for value in re.findall(rf"^{name}(?:_total)?(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def sent_early(lab):
    return counter(lab, "warren_tunnel_first_bytes_sent")


def ended(lab):
    """How many bytes each connection to the journal had, in the order in which they ended."""
    return [int(count) for count in re.findall(r"^(?:ended|reset) (\d+)$", lab.journal.out.read_text(), re.MULTILINE)]


def say(lab, to, port, message):
    """A connection on which everything is said at once; what comes back."""
    with lab.client.connect(to, port, timeout=20) as connection:
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        return receive_all(connection)


def is_denied(lab, size):
    """Whether a connection to the journal is reset when it has said so much and ended."""
    try:
        return say(lab, lab.server.ip, 8085, bytes(size)) != b""
    except (ConnectionResetError, BrokenPipeError):
        return True


def until_early(lab, what, act):
    """Acts until first bytes have gone along: they do on a tunnel that has been heard of lately, and where the application
    was not later than its node."""
    def once():
        before = sent_early(lab)
        act()
        return sent_early(lab) > before

    wait(once, what)


def test_an_end_right_behind_a_request_is_kept(lab):
    for size in (1, 1_000, 16_384, 100_000):
        message = b"".join(warrenlab.chunks(size))
        until_early(lab, f"{size} bytes along with a CONNECT", lambda: [
            say(lab, lab.server.ip, 8081, message).decode() == warrenlab.digest(size) or pytest.fail("another digest")
            for _ in range(10)])


def test_a_server_that_speaks_first_is_not_kept_waiting(lab):
    for _ in range(10):
        with lab.client.connect(lab.server.ip, 8083) as connection:
            greeting = b"220 hello, I speak first\r\n"
            assert receive(connection, len(greeting)) == greeting


def test_the_first_bytes_of_a_denied_connection_reach_no_application(lab):
    lab.policy("deny", DENY)
    try:
        wait(lambda: is_denied(lab, 10), "the policy is in force")

        def act():
            assert lab.client.echoes(lab.server.ip, 8080)
            assert is_denied(lab, 4_321)

        for _ in range(5):
            until_early(lab, "first bytes of a denied connection", act)
    finally:
        lab.withdraw("deny")
    wait(lambda: not is_denied(lab, 1_234), "the policy is withdrawn")
    wait(lambda: 1_234 in ended(lab), "a connection that is allowed")
    assert 4_321 not in ended(lab)


def test_after_a_refusal_they_go_to_another_endpoint_once(lab):
    total = 0

    def act():
        nonlocal total
        # Of two endpoints one refuses: half of these are answered 503 first.
        for _ in range(20):
            total += 1
            say(lab, lab.vip, 80, bytes(5_555))

    before = counter(lab, "istio_tcp_connections_opened", "b")
    until_early(lab, "first bytes to a service", act)
    wait(lambda: ended(lab).count(5_555) >= total, "every request at the one application that serves")
    say(lab, lab.server.ip, 8085, bytes(6_666))
    wait(lambda: 6_666 in ended(lab), "a connection behind them")
    assert ended(lab).count(5_555) == total
    # The endpoint that refuses was asked too.
    assert counter(lab, "istio_tcp_connections_opened", "b") - before > total + 1


def stands_still(pid):
    return all("State:\tT" in (task / "status").read_text() for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def test_they_are_not_sent_again_when_the_peer_dies_with_them(lab):
    node = lab.nodes["b"].daemon
    lost = counter(lab, "warren_tunnel_first_bytes_lost")
    connections = []

    def stop_with_bytes_on_their_way():
        node.process.send_signal(signal.SIGCONT)
        assert lab.client.echoes(lab.server.ip, 8080)
        before = sent_early(lab)
        node.process.send_signal(signal.SIGSTOP)
        wait(lambda: stands_still(node.process.pid), "each of its threads has stopped")
        connection = lab.client.connect(lab.server.ip, 8085)
        connection.sendall(bytes(7_777))
        connections.append(connection)
        # They go at once or not at all.
        return sent_early(lab) > before

    wait(stop_with_bytes_on_their_way, "first bytes for a node that has stopped")
    node.kill()
    connections[-1].settimeout(30)
    with pytest.raises(ConnectionResetError):
        connections[-1].recv(1)
    assert counter(lab, "warren_tunnel_first_bytes_lost") > lost
    wait(lambda: "no answer after the first bytes were sent" in lab.nodes["a"].access_log(), "a line that says why")
    for connection in connections:
        connection.close()
    node.start()
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "the mesh works again", timeout=30)
    say(lab, lab.server.ip, 8085, bytes(8_888))
    wait(lambda: 8_888 in ended(lab), "a connection behind them")
    # Those that were stopped and went on may have arrived, each once.
    assert ended(lab).count(7_777) <= len(connections) - 1
