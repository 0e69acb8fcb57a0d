"""A node beneath a control component that knows bearer tokens only, as istiod does; TLS is BoringSSL's, by grpcio."""

import time

import pytest
import wireresources as wire
from foreignlab import ForeignLab, missing_flag
from warrenlab import wait

FLAG = "--no-node-certificate"


@pytest.fixture(scope="module")
def lab():
    if missing_flag(FLAG):
        pytest.skip(f"warren-node has no {FLAG}")
    with ForeignLab(front=False) as lab:
        for node in lab.nodes.values():
            node.daemon.command.append(FLAG)
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="b")
        lab.server.serve()
        lab.enroll(lab.client, lab.server)
        yield lab.start()


def test_every_call_carries_the_token_and_the_cluster(lab):
    callers = [asked.caller for asked in lab.foreign.ca.asked] + [stream.caller for stream in lab.foreign.streams]
    assert callers
    for caller in callers:
        scheme, token = caller.headers["authorization"].split(" ")
        assert scheme == "Bearer" and lab.foreign.tokens[token] == caller.node
        assert caller.headers["clusterid"] == "Kubernetes"


def test_no_certificate_is_asked_for_the_node_itself(lab):
    assert all(asked.identity for asked in lab.foreign.ca.asked)
    assert not list((lab.directory / "node-a").glob("*certificate*"))


def test_traffic_flows(lab):
    for address in (lab.server.ip, lab.server.ip6):
        assert lab.client.echoes(address, 8080)


def test_an_idle_stream_stays(lab):
    # grpcio, as istiod's server, ends connections that ping more than three times at less than 15 s apart.
    streams, until = lab.foreign.open_streams(), time.monotonic() + 55
    with pytest.raises(AssertionError):
        wait(lambda: any(not stream.is_open for stream in streams), "the end of a stream", timeout=until - time.monotonic())
    assert len(streams) == 2


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["plain", "with a line feed", "with CRLF"])
def test_a_new_token_is_read_for_the_next_call(lab, end):
    before, token = lab.stream("a"), lab.foreign.new_token("node-a", end)
    before.end()
    after = wait(lambda: (now := lab.foreign.stream("node-a")) is not before and now, "another stream")
    assert after.caller.headers["authorization"] == f"Bearer {token}"


def test_a_token_that_is_refused_keeps_what_works(lab):
    token = (lab.state / "tokens" / "node-a").read_text()
    try:
        lab.foreign.tokens = {key: node for key, node in lab.foreign.tokens.items() if node != "node-a"}
        lab.foreign.end_streams()
        wait(lambda: not lab.nodes["a"].status()["control"]["connected"], "the refusal")
        assert lab.client.echoes(lab.server.ip, 8080)
    finally:
        lab.foreign.tokens[token.strip()] = "node-a"
    wait(lambda: lab.foreign.stream("node-a"), "a stream")


def test_it_comes_back_to_a_control_component_that_restarts(lab):
    lab.foreign.stop()
    assert lab.client.echoes(lab.server.ip, 8080)
    lab.foreign.start()
    lab.settle(40)
    lab.foreign.set(wire.policy("shop", "deny", "DENY", matches=[{"principals": [wire.exactly(lab.client.identity)]}]))
    wait(lambda: lab.client.is_refused(lab.server.ip, 8080), "it takes policies")
    lab.foreign.remove(wire.POLICY, "shop/deny")
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "and their removal")
