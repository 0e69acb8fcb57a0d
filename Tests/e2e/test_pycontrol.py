"""The control component of pycontrol.py itself, asked by grpcio: a failure here is not Warren's."""

import socket
import ssl
import threading
import types

import grpc
import meshca
import pytest
import wireresources as wire
from cryptography import x509
from pycontrol import PyControl
from pynode import Node
from warrenlab import wait
from wireresources import ADDRESS, LOCAL_POD, POLICY


def pod(name, node="node-a"):
    return types.SimpleNamespace(
        namespace="shop", name=name, account=name, ip="10.0.0.1", ip6="fd00::1", netns_annotation=name,
        identity=f"cluster.local/ns/shop/sa/{name}", node=types.SimpleNamespace(name=node))


@pytest.fixture(params=[True, False], ids=["openssl", "grpcio"])
def control(request, tmp_path):
    with PyControl(tmp_path, ["node-a", "node-b"], front=request.param) as control:
        yield control


@pytest.fixture
def fronted(tmp_path):
    with PyControl(tmp_path, ["node-a", "node-b"]) as control:
        yield control


class Client(Node):
    def __init__(self, control, node="node-a", pair=None):
        token = (control.directory / "tokens" / node).read_text()
        super().__init__(
            f"{control.address}:{control.port}", (control.directory / "root-cert.pem").read_bytes(),
            None if pair else token, pair, node, answers=False)


def names(response):
    return sorted(one.name for one in response.resources)


def test_every_type_is_answered_with_all_that_the_node_may_see(control):
    control.enroll(pod("mine"))
    control.enroll(pod("other", "node-b"))
    with Client(control).open() as client:
        assert names(client.of(ADDRESS)) == ["Kubernetes//Pod/shop/mine", "Kubernetes//Pod/shop/other"]
        assert names(client.of(LOCAL_POD)) == ["Kubernetes//Pod/shop/mine"]
        assert names(client.of(POLICY)) == []
        stream = wait(lambda: control.stream("node-a"), "the stream")
        assert stream.metadata["NODE_NAME"] == "node-a" and stream.caller.headers["clusterid"] == "Kubernetes"


def test_changes_are_pushed_and_answers_written_down(control):
    with Client(control).open() as client:
        client.answer(client.of(POLICY))
        control.set(wire.policy("shop", "deny", "DENY"))
        client.answer(client.of(POLICY, 2), "shop/deny: no")
        stream = control.stream("node-a")
        wait(lambda: stream.nacks == ["shop/deny: no"], "the NACK")
        control.remove(POLICY, "shop/deny")
        assert list(client.of(POLICY, 3).removed_resources) == ["shop/deny"]
        assert not stream.is_settled


def test_a_client_that_comes_back_gets_what_changed(control):
    for name in ("kept", "changed", "gone"):
        control.set(wire.policy("shop", name))
    with Client(control).open() as client:
        versions = {one.name: one.version for one in client.of(POLICY).resources}
    control.set(wire.policy("shop", "changed", "DENY"), wire.policy("shop", "new"))
    control.remove(POLICY, "shop/gone")
    with Client(control).open({POLICY: versions}) as client:
        response = client.of(POLICY)
        assert names(response) == ["shop/changed", "shop/new"]
        assert list(response.removed_resources) == ["shop/gone"]


