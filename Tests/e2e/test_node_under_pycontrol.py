"""A node under a control component that shares no code with it: what it says, what it takes, and what it survives.

      pycontrol (grpcio, protobuf, OpenSSL) on the hub
        ║ delta xDS + CA            ║
      node a: client, twin        node b: server
"""

import re
import shutil
import signal

import grpc
import pytest
import warrenlab
import wireresources as wire
from foreignlab import ForeignLab
from warrenlab import nonce, receive, wait
from wireresources import ADDRESS, LOCAL_POD, POLICY, Resource, Response, exactly, uid

TYPES = {ADDRESS, POLICY, LOCAL_POD}


@pytest.fixture(scope="module")
def lab():
    with ForeignLab() as lab:
        lab.client = lab.pod("shop/client", node="a")
        lab.twin = lab.pod("shop/twin", node="a")
        lab.server = lab.pod("shop/server", node="b")
        lab.vip = "10.98.200.1"
        lab.server.serve()
        lab.foreign.set(wire.service("shop", "server", [lab.vip], {80: 8080}))
        lab.enroll(lab.client, lab.twin)
        lab.enroll(lab.server, services=wire.endpoint_of("shop", "server", {80: 8080}))
        yield lab.start()


@pytest.fixture(autouse=True)
def all_as_it_was(lab):
    """Each test begins with a mesh that works, and ends without policies."""
    if not lab.foreign.is_running:
        lab.foreign.start()
    for node in lab.nodes.values():
        if not node.daemon.is_running:
            node.daemon.start()
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "the mesh works", timeout=40)
    daemons = [node.daemon.pid for node in lab.nodes.values()]
    yield daemons
    if lab.foreign.is_running and (names := list(lab.foreign.visible(POLICY, None))):
        lab.foreign.remove(POLICY, *names)


def works(lab):
    assert all(lab.client.echoes(address, port) for address, port in (
        (lab.server.ip, 8080), (lab.server.ip6, 8080), (lab.vip, 80)))


# --- how it introduces itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", "ab")
def test_the_first_request_of_each_type_names_the_node(lab, letter):
    stream, name = lab.stream(letter), lab.nodes[letter].name
    assert set(stream.subscribed) == TYPES
    for first in stream.subscribed.values():
        assert re.fullmatch(r"ztunnel~[0-9a-f.:]+~[^~.]+\.[^~.]+~[^~.]+\.svc\.cluster\.local", first.node.id)
        metadata = {key: value.string_value for key, value in first.node.metadata.fields.items()}
        assert metadata["NODE_NAME"] == name
        assert metadata["INSTANCE_IPS"] == first.node.id.split("~")[1]
        assert first.node.id.split("~")[2] == f"{metadata['NAME']}.{metadata['NAMESPACE']}"


def test_subscriptions_are_wildcards_by_an_empty_list(lab):
    for first in lab.stream("a").subscribed.values():
        assert not first.resource_names_subscribe and not first.resource_names_unsubscribe
        assert not first.response_nonce and not first.HasField("error_detail")


def test_calls_say_which_cluster_they_come_from(lab):
    assert lab.stream("a").caller.headers["clusterid"] == "Kubernetes"
    assert all(asked.caller.headers["clusterid"] == "Kubernetes" for asked in lab.foreign.ca.asked)


@pytest.mark.parametrize("letter", "ab")
def test_the_token_is_exchanged_for_a_client_certificate(lab, letter):
    name = lab.nodes[letter].name
    mine = [asked for asked in lab.foreign.ca.asked if asked.caller.node == name]
    own = [asked for asked in mine if asked.identity is None]
    assert len(own) == 1 and mine[0] is own[0]
    scheme, token = own[0].caller.headers["authorization"].split(" ")
    assert scheme == "Bearer" and lab.foreign.tokens[token] == name
    assert not own[0].caller.uris
    # From then on it proves itself by it, on the stream and at the CA.
    for caller in (lab.stream(letter).caller, *(asked.caller for asked in mine[1:])):
        assert caller.uris == [wire.node_uri(name)]


