"""Two pods of one node: joined without a tunnel, or in one where encryption is asked for. Nobody can tell by what it does.

    node a:  client   shop/client     server   shop/server     joined
                                      secure   shop/secure     label warren.dev/same-node: encrypt on the Pod
                                      vault    vault/keeper    the same on its Namespace
    node b:                           far      shop/far        a tunnel in any case
"""

import contextlib
import re
import socket
import struct

import pytest
from warrenlab import Lab, ask, chunks, digest, nonce, receive, receive_all, wait

ENCRYPT = {"warren.dev/same-node": "encrypt"}
AUTHORIZATION = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: rule
  namespace: shop
  annotations: {{istio.io/dry-run: "{dry_run}"}}
spec:
  action: {action}
  rules:
  - from: [{{source: {{{source}}}}}]
    to: [{{operation: {{ports: ["8080"]}}}}]
"""
PEERS = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ports, namespace: shop}
spec:
  selector: {matchLabels: {part: server}}
  mtls: {mode: PERMISSIVE}
  portLevelMtls: {"8080": {mode: STRICT}}
"""


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.write(
            "namespace-vault.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: vault\n"
            "  labels: {istio.io/dataplane-mode: ambient}\n  annotations: {warren.dev/same-node: encrypt}\n")
        lab.client = lab.pod("shop/client", node="a")
        lab.other = lab.pod("shop/other", node="a")
        lab.server = lab.pod("shop/server", node="a", labels={"app": "plain", "part": "server"})
        lab.secure = lab.pod("shop/secure", node="a", labels={"app": "encrypt", "part": "server", **ENCRYPT})
        lab.far = lab.pod("shop/far", node="b", labels={"app": "far", "part": "server"})
        lab.keeper = lab.pod("vault/keeper", node="a")
        # Listens nowhere.
        lab.idle = lab.pod("shop/idle", node="a", labels={"app": "pair"})
        lab.half = lab.pod("shop/half", node="a", labels={"app": "pair"})
        lab.vips = {app: lab.service(f"shop/{app}", {"app": app}, {80: 9080, 81: 8080})
                    for app in ("plain", "encrypt", "far", "pair")}
        lab.journals = {pod: pod.serve() for pod in (lab.server, lab.secure, lab.far, lab.keeper, lab.half)}
        yield lab.start()


@pytest.fixture(autouse=True)
def no_policy_left(lab):
    yield
    for name in ("rule", "peers"):
        lab.withdraw(name)
    wait(lambda: not lab.status()["policies"], "no policy is left")
    for server in (lab.server, lab.secure, lab.far):
        for pod in (lab.client, lab.other):
            wait(lambda: pod.echoes(server.ip, 8080), f"{pod.name} may connect again")


WAYS = {"plain": "server", "encrypt": "secure", "far": "far"}
PROTOCOL = {"plain": "SAME_NODE", "encrypt": "HBONE", "far": "HBONE"}
PLAN = {"plain": "same-node", "encrypt": "tunnel", "far": "tunnel"}


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def server(lab, way):
    return getattr(lab, WAYS[way])


def connections(lab, pod, direction):
    """What the dump of the pod's node shows of its open connections."""
    code, dump = ask(pod.node.socket, "/config_dump")
    assert code == 200
    state = next(one for one in dump["workloadState"].values() if one["info"]["name"] == pod.name)
    return state["connections"][direction]


def protocol(lab, connection):
    """How a connection of the client's is carried."""
    own = "%s:%d" % connection.getsockname()[:2]
    return wait(lambda: next((one for one in connections(lab, lab.client, "outbound") if one["src"] == own), None),
                "the connection in the dump")["protocol"]


FIELDS = re.compile(r'([\w.]+)=("(?:[^"\\]|\\.)*"|\S+)')


def lines(pod, **wanted):
    """Lines of the access log of the pod's node, as dictionaries."""
    found = []
    for line in pod.node.access_log().splitlines():
        fields = {key: value.strip('"') for key, value in FIELDS.findall(line.split("\t", 4)[-1])}
        if wanted.items() <= fields.items():
            found.append(fields)
    return found