def test_answers_can_be_held_back_and_streams_broken(control):
    with control.held(POLICY), Client(control).open() as client:
        client.of(ADDRESS)
        wait(lambda: control.stream("node-a").of(POLICY), "the request")
        assert not any(one.type_url == POLICY for one in client.responses)
        control.release(POLICY)
        client.of(POLICY)
    with Client(control).open() as client:
        client.of(POLICY)
        control.end_streams(grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
        assert wait(lambda: client.error, "the end").code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait(lambda: not control.open_streams(), "the stream is closed")


def test_it_can_be_restarted_on_its_port(control):
    with Client(control).open() as client:
        client.of(POLICY)
        control.stop()
        assert wait(lambda: client.error, "the end").code() is grpc.StatusCode.UNAVAILABLE
    control.start()
    with Client(control).open() as client:
        client.of(POLICY)


def test_reports_are_collected_and_change_what_is_published(control):
    control.enroll(pod("mine"))
    with Client(control).open() as client:
        first = client.of(ADDRESS).resources[0]
        client.report(first.name, "STATE_CAPTURED")
        second = client.of(ADDRESS, 2).resources[0]
        told = wire.CLASSES["istio.workload.Address"].FromString(second.resource.value)
        assert told.workload.tunnel_protocol == 1 and first.version != second.version
        assert control.is_captured(pod("mine"))


def test_strangers_are_turned_away(control):
    with Client(control) as client:
        client.headers = [("authorization", "Bearer nonsense")]
        client.open()
        assert wait(lambda: client.error, "the end").code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as refused:
            client.certificate()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_node_gets_certificates_of_its_pods_and_of_no_others(control):
    control.enroll(pod("mine"))
    control.enroll(pod("other", "node-b"))
    with Client(control) as client:
        identity = meshca.spiffe("shop", "mine")
        key, answer = client.certificate(identity)
        leaf = x509.load_pem_x509_certificate(answer[0].encode())
        assert leaf.public_key() == key.public_key() and len(answer) == 3
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert san.get_values_for_type(x509.UniformResourceIdentifier) == [identity]
        with pytest.raises(grpc.RpcError) as refused:
            client.certificate(meshca.spiffe("shop", "other"))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        control.ca.refusal = lambda asked: (grpc.StatusCode.UNAVAILABLE, "not now")
        with pytest.raises(grpc.RpcError) as refused:
            client.certificate(identity)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert [one.status for one in control.ca.of(identity)] == [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]


def test_a_token_is_exchanged_for_a_client_certificate(fronted):
    fronted.enroll(pod("mine"))
    with Client(fronted) as client:
        key, answer = client.certificate()
    pair = (meshca.pem(key), "".join(answer[:2]).encode())
    with Client(fronted, pair=pair) as client:
        client.open().of(ADDRESS)
        stream = fronted.stream("node-a")
        assert stream.caller.uris == [wire.node_uri("node-a")] and "authorization" not in stream.caller.headers
        client.certificate(meshca.spiffe("shop", "mine"))


def test_client_certificates_of_others_are_refused(fronted, tmp_path):
    key, chain = meshca.MeshCA("elsewhere").files(tmp_path, "foreign", wire.node_uri("node-a"))
    with Client(fronted, pair=(key.read_bytes(), chain.read_bytes())) as client:
        client.open()
        assert wait(lambda: client.error, "the end").code() is grpc.StatusCode.UNAVAILABLE


def test_its_front_can_hang(fronted):
    with Client(fronted).open() as client:
        wait(lambda: len(client.responses) == 3, "the first answers")
        with fronted.front.frozen():
            fronted.set(wire.policy("shop", "late"))
            assert len(client.responses) == 3
        assert names(client.of(POLICY, 2)) == ["shop/late"]


def test_calls_of_the_ca_can_be_held(control):
    with Client(control) as client:
        threads = [threading.Thread(target=client.certificate) for _ in range(5)]
        with control.ca.held():
            for thread in threads:
                thread.start()
            wait(lambda: control.ca.in_flight == 5, "all wait")
        for thread in threads:
            thread.join(10)
        assert control.ca.in_flight == 0 and control.ca.peak == 5


def test_it_shows_a_certificate_for_its_address(control):
    context = ssl.create_default_context(cafile=control.directory / "root-cert.pem")
    with socket.create_connection((control.address, control.port)) as raw:
        with context.wrap_socket(raw, server_hostname=control.address) as connection:
            assert connection.version() == "TLSv1.3"