def test_responses_are_acknowledged_once_each(lab):
    stream = lab.stream("a")
    wait(lambda: stream.is_settled, "all is answered")
    answers = [request.response_nonce for request in stream.requests if request.response_nonce]
    assert sorted(answers) == sorted(set(answers)) and set(answers) == set(stream.sent)
    assert not stream.nacks


def test_captured_pods_are_reported_on_their_nodes_stream(lab):
    for pod in (lab.client, lab.twin, lab.server):
        assert lab.foreign.reports[uid(pod)] == ("STATE_CAPTURED", "")
        tellers = {stream.node for stream, name, _, _ in lab.foreign.report_log if name == uid(pod)}
        assert tellers == {pod.node.name}


def test_a_pod_that_cannot_be_captured_is_reported_with_the_reason(lab):
    pod = lab.pod("shop/nowhere", node="a", netns_annotation="no-such-namespace")
    lab.enroll(pod)
    state, reason = wait(lambda: lab.foreign.reports.get(uid(pod)), "a report")
    assert state == "STATE_REFUSED" and "no-such-namespace" in reason
    lab.foreign.leave(pod)


def test_a_pod_that_leaves_is_reported(lab):
    pod = lab.late_pod("shop/leaving", "a")
    assert pod.has_rules()
    lab.foreign.remove(LOCAL_POD, uid(pod))
    wait(lambda: lab.foreign.reports[uid(pod)][0] == "STATE_REMOVED", "the report")
    assert not pod.has_rules()
    lab.foreign.leave(pod)


# --- what it takes and what it refuses -------------------------------------------------------------------------------


class Stranger:
    """A pod that exists only in configuration."""

    def __init__(self, lab, name):
        self.namespace, self.name, self.account, self.node = "elsewhere", name, name, lab.nodes["b"]
        self.ip, self.ip6, self.netns_annotation = "10.97.0.1", "fd97::1", "nowhere"


def strange_policy(**match):
    return wire.policy("elsewhere", "bad", "DENY", matches=[match])


MALFORMED = {
    "not protobuf": lambda lab: Resource(ADDRESS, "bad", b"\xff\xff\xff\xff"),
    "cut short": lambda lab: Resource(ADDRESS, "bad", wire.workload(Stranger(lab, "x")).contents[:-3]),
    "neither workload nor service": lambda lab: Resource(ADDRESS, "bad", b""),
    "of another type inside": lambda lab: Resource(ADDRESS, "bad", b"\x0a\x01x", inner_type=POLICY),
    "without a name": lambda lab: Resource(ADDRESS, "", wire.workload(Stranger(lab, "x")).contents),
    "under another name": lambda lab: Resource(ADDRESS, "bad", wire.workload(Stranger(lab, "x")).contents),
    "an address of three bytes": lambda lab: wire.workload(Stranger(lab, "x"), addresses=[b"\x01\x02\x03"]),
    "an address of no bytes": lambda lab: wire.workload(Stranger(lab, "x"), addresses=[b""]),
    "a legacy tunnel": lambda lab: wire.workload(Stranger(lab, "x"), tunnel_protocol=2),
    "an unknown tunnel": lambda lab: wire.workload(Stranger(lab, "x"), tunnel_protocol=77),
    "a service key without a slash": lambda lab: wire.workload(
        Stranger(lab, "x"), services={"plain": wire.new("istio.workload.PortList")}),
    "a slash in the account": lambda lab: wire.workload(Stranger(lab, "x"), service_account="a/b"),
    "a service port of 70000": lambda lab: wire.service("elsewhere", "x", ["10.97.9.9"], {70_000: 80}),
    "a VIP of five bytes": lambda lab: wire.service(
        "elsewhere", "x", [], {}, addresses=[wire.new("istio.workload.NetworkAddress", address=b"12345")]),
    "a scope of nothing": lambda lab: wire.service("elsewhere", "x", ["10.97.9.9"], {80: 80}, load_balancing=wire.new(
        "istio.workload.LoadBalancing", routing_preference=[0])),
    "a prefix longer than its address": lambda lab: strange_policy(
        source_ips=[wire.new("istio.security.Address", address=b"\x0a\0\0\0", length=33)]),
    "a matched port of 99999": lambda lab: strange_policy(destination_ports=[99_999]),
    "a match of no kind": lambda lab: strange_policy(principals=[wire.new("istio.security.StringMatch")]),
    "an account without a name": lambda lab: strange_policy(
        service_accounts=[wire.new("istio.security.ServiceAccountMatch", namespace="shop")]),
    "an unknown action": lambda lab: wire.policy("elsewhere", "bad", 9),
    "an unknown scope": lambda lab: wire.policy("elsewhere", "bad", scope=9),
    "a local pod without a uid": lambda lab: Resource(LOCAL_POD, "bad", wire.new("warren.v1.LocalPod", name="x")),
    "a local pod with a strange address": lambda lab: Resource(
        LOCAL_POD, "bad", wire.new("warren.v1.LocalPod", uid="bad", namespace="n", name="x", addresses=[b"1"])),
}