def line_of(pod, **wanted):
    return wait(lambda: lines(pod, **wanted), f"a line with {wanted}")[-1]


def is_reset(pod, to, port):
    """A connection that ends without an answer; where it came from."""
    with pod.inside():
        connection = socket.socket()
    with connection:
        connection.bind((pod.ip, 0))
        connection.settimeout(10)
        with pytest.raises(ConnectionResetError):
            connection.connect((to, port))
            connection.recv(1)
        return "%s:%d" % connection.getsockname()[:2]


def explain(lab, source, to):
    code, answer = ask(source.node.socket, f"/explain?source={source.namespace}/{source.name}&destination={to}")
    assert code == 200, answer
    return answer


def counted(lab, letter, path, reporter="source"):
    text = lab.nodes[letter].netns.run("curl", "-s", "--max-time", "5", "http://127.0.0.1:15020/metrics")
    found = re.search(r'^warren_connections_total\{reporter="%s",path="%s"\} (\S+)' % (reporter, path), text, re.M)
    return float(found[1]) if found else 0


# --- what it is, and how that shows ---------------------------------------------------------------------------------------


def test_the_way_is_shown_in_the_dump_and_by_explain(lab, way, server):
    for address, vip in zip((server.ip, server.ip6), lab.vips[way]):
        for to, port in ((address, 8080), (vip, 81)):
            with lab.client.connect(to, port) as connection:
                connection.sendall(b"12345")
                assert receive(connection, 5) == b"12345"
                if connection.family == socket.AF_INET:
                    assert protocol(lab, connection) == PROTOCOL[way]
                    # Earlier ones may still be ending.
                    wait(lambda: [one["protocol"] for one in connections(lab, server, "inbound")
                                  if one["actualDst"] == f"{server.ip}:8080"] == [PROTOCOL[way]], "this one and no other")
    answer = explain(lab, lab.client, f"{server.ip}:8080")
    assert answer["outbound"]["plan"] == PLAN[way] and answer["verdict"] == "allowed"
    assert answer["inbound"]["verdict"] == "allowed"
    said = " ".join(answer["outbound"]["steps"])
    if way == "plain":
        assert "joined without a tunnel" in said
    if way == "encrypt":
        assert "shop/secure asks for encryption (warren.dev/same-node)" in said


def test_both_sides_write_a_line_with_both_identities(lab, way, server):
    with lab.client.connect(lab.vips[way][0], 81) as connection:
        connection.sendall(b"x" * 4321)
        assert receive(connection, 4321) == b"x" * 4321
        own = "%s:%d" % connection.getsockname()[:2]
    outbound = line_of(lab.client, **{"src.addr": own, "direction": "outbound"})
    inbound = line_of(server, direction="inbound", bytes_sent="4321", **{"dst.workload": server.name})
    for fields in (outbound, inbound):
        assert fields["src.identity"] == f"spiffe://{lab.client.identity}"
        assert fields["dst.identity"] == f"spiffe://{server.identity}"
        assert (fields["src.workload"], fields["dst.workload"]) == ("client", server.name)
        assert fields["dst.service"] == f"{way}.shop.svc.cluster.local"
        assert (fields["bytes_sent"], fields["bytes_recv"]) == ("4321", "4321")
        # What a tunnel's lines say is ztunnel's; these have a field more, and no tunnel to tell of.
        assert fields.get("path") == ("same-node" if way == "plain" else None)
        assert ("dst.hbone_addr" in fields) == (way != "plain")
    assert outbound["dst.addr"] == (f"{server.ip}:8080" if way == "plain" else f"{server.ip}:15008")
    assert inbound["src.addr"].rpartition(":")[0] == lab.client.ip


