"""What an application can do to its pod's listeners, being root in its namespace: nothing to others, little to itself."""

import contextlib
import socket
import sys

import pytest
import warrenlab
from warrenlab import Lab, nonce, wait

PORTS = (15001, 15006, 15008)


@pytest.fixture(scope="module", params=["auto", "tracked"])
def lab(request):
    with Lab() as lab:
        for node in lab.nodes.values():
            node.daemon.environment = {"WARREN_CAPTURE": request.param}
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b")
        lab.server.serve()
        yield lab.start()


def thief(lab, pod, *ports):
    addresses = ",".join(["0.0.0.0", "::", pod.ip, pod.ip6, "127.0.0.1", "::1"])
    program = pod.start("thief", sys.executable, warrenlab.TRAFFIC, "steal", addresses, ",".join(map(str, ports)))
    program.wait_for("tried")
    return program


def test_a_thief_can_take_a_port_that_is_free(lab):
    # The means are real: what fails below does not fail here.
    program = thief(lab, lab.server, 4444)
    assert "got 0.0.0.0 4444" in program.output() and "got :: 4444" in program.output()
    with lab.server.connect("127.0.0.1", 4444):
        wait(lambda: "stole 4444" in program.output(), "a connection is stolen")
    program.kill()


@pytest.mark.parametrize("who", ["client", "server"])
def test_listeners_cannot_be_shared(lab, who):
    pod = getattr(lab, who)
    program = thief(lab, pod, *PORTS)
    try:
        assert "got" not in program.output(), program.output()
        for address in (lab.server.ip, lab.server.ip6):
            assert all(lab.client.echoes(address, 8080) for _ in range(50))
        assert "stole" not in program.output()
    finally:
        program.kill()


def test_a_pod_whose_port_is_taken_is_not_captured_until_it_is_free(lab):
    pod = lab.pod("shop/taken", node="a", labels={"istio.io/dataplane-mode": "none"})
    program = thief(lab, pod, 15008)
    assert "got" in program.output()
    del pod.labels["istio.io/dataplane-mode"]
    pod.write()
    workload = wait(lambda: (one := lab.workload("shop/taken"))["state"] == "refused" and one, "it is refused")
    assert "15008" in workload["reason"] and not pod.has_rules()
    program.kill()
    wait(pod.captured, "it is captured", timeout=40)
    assert pod.echoes(lab.server.ip, 8080)


# The daemon's packet mark, those of tracked connections and of what arrives (which lead nowhere), and two with more bits.
@pytest.mark.parametrize("mark", [0x539, 0x111, 0x112, 0xfff539, 0xfff111])
def test_the_daemons_marks_do_not_lead_out_of_the_mesh(lab, mark):
    secret = nonce()
    with lab.capture() as capture:
        with lab.client.inside():
            connection = socket.socket()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK
            connection.connect((lab.server.ip, 8080))
            connection.sendall(secret)
            assert warrenlab.receive(connection, len(secret)) in (secret, b"")
    assert not capture.contains(secret)
    assert lab.client.echoes(lab.server.ip, 8080)


def test_the_proxys_own_ports_lead_nowhere(lab):
    for address in (lab.client.ip, lab.client.ip6, "127.0.0.1", "::1"):
        for port in (15001, 15006):
            assert lab.client.is_refused(address, port), (address, port)
    for port in PORTS:
        assert lab.client.is_refused(lab.server.ip, port), port
    assert lab.client.echoes(lab.server.ip, 8080)