@pytest.mark.parametrize("flaw", list(MALFORMED))
def test_refuses_what_is_malformed_by_name_and_takes_the_rest(lab, all_as_it_was, flaw):
    bad, good = MALFORMED[flaw](lab), wire.workload(Stranger(lab, f"good-{len(flaw)}"))
    good = good if bad.type_url == ADDRESS else wire.policy("elsewhere", "good", "ALLOW")
    resources = [bad.wire()] if bad.type_url == LOCAL_POD else [good.wire(), bad.wire()]
    stream = lab.stream("a")
    nonce_ = stream.send(Response(type_url=bad.type_url, resources=resources))
    answer = wait(lambda: (sent := stream.sent[nonce_]).answer is not None and [sent.answer], "an answer")[0]
    assert answer.startswith(f"{bad.name}: ") and len(answer) > len(bad.name) + 2, answer
    assert good.name not in answer.split(": ")[0]
    known = lab.known("a")
    if bad.type_url != LOCAL_POD:
        assert good.name in {**known["workloads"], **known["policies"]}
    assert [node.daemon.pid for node in lab.nodes.values()] == all_as_it_was
    works(lab)
    # As if it had never been.
    names = {bad.name, good.name} - {""}
    stream.send(Response(type_url=bad.type_url, removed_resources=sorted(names)))
    wait(lambda: stream.is_settled, "the removal is answered")


HARMLESS = {
    "an empty response": Response(type_url=POLICY),
    "a type that nobody asked for": Response(
        type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster",
        resources=[Resource("x", "cluster", b"\x0a\x01x").wire()]),
    "no type": Response(),
    "removals of what was never there": Response(
        type_url=ADDRESS, removed_resources=["", "x", "a/b", "Kubernetes//Pod/no/body"] * 3),
    "a resource that only says that it is current": Response(
        type_url=POLICY, resources=[wire.new("envoy.service.discovery.v3.Resource", name="elsewhere/x", version="1")]),
}


@pytest.mark.parametrize("what", list(HARMLESS))
def test_acknowledges(lab, what):
    stream, response = lab.stream("a"), Response()
    response.CopyFrom(HARMLESS[what])
    nonce_ = stream.send(response)
    wait(lambda: any(request.response_nonce == nonce_ and not request.HasField("error_detail")
                     for request in stream.requests), "the ACK")
    works(lab)