def test_metrics_tell_the_ways_apart_and_istios_names_stay_istios(lab, way, server):
    path = "same-node" if way == "plain" else "tunnel"
    letter = server.node.letter
    before = counted(lab, "a", path), counted(lab, letter, path, "destination")
    for _ in range(3):
        assert lab.client.echoes(server.ip, 8080)
    assert wait(lambda: counted(lab, "a", path) >= before[0] + 3, "counted at the source")
    assert wait(lambda: counted(lab, letter, path, "destination") >= before[1] + 3, "counted at the destination")
    text = lab.nodes["a"].netns.run("curl", "-s", "--max-time", "5", "http://127.0.0.1:15020/metrics")
    rows = [line for line in text.splitlines() if line.startswith("istio_tcp_connections_opened_total{")
            and f'destination_workload="{server.name}"' in line and 'source_workload="client"' in line
            and 'reporter="source"' in line and 'response_flags="-"' in line]
    assert rows and all('connection_security_policy="mutual_tls"' in row for row in rows), rows


def test_a_namespace_asks_for_encryption_too(lab):
    with lab.client.connect(lab.keeper.ip, 8080) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"
        assert protocol(lab, connection) == "HBONE"
    # Whichever side asks.
    assert explain(lab, lab.keeper, f"{lab.server.ip}:8080")["outbound"]["plan"] == "tunnel"


def test_a_label_that_changes_counts_for_new_connections(lab):
    def plan():
        return explain(lab, lab.client, f"{lab.server.ip}:8080")["outbound"]["plan"]

    with lab.client.connect(lab.server.ip, 8080) as before:
        before.sendall(b"x")
        assert receive(before, 1) == b"x"
        assert protocol(lab, before) == "SAME_NODE"
        try:
            lab.server.labels.update(ENCRYPT)
            lab.server.write()
            wait(lambda: plan() == "tunnel", "the label counts")

            def new():
                with lab.client.connect(lab.server.ip, 8080) as connection:
                    connection.sendall(b"y")
                    assert receive(connection, 1) == b"y"
                    return protocol(lab, connection)

            wait(lambda: new() == "HBONE", "new connections take a tunnel")
            before.sendall(b"z")
            assert receive(before, 1) == b"z" and protocol(lab, before) == "SAME_NODE"
        finally:
            del lab.server.labels["warren.dev/same-node"]
            lab.server.write()
    wait(lambda: plan() == "same-node" and new() == "SAME_NODE", "it is joined again")


def test_a_value_that_is_none_is_taken_for_encrypt_and_warned_of(lab):
    try:
        lab.other.labels["warren.dev/same-node"] = "off"
        lab.other.write()
        wait(lambda: explain(lab, lab.other, f"{lab.server.ip}:8080")["outbound"]["plan"] == "tunnel", "encryption")
        assert any("warren.dev/same-node" in one for one in lab.status()["configuration"]["warnings"])
    finally:
        del lab.other.labels["warren.dev/same-node"]
        lab.other.write()
    wait(lambda: explain(lab, lab.other, f"{lab.server.ip}:8080")["outbound"]["plan"] == "same-node", "none")


# --- what crosses the node -------------------------------------------------------------------------------------------------


def test_nothing_can_be_read_between_the_pods(lab, way, server):
    secret = nonce()
    with contextlib.ExitStack() as stack:
        captures = [stack.enter_context(lab.capture(netns, interface)) for netns, interface in (
            (lab.client.netns, "eth0"), (server.netns, "eth0"), (lab.nodes["a"].netns, "lo"))]
        for to in (server.ip, server.ip6):
            assert lab.client.echoes(to, 8080, message=secret)
    assert not any(capture.contains(secret) for capture in captures)
    ends = {lab.client.ip, server.ip}, {lab.client.ip6, server.ip6}
    between = [flow for flow in captures[0].streams() if {flow[0], flow[2]} in ends]
    if way == "plain":
        # What does not leave a namespace is not encrypted: the bytes went from one pod's loopback to the other's.
        assert not between
    else:
        assert between and all(15008 in (flow[1], flow[3]) for flow in between)


@pytest.mark.parametrize("family", [0, 1])
def test_the_server_sees_the_clients_address(lab, way, server, family):
    address = (server.ip, server.ip6)[family]
    for to, port in ((address, 9080), (lab.vips[way][family], 80)):
        host = f"[{to}]" if ":" in to else to
        assert lab.client.run("curl", "-s", "--max-time", "5", f"http://{host}:{port}/") == (
            lab.client.ip, lab.client.ip6)[family]


