"""The laboratory itself, without a mesh: a failure here is not Warren's."""

import socket
import ssl

import pytest
import warrenlab
from foreignlab import ForeignLab
from warrenlab import Lab, chunks, digest, nonce, receive_all


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b")
        lab.neighbour = lab.pod("shop/neighbour", node="a")
        lab.server.serve()
        lab.neighbour.serve()
        yield lab


def test_pods_reach_each_other_on_both_families(lab):
    for pod in (lab.server, lab.neighbour):
        for address in (pod.ip, pod.ip6):
            assert lab.client.echoes(address, 8080)


def test_an_outsider_reaches_pods(lab):
    outsider = lab.outsider("elsewhere")
    assert outsider.run("curl", "-s", "--max-time", "5", f"http://{lab.server.ip}:9080/") == outsider.addresses[0]
    assert outsider.run("curl", "-s", "--max-time", "5", f"http://[{lab.server.ip6}]:9080/") == outsider.addresses[1]


def test_every_server_does_what_it_says(lab):
    ip, connect = lab.server.ip, lab.client.connect
    with connect(ip, 8081) as connection:
        connection.sendall(b"".join(chunks(3_000_000)))
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).decode() == digest(3_000_000)
    with connect(ip, 8082) as connection:
        connection.sendall(b"1000001\n")
        assert receive_all(connection) == b"".join(chunks(1_000_001))
    with connect(ip, 8083) as connection:
        assert connection.recv(100).startswith(b"220 ")
    with connect(ip, 8084) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connect(ip, 8086) as connection:
        connection.sendall(b"x")
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b"late"


def test_a_capture_shows_what_was_in_the_clear(lab):
    secret, split = nonce(), nonce()
    with lab.capture() as capture:
        assert lab.client.echoes(lab.server.ip, 8080, secret)
        assert lab.client.echoes(lab.server.ip6, 8080, secret)
        with lab.client.connect(lab.server.ip, 8080) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for half in (split[:20], split[20:]):
                connection.sendall(half)
                warrenlab.receive(connection, len(half))
    assert capture.contains(secret) and capture.contains(split)
    assert not capture.contains(nonce())
    flows = capture.streams()
    assert {flow[2] for flow in flows if flow[3] == 8080} == {lab.server.ip, lab.server.ip6}
    with pytest.raises(ValueError):
        warrenlab.tls_records(next(stream for flow, stream in flows.items() if flow[3] == 8080))


def test_programs_end_with_their_lab(lab):
    with Lab(nodes="a") as other:
        pod = other.pod("x/y", node="a")
        program = pod.serve()
        assert program.pid in pod.netns.inhabitants()
    assert not program.is_running
    assert other.prefix not in warrenlab.run("ip", "netns", "list")


@pytest.mark.parametrize("front", [True, False], ids=["openssl", "grpcio"])
def test_a_foreign_control_component_is_reached_from_the_nodes(front):
    with ForeignLab(nodes="a", front=front) as other:
        with other.foreign, other.nodes["a"].netns.inside():
            with socket.create_connection((other.control_ip, 15012), timeout=5) as raw:
                context = ssl.create_default_context(cafile=other.state / "root-cert.pem")
                with context.wrap_socket(raw, server_hostname=other.control_ip) as connection:
                    assert connection.version() == "TLSv1.3"