def test_a_response_that_is_no_message_ends_the_stream_and_nothing_else(lab, all_as_it_was):
    for raw in (b"\xff\xff\xff\xff", b"\x12\xff\xff\xff\xff\x0f", b"\x08"):
        stream = lab.stream("a")
        stream.send(raw)
        wait(lambda: not stream.is_open, f"the stream that carried {raw!r} ends")
        works(lab)
    lab.stream("a")
    assert [node.daemon.pid for node in lab.nodes.values()] == all_as_it_was


def test_ten_thousand_resources_at_once(lab):
    many = []
    for number in range(10_000):
        pod = Stranger(lab, f"many-{number}")
        pod.ip, pod.ip6 = f"10.96.{number // 250}.{number % 250}", f"fd96::{number:x}"
        many.append(wire.workload(pod))
    stream = lab.stream("a")
    for response in (Response(type_url=ADDRESS, resources=[one.wire() for one in many]),
                     Response(type_url=ADDRESS, removed_resources=[one.name for one in many])):
        nonce_ = stream.send(response)
        wait(lambda: stream.sent[nonce_].answer == "", "the ACK", timeout=30)
        works(lab)


def test_a_refused_change_leaves_what_was_there(lab):
    principals = {"principals": [exactly(lab.twin.identity)]}
    lab.foreign.set(wire.policy("shop", "twins", "DENY", matches=[principals]))
    wait(lambda: lab.twin.is_refused(lab.server.ip, 8080), "the policy is enforced")
    lab.foreign.set(wire.policy("shop", "twins", "DENY", scope=9, matches=[principals]))
    wait(lambda: any("shop/twins: " in nack for nack in lab.stream("b").nacks), "the NACK")
    assert lab.twin.is_refused(lab.server.ip, 8080)
    works(lab)


def test_a_policy_that_cannot_be_understood_closes_what_it_was_to_decide(lab):
    good = wire.policy("shop", "future", "DENY", matches=[{"principals": [exactly("nobody/at/all")]}])
    match = wire.new("istio.security.Match", principals=[exactly("nobody/at/all")]).SerializeToString() + b"\xfa\x7f\x01x"
    rules = b"\x12" + bytes([len(match)]) + match
    group = b"\x0a" + bytes([len(rules)]) + rules
    empty = wire.policy("shop", "future", "DENY", groups=[])
    lab.foreign.set(Resource(POLICY, "shop/future", empty.contents + b"\x2a" + bytes([len(group)]) + group))
    wait(lambda: lab.client.is_refused(lab.server.ip, 8080), "connections are refused")
    wait(lambda: any("shop/future: " in nack for nack in lab.stream("b").nacks), "the NACK")
    lab.foreign.set(good)
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "a version that can be understood opens it again")


# --- the life of the stream ------------------------------------------------------------------------------------------

STATUSES = ["OK", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL",
            "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED", "DATA_LOSS"]


@pytest.mark.parametrize("status", STATUSES)
def test_comes_back_when_its_stream_ends_with(lab, status):
    before = lab.stream("a")
    with lab.client.connect(lab.server.ip, 8080) as connection:
        lab.foreign.end_streams(getattr(grpc.StatusCode, status), "for no reason at all; 100 % ☂")
        wait(lambda: (now := lab.foreign.stream("node-a")) and now is not before, "another stream", timeout=5)
        connection.sendall(b"through it all")
        assert receive(connection, 14) == b"through it all"
    works(lab)


def test_comes_back_when_its_connection_is_cut(lab):
    before = lab.stream("a")
    lab.foreign.front.cut()
    wait(lambda: (now := lab.foreign.stream("node-a")) and now is not before, "another stream", timeout=5)
    works(lab)