def test_a_pod_that_calls_itself_comes_from_its_own_address(lab):
    for pod, app in ((lab.server, "plain"), (lab.secure, "encrypt")):
        assert pod.run("curl", "-s", "--max-time", "5", f"http://{lab.vips[app][0]}:80/") == pod.ip


# --- ends ----------------------------------------------------------------------------------------------------------------


def test_bytes_and_ends_are_the_same(lab, way, server):
    with lab.client.connect(server.ip, 8081, timeout=30) as connection:
        for chunk in chunks(30_000_000):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).decode() == digest(30_000_000)
    for _ in range(20):
        with lab.client.connect(server.ip, 8086) as connection:
            connection.sendall(b"request")
            connection.shutdown(socket.SHUT_WR)
            assert receive_all(connection) == b"late"
        with lab.client.connect(server.ip, 8083) as connection:
            assert connection.recv(100).startswith(b"220 ")
        with lab.client.connect(server.ip, 8084) as connection:
            connection.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_a_clients_reset_is_a_reset(lab, way, server):
    journal = lab.journals[server]
    seen = journal.output()
    connection = lab.client.connect(server.ip, 8085)
    connection.sendall(b"12345")
    wait(lambda: [one for one in connections(lab, server, "inbound") if one["bytesFromClient"] == 5], "the bytes")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert wait(lambda: journal.output()[len(seen):].strip(), "the end").startswith("reset")


def test_a_port_that_nobody_serves_is_told_as_through_a_tunnel(lab, way, server):
    own = is_reset(lab.client, server.ip, 4444)
    assert re.fullmatch(
        rf"http status: 503 Service Unavailable \(connection failed: {re.escape(server.ip)}:4444: .*\)",
        line_of(lab.client, direction="outbound", **{"src.addr": own})["error"])
    assert line_of(server, direction="inbound", **{"dst.workload": server.name, "bytes_sent": "0"})["error"].startswith(
        f"connection failed: {server.ip}:4444: ")


def test_the_proxys_own_ports_are_refused(lab, way, server):
    for port in (15001, 15006, 15008):
        assert lab.client.is_refused(server.ip, port)
    assert lab.client.echoes(server.ip, 8080)


def test_another_endpoint_is_tried_when_one_does_not_answer(lab):
    assert all(lab.client.echoes(lab.vips["pair"][0], 81) for _ in range(30))


# --- who may ---------------------------------------------------------------------------------------------------------------

SOURCES = {
    "by identity": lambda lab: f'principals: ["{lab.client.identity}"]',
    "by address": lambda lab: f'ipBlocks: ["{lab.client.ip}/32"]',
}


@pytest.mark.parametrize("by", SOURCES)
def test_a_deny_policy_refuses_whom_it_names(lab, way, server, by):
    lab.policy("rule", AUTHORIZATION.format(action="DENY", source=SOURCES[by](lab), dry_run="false"))
    wait(lambda: lab.client.is_refused(server.ip, 8080), "the client is refused")
    assert lab.other.echoes(server.ip, 8080)
    # The policy comes to each node for itself.
    wait(lambda: explain(lab, lab.client, f"{server.ip}:8080")["verdict"] == "denied", "the client's node knows as well")
    own = is_reset(lab.client, lab.vips[way][0], 81)
    why = "connection closed due to policy rejection: explicitly denied by: shop/rule"
    assert line_of(lab.client, direction="outbound", **{"src.addr": own})["error"] == f"http status: 401 Unauthorized ({why})"
    assert line_of(server, direction="inbound", error=why, **{"dst.workload": server.name})["src.workload"] == "client"


def test_an_allow_policy_admits_nobody_else(lab, way, server):
    lab.policy("rule", AUTHORIZATION.format(action="ALLOW", source=SOURCES["by identity"](lab), dry_run="false"))
    wait(lambda: lab.other.is_refused(server.ip, 8080), "the other is refused")
    assert all(lab.client.echoes(to, 8080) for to in (server.ip, server.ip6))
    assert lab.client.is_refused(server.ip, 8083), "a port that no rule names is nobody's"
    with lab.client.connect(server.ip, 8080) as connection:
        connection.sendall(b"x" * 777)
        assert receive(connection, 777) == b"x" * 777
    assert line_of(server, direction="inbound", bytes_recv="777", **{"dst.workload": server.name})["policy"] == "shop/rule"


