"""Daemons that die, in every order: nothing leaves in the clear, and what can go on goes on."""

import random
import signal
import sys
import time

import pytest
import warrenlab
from warrenlab import Lab, nonce, receive, wait

ROUNDS = 50
# Seconds. Nobody waits longer for a connection to be made or refused: a peer may take 10 to answer.
DEADLINE = 12


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.vip, _ = lab.service("shop/server", {"app": "server"}, {80: 8080})
        lab.server.serve()
        yield lab.start()


@pytest.fixture(autouse=True)
def all_up(lab):
    for program in (lab.control, *(node.daemon for node in lab.nodes.values())):
        if not program.is_running:
            program.start()
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "the mesh works")


def test_nothing_leaves_in_the_clear_while_daemons_are_killed(lab):
    seed = 4
    chance = random.Random(seed)
    secrets = [nonce() for _ in range(3)]
    targets = [(lab.server.ip, 8080), (lab.server.ip6, 8080), (lab.vip, 80)]
    with lab.capture() as capture:
        loads = [
            lab.client.start("load", sys.executable, warrenlab.TRAFFIC, "load", host, port, secret.decode())
            for (host, port), secret in zip(targets, secrets)]
        for round_ in range(ROUNDS):
            done = [load.output().count("worked") for load in loads]
            wait(lambda: all(load.output().count("worked") > before for load, before in zip(loads, done)),
                 f"connections succeed in round {round_} of seed {seed}", timeout=30)
            # At a random moment of the work, not always at the same.
            time.sleep(chance.uniform(0, 0.2))
            victim = chance.choice([lab.control, lab.nodes["a"].daemon, lab.nodes["b"].daemon])
            victim.kill()
            assert lab.client.has_rules() and lab.server.has_rules()
            victim.start()
        wait(lambda: lab.client.echoes(lab.server.ip, 8080), "works again", timeout=30)
        for load in loads:
            load.kill()
    for secret in secrets:
        assert not capture.contains(secret)
    strangers = {
        flow for flow, stream in capture.streams().items() if stream
        and {flow[0], flow[2]} & {lab.client.ip, lab.client.ip6} and 15008 not in (flow[1], flow[3])}
    assert not strangers
    waits = [float(line.split()[1]) for load in loads for line in load.output().splitlines() if line.startswith("waited")]
    assert max(waits, default=0) < DEADLINE, waits


def test_a_terminated_daemon_leaves_its_rules_and_connections_wait(lab):
    node, secret = lab.nodes["a"], nonce()
    with lab.capture() as capture:
        assert node.daemon.stop(signal.SIGTERM) == 0
        assert lab.client.has_rules()
        for _ in range(10):
            with pytest.raises(OSError):
                assert lab.client.echoes(lab.server.ip, 8080, secret)
        node.daemon.start()
        wait(lambda: lab.client.echoes(lab.server.ip, 8080, secret), "works again")
    assert not capture.contains(secret)


def test_a_terminated_daemon_lets_connections_finish(lab):
    with lab.client.connect(lab.server.ip, 8080, timeout=10) as connection:
        connection.sendall(b"before")
        assert receive(connection, 6) == b"before"
        lab.nodes["a"].daemon.process.send_signal(signal.SIGTERM)
        for round_ in range(5):
            connection.sendall(b"during")
            assert receive(connection, 6) == b"during", round_
    lab.nodes["a"].daemon.process.wait(20)


def test_without_control_everything_goes_on(lab):
    with lab.client.connect(lab.server.ip, 8080) as connection:
        lab.control.kill()
        connection.sendall(b"still here")
        assert receive(connection, 10) == b"still here"
    for address, port in ((lab.server.ip, 8080), (lab.server.ip6, 8080), (lab.vip, 80)):
        for _ in range(5):
            assert lab.client.echoes(address, port)
    wait(lambda: not lab.nodes["a"].status()["control"]["connected"], "the loss is shown")


def test_a_node_restarts_without_control(lab):
    lab.control.kill()
    for node in lab.nodes.values():
        node.daemon.kill()
        node.daemon.start()
    secret = nonce()
    with lab.capture() as capture:
        wait(lambda: lab.client.echoes(lab.server.ip, 8080, secret), "the mesh works from what it kept")
    assert not capture.contains(secret)


def test_changes_arrive_when_control_is_back(lab):
    lab.control.kill()
    lab.policy("deny", (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: deny\n  namespace: shop\n"
        "spec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n"
        f"        principals: [\"{lab.client.identity}\"]\n"))
    assert lab.client.echoes(lab.server.ip, 8080)
    lab.control.start()
    wait(lambda: lab.client.is_refused(lab.server.ip, 8080), "the policy is enforced", timeout=40)
    lab.withdraw("deny")
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "and withdrawn", timeout=40)


def test_a_peer_node_that_is_gone_fails_in_time(lab):
    lab.nodes["b"].daemon.stop(signal.SIGTERM)
    with pytest.raises((OSError, AssertionError)):
        assert lab.client.echoes(lab.server.ip, 8080, timeout=15)
    assert lab.server.has_rules()