def test_a_new_stream_begins_with_the_versions_that_are_held(lab):
    stream = lab.stream("a")
    rejected = wire.workload(Stranger(lab, "rejected"), tunnel_protocol=2)
    lab.foreign.set(rejected, wire.policy("elsewhere", "kept"))
    wait(lambda: stream.is_settled and stream.nacks, "the answers")
    lab.foreign.end_streams()
    after = wait(lambda: (now := lab.foreign.stream("node-a")) is not stream and now, "another stream")
    wait(lambda: set(after.subscribed) == TYPES, "the subscriptions")
    for type_url, first in after.subscribed.items():
        told = dict(first.initial_resource_versions)
        # What was refused is not held: it has to be sent again, or to be removed.
        assert told.pop(rejected.name, "") != rejected.version
        visible = lab.foreign.visible(type_url, "node-a")
        assert told == {name: one.version for name, one in visible.items() if one is not rejected}
        assert all(not list(sent.names) or sent.names == [rejected.name] for sent in after.sent.values())
    lab.foreign.remove(ADDRESS, rejected.name)


def test_what_went_while_the_stream_was_down_is_removed(lab):
    gone, changed = wire.workload(Stranger(lab, "gone")), Stranger(lab, "changed")
    lab.foreign.set(gone, wire.workload(changed), wire.policy("elsewhere", "gone"))
    wait(lambda: gone.name in lab.known("a")["workloads"] and "elsewhere/gone" in lab.known("a")["policies"], "they are known")
    lab.foreign.stop()
    lab.foreign.remove(ADDRESS, gone.name)
    lab.foreign.remove(POLICY, "elsewhere/gone")
    lab.foreign.set(wire.workload(changed, canonical_name="another"))
    assert gone.name in lab.known("a")["workloads"]
    lab.foreign.start()
    wait(lambda: gone.name not in lab.known("a")["workloads"] and "elsewhere/gone" not in lab.known("a")["policies"],
         "they are gone")
    assert lab.known("a")["workloads"][uid(changed)]["canonicalName"] == "another"
    lab.foreign.remove(ADDRESS, uid(changed))


def test_a_new_stream_is_told_again_what_is_captured(lab):
    lab.foreign.stop()
    lab.foreign.reports.clear()
    lab.foreign.start()
    wait(lambda: not lab.foreign.uncaptured(), "the reports")


def test_attempts_become_fewer_while_streams_are_refused(lab):
    attempts = []

    def refusal(caller):
        attempts.append(caller.node)
        return grpc.StatusCode.UNAVAILABLE, "not ready"

    lab.foreign.refusal = refusal
    try:
        lab.foreign.end_streams(grpc.StatusCode.UNAVAILABLE)
        wait(lambda: attempts.count("node-a") >= 6, "some attempts")
        count = attempts.count("node-a")
        # The sixth wait is 0.3 s or so; the seventh twice that.
        with pytest.raises(AssertionError):
            wait(lambda: attempts.count("node-a") > count + 4, "many attempts", timeout=1)
        works(lab)
    finally:
        lab.foreign.refusal = lambda caller: None
    wait(lambda: lab.foreign.stream("node-a"), "a stream")


def test_a_control_component_that_hangs_is_left(lab):
    with lab.foreign.front.frozen():
        wait(lambda: not lab.nodes["a"].status()["control"]["connected"], "the loss is noticed", timeout=60)
        works(lab)
    wait(lambda: lab.nodes["a"].status()["control"]["connected"], "it is back", timeout=40)


# --- what it does with it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["ip", "ip6", "vip"])
def test_traffic_between_nodes_is_encrypted(lab, address):
    secret = nonce()
    to, port = (lab.vip, 80) if address == "vip" else (getattr(lab.server, address), 8080)
    with lab.capture() as capture:
        assert lab.client.echoes(to, port, secret)
    assert not capture.contains(secret)


def test_both_logs_name_both_identities(lab):
    works(lab)
    for letter in "ab":
        wait(lambda: lab.refusals(letter, f"spiffe://{lab.client.identity}", f"spiffe://{lab.server.identity}"),
             f"a line of node {letter}")