def test_a_rehearsed_policy_refuses_nobody(lab, way, server):
    lab.policy("rule", AUTHORIZATION.format(action="DENY", source=SOURCES["by identity"](lab), dry_run="true"))
    wait(lambda: any("dry run" in step for step in explain(lab, lab.client, f"{server.ip}:8080")["inbound"]["steps"]),
         "the rehearsal")
    assert all(lab.client.echoes(server.ip, 8080) for _ in range(3))


def test_strict_is_met(lab, way, server):
    lab.policy("peers", PEERS)
    plain = lab.outsider(f"outsider-{way}")
    wait(lambda: refuses(plain, server.ip, 8080), "plaintext is refused")
    assert lab.client.echoes(server.ip, 8080) and lab.client.echoes(server.ip6, 8080)


def refuses(netns, address, port):
    try:
        with netns.inside():
            made = socket.create_connection((address, port), timeout=5)
        with made:
            made.sendall(b"x")
            return made.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


def test_a_policy_that_comes_ends_what_it_forbids(lab, way, server):
    with lab.client.connect(server.ip, 8080) as mine, lab.other.connect(server.ip, 8080) as others:
        for connection in (mine, others):
            connection.sendall(b"x")
            assert receive(connection, 1) == b"x"
        own = "%s:%d" % mine.getsockname()[:2]
        lab.policy("rule", AUTHORIZATION.format(action="DENY", source=SOURCES["by identity"](lab), dry_run="false"))
        mine.settimeout(20)
        with pytest.raises(ConnectionResetError):
            mine.recv(1)
        others.sendall(b"y")
        assert receive(others, 1) == b"y"
    # Cut by the destination's side; the source's sees a reset.
    assert "error" not in line_of(lab.client, direction="outbound", **{"src.addr": own})
    line_of(server, direction="inbound", error="connection closed due to policy change", **{"dst.workload": server.name})


# --- limits and leaving -------------------------------------------------------------------------------------------------------


def test_a_destination_that_leaves_the_mesh_ends_its_connections(lab):
    leaving = lab.pod("shop/leaving", node="a")
    leaving.serve()
    wait(leaving.captured, "it is captured")
    wait(lambda: lab.client.echoes(leaving.ip, 8080), "it is reached")
    with lab.client.connect(leaving.ip, 8080, timeout=20) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x" and protocol(lab, connection) == "SAME_NODE"
        own = "%s:%d" % connection.getsockname()[:2]
        leaving.labels["istio.io/dataplane-mode"] = "none"
        leaving.write()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert "error" not in line_of(lab.client, direction="outbound", **{"src.addr": own})
    line_of(leaving, direction="inbound", error="connection closed: the workload left the mesh")
    wait(lambda: lab.client.echoes(leaving.ip, 8080), "it is reached as what it is now")
    assert explain(lab, lab.client, f"{leaving.ip}:8080")["outbound"]["plan"] == "passthrough"


def test_a_connection_counts_for_both_pods(lab):
    with Lab(nodes="a") as small, contextlib.ExitStack() as stack:
        small.nodes["a"].daemon.command += ["--connections-per-pod", "10"]
        small.namespace("shop")
        first, second, server = (small.pod(f"shop/{name}", node="a") for name in ("first", "second", "server"))
        server.serve()
        small.start()

        def opens(pod):
            try:
                connection = stack.enter_context(pod.connect(server.ip, 8080))
                connection.sendall(b"x")
                return receive(connection, 1) == b"x"
            except ConnectionResetError:
                return False

        assert [opens(first) for _ in range(6)] == [True] * 6
        # The server has room for four more, though its second client has for ten.
        assert [opens(second) for _ in range(6)] == [True] * 4 + [False] * 2
        wait(lambda: [one for one in lines(server, direction="inbound") if "limit reached: 10 connections of this workload"
                      in one.get("error", "")], "the server's line")
        assert any("503" in one.get("error", "") for one in lines(second, direction="outbound"))