def test_a_policy_denies_from_when_it_arrives_until_it_goes(lab):
    with lab.client.connect(lab.server.ip, 8080) as open_, lab.twin.connect(lab.server.ip, 8080) as other:
        for connection in (open_, other):
            connection.sendall(b"before")
            assert receive(connection, 6) == b"before"
        lab.foreign.set(wire.policy("shop", "deny", "DENY", matches=[{"principals": [exactly(lab.client.identity)]}]))
        open_.settimeout(10)
        try:
            assert open_.recv(1) == b""
        except ConnectionResetError:
            pass
        other.sendall(b"after")
        assert receive(other, 5) == b"after"
    assert lab.client.is_refused(lab.server.ip, 8080)
    assert lab.client.is_refused(lab.vip, 80)
    wait(lambda: lab.refusals("b", "explicitly denied by: shop/deny", lab.client.identity), "the reason in the log")
    lab.foreign.remove(POLICY, "shop/deny")
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "connections pass again")


def test_a_policy_that_is_attached_but_has_not_come_refuses(lab):
    fields = {"services": wire.endpoint_of("shop", "server", {80: 8080})}
    lab.enroll(lab.server, authorization_policies=["shop/late"], **fields)
    wait(lambda: lab.known("b")["workloads"][uid(lab.server)].get("authorizationPolicies"), "it is attached")
    # It may be on its way: a connection waits for it a little.
    assert lab.client.is_refused(lab.server.ip, 8080, timeout=10)
    wait(lambda: lab.refusals("b", "shop/late", "has not arrived"), "the reason in the log")
    # One that waits when it comes is decided by it.
    with lab.client.connect(lab.server.ip, 8080, timeout=10) as waiting:
        waiting.sendall(b"may I?")
        late = wire.policy(
            "shop", "late", scope="WORKLOAD_SELECTOR", matches=[{"principals": [exactly(lab.client.identity)]}])
        lab.foreign.set(late)
        assert receive(waiting, 6) == b"may I?"
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "it has come")
    assert lab.twin.is_refused(lab.server.ip, 8080)
    # It goes before the workload stops naming it: closed in between.
    lab.foreign.remove(POLICY, "shop/late")
    wait(lambda: "shop/late" not in lab.known("b")["policies"], "it is gone")
    assert lab.client.is_refused(lab.server.ip, 8080, timeout=10)
    lab.enroll(lab.server, **fields)
    wait(lambda: lab.client.echoes(lab.server.ip, 8080), "nothing is attached any more")


MATCHES = {
    "namespaces": ([exactly("shop")], [exactly("legacy")]),
    "principals": ([wire.new("istio.security.StringMatch", suffix="/sa/client")], [exactly("a/ns/b/sa/c")]),
    "source_ips": ([wire.new("istio.security.Address", address=b"\x0a\x62\x01\0", length=24)],
                   [wire.new("istio.security.Address", address=b"\x0a\x63\0\0", length=16)]),
    "destination_ips": ([wire.new("istio.security.Address", address=b"\x0a\x62\x02\0", length=24)],
                        [wire.new("istio.security.Address", address=b"\x0a\x62\x01\0", length=24)]),
    "destination_ports": ([8080], [8081]),
    "service_accounts": ([wire.new("istio.security.ServiceAccountMatch", namespace="shop", serviceAccount="client")],
                         [wire.new("istio.security.ServiceAccountMatch", namespace="shop", serviceAccount="twin")]),
}


@pytest.mark.parametrize("attribute", list(MATCHES))
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_every_attribute_is_enforced(lab, attribute, action):
    hit, miss = MATCHES[attribute]
    for match, is_hit in (
            ({attribute: hit}, True), ({attribute: miss}, False),
            ({f"not_{attribute}": miss}, True), ({f"not_{attribute}": hit}, False)):
        lab.foreign.set(wire.policy("shop", "one", action, matches=[match]))
        stream = lab.stream("b")
        wait(lambda: stream.is_settled, "the policy has been taken")
        if (action == "ALLOW") == is_hit:
            wait(lambda: lab.client.echoes(lab.server.ip, 8080), f"{match} admits")
        else:
            wait(lambda: lab.client.is_refused(lab.server.ip, 8080), f"{match} refuses")


# --- without it ------------------------------------------------------------------------------------------------------


def test_traffic_goes_on_without_a_control_component(lab):
    with lab.client.connect(lab.server.ip, 8080) as connection:
        lab.foreign.stop()
        wait(lambda: not lab.nodes["a"].status()["control"]["connected"], "the loss is noticed")
        connection.sendall(b"still here")
        assert receive(connection, 10) == b"still here"
    for _ in range(5):
        works(lab)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_node_that_restarts_meanwhile_goes_on_from_its_saved_state(lab, end):
    lab.foreign.set(wire.policy("shop", "deny", "DENY", matches=[{"principals": [exactly(lab.twin.identity)]}]))
    wait(lambda: lab.twin.is_refused(lab.server.ip, 8080), "the policy is enforced")
    wait(lambda: lab.stream("a").is_settled, "node a has it too")
    lab.foreign.stop()
    serials = {letter: lab.certificate(letter, pod)["serialNumber"] for letter, pod in zip("ab", (lab.client, lab.server))}
    count = len(lab.foreign.ca.asked)
    for node in lab.nodes.values():
        node.daemon.stop(end)
        node.daemon.start()
    secret = nonce()
    with lab.capture() as capture:
        wait(lambda: lab.client.echoes(lab.server.ip, 8080, secret), "the mesh works from what was kept")
    assert not capture.contains(secret)
    assert lab.twin.is_refused(lab.server.ip, 8080)
    assert serials == {
        letter: lab.certificate(letter, pod)["serialNumber"] for letter, pod in zip("ab", (lab.client, lab.server))}
    assert not lab.nodes["a"].status()["control"]["connected"]
    lab.foreign.start()
    stream = lab.stream("a")
    wait(lambda: set(stream.subscribed) == TYPES, "the subscriptions")
    assert set(stream.subscribed[ADDRESS].initial_resource_versions) == set(lab.foreign.visible(ADDRESS, "node-a"))
    assert len(lab.foreign.ca.asked) == count


def test_a_node_without_saved_state_waits_for_the_control_component_and_lets_nothing_pass(lab):
    node, secret = lab.nodes["a"], nonce()
    lab.foreign.stop()
    node.daemon.stop()
    shutil.rmtree(lab.run_directory / "nodes" / node.name)
    with lab.capture() as capture:
        node.daemon.start()
        wait(node.status, "it runs")
        for _ in range(10):
            assert not node.is_ready()
            with pytest.raises((OSError, AssertionError)):
                assert lab.client.echoes(lab.server.ip, 8080, secret, timeout=1)
        lab.foreign.start()
        lab.settle()
        wait(lambda: lab.client.echoes(lab.server.ip, 8080, secret), "it works")
    assert not capture.contains(secret)


def test_a_node_is_ready_only_when_every_type_was_answered(lab):
    node = lab.nodes["a"]
    node.daemon.stop()
    shutil.rmtree(lab.run_directory / "nodes" / node.name)
    with lab.foreign.held(POLICY):
        node.daemon.start()
        wait(node.status, "it runs")
        wait(lambda: (stream := lab.foreign.stream(node.name)) and stream.sent and all(
            sent.answer == "" for sent in stream.sent.values() if sent.type_url == ADDRESS), "addresses are taken")
        assert not node.is_ready()
        with pytest.raises((OSError, AssertionError)):
            assert lab.client.echoes(lab.server.ip, 8080, timeout=1)
    wait(node.is_ready, "it is ready")


def test_nothing_of_this_has_ended_a_daemon(lab):
    for node in lab.nodes.values():
        assert node.daemon.is_running
        log = node.daemon.err.read_text(errors="replace")
        assert "Fatal error" not in log and "Illegal instruction" not in log, log[-2000:]
        assert warrenlab.ask(node.socket, "/version")[0] == 200
