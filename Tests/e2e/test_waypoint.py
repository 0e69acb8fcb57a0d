"""warren-waypoint between nodes of ours, for TCP services.

      pod shop/alice ─▶ node a ══ CONNECT VIP:80 ══▶ pod shop/wp-1 or wp-2 ══ CONNECT POD:8080 ══▶ node b ─▶ pod shop/server
"""

import contextlib
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys

import h2.events
import pytest
import warrenlab
from hbone import Refused, Tunnel
from meshca import MeshCA, spiffe
from warrenlab import Lab, digest, receive, receive_all, wait

USE = {"istio.io/use-waypoint": "wp"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    ca, directory = MeshCA(), tmp_path_factory.mktemp("waypoint")
    with Lab(nodes="ab", cacerts=ca.write(directory / "cacerts")) as lab:
        lab.ca, lab.files, lab.roots = ca, directory, directory / "cacerts" / "root-cert.pem"
        # The whole namespace uses the waypoint, which is in it: so it must not be sent through itself.
        lab.namespace("shop", **USE)
        lab.namespace("far")
        lab.alice = lab.pod("shop/alice", node="a")
        lab.bob = lab.pod("shop/bob", node="b")
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.plain = lab.pod("shop/plain", node="a", labels={"app": "plain", "istio.io/dataplane-mode": "none"})
        lab.distant = lab.pod("far/distant", node="a", labels={"app": "distant"})
        lab.ports = {80: 8080, 81: 8081, 82: 8082, 83: 8083, 84: 8084, 85: 8085, 86: 8086, 88: 8088}
        lab.vip, lab.vip6 = lab.service("shop/server", {"app": "server"}, lab.ports)
        lab.plain_vip, _ = lab.service("shop/plain", {"app": "plain"}, {80: 8080})
        lab.far_vip, _ = lab.service("far/distant", {"app": "distant"}, {80: 8080})
        lab.own_vip, _ = lab.service("shop/unserved", {"app": "server"}, {80: 8080}, {"istio.io/use-waypoint": "none"})
        lab.journal = lab.server.serve()
        lab.plain.serve()
        lab.distant.serve()
        lab.waypoint_ = lab.waypoint("shop/wp", nodes="ab")
        lab.start()
        lab.waypoint_.start()
        wait(lambda: lab.alice.echoes(lab.vip, 80), "the way through the waypoint is there")
        yield lab


@pytest.fixture
def waypoint(lab):
    """The waypoint with both of its replicas, whatever a test does to them."""
    yield lab.waypoint_.start()
    lab.waypoint_.start()
    for name in ("allow", "only-the-waypoint"):
        lab.withdraw(name)
    wait(lambda: not lab.status()["policies"], "no policy is left")
    wait(lambda: all(one.echoes(lab.vip, 80) for one in (lab.alice, lab.bob)), "everybody may connect again")


def policy(name, target, principals, action="ALLOW"):
    return (
        f"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\n  namespace: shop\n"
        f"spec:\n{target}  action: {action}\n  rules:\n  - from:\n    - source:\n        principals: {json.dumps(principals)}\n")


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", (4, 6))
def test_bytes_and_half_closes_go_through(lab, waypoint, family):
    vip = lab.vip if family == 4 else lab.vip6
    for pod in (lab.alice, lab.bob):
        assert pod.echoes(vip, 80)
    with lab.alice.connect(vip, 83) as connection:
        assert receive(connection, 26) == b"220 hello, I speak first\r\n"
        connection.sendall(b"and then I")
        assert receive(connection, 10) == b"and then I"
    count = 20_000_000
    with lab.alice.connect(vip, 81, timeout=30) as connection:
        for chunk in warrenlab.chunks(count):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).decode().strip() == digest(count)
    with lab.alice.connect(vip, 82, timeout=30) as connection:
        connection.sendall(b"%d\n" % count)
        assert hashlib.sha256(receive_all(connection)).hexdigest() == digest(count)
    with lab.alice.connect(vip, 86) as connection:
        connection.sendall(b"over to you")
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).endswith(b"late")


def test_resets_stay_resets(lab, waypoint):
    with lab.alice.connect(lab.vip, 84) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    connection = lab.alice.connect(lab.vip, 85)
    connection.sendall(b"12345")
    wait(lambda: any(one["streams"] for one in waypoint.status()["tunnels"] + waypoint.status(1)["tunnels"]), "it is open")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    before = lab.journal.output().count("reset 5")
    connection.close()
    wait(lambda: lab.journal.output().count("reset 5") > before, "the server has seen the reset")


def test_every_connection_is_told_of_on_its_way(lab, waypoint):
    message = warrenlab.nonce()
    with lab.alice.connect(lab.vip, 80) as connection:
        connection.sendall(message)
        assert receive(connection, len(message)) == message
        port = connection.getsockname()[1]
    # The client's node: to the waypoint, for the service's address.
    line = wait(lambda: re.search(rf".*src.addr={lab.alice.ip}:{port} .*", lab.nodes["a"].access_log()), "the client's line")[0]
    assert f'dst.hbone_addr={lab.vip}:80' in line and 'dst.workload="wp-' in line
    # The waypoint: from the client to the endpoint, of the service.
    line = wait(lambda: re.search(rf'.*src.workload="alice".*direction="waypoint".*bytes_sent={len(message)} bytes_recv={len(message)}.*',
                                  waypoint.access_log()), "the waypoint's line")[0]
    for text in (f'src.identity="spiffe://{lab.alice.identity}"', f"dst.addr={lab.server.ip}:15008",
                 'src.workload="alice"', 'dst.service="server.shop.svc.cluster.local"',
                 f'dst.identity="spiffe://{lab.server.identity}"'):
        assert text in line, line
    # The server's node: from the waypoint.
    wait(lambda: re.search(rf'src.identity="spiffe://{waypoint.identity}" .*dst.hbone_addr={lab.server.ip}:8080',
                           lab.nodes["b"].access_log()), "the server's line")
    metrics = warrenlab.ask(waypoint.socket(), "/metrics")[1] + warrenlab.ask(waypoint.socket(1), "/metrics")[1]
    assert re.search(r'istio_tcp_connections_opened_total\{reporter="waypoint",source_workload="alice".*'
                     r'destination_service="server.shop.svc.cluster.local".*destination_workload="server"', metrics), metrics
    status = waypoint.status()
    assert status["waypoint"] == "shop/wp" and status["pod"] == "wp-1" and status["ready"]
    assert "shop/server.shop.svc.cluster.local" in status["services"]
    assert not any("unserved" in one or "/wp." in one for one in status["services"])


def test_an_endpoint_outside_of_the_mesh_is_reached_plainly(lab, waypoint):
    assert lab.alice.echoes(lab.plain_vip, 80)


def test_what_opts_out_goes_past_it(lab, waypoint):
    assert lab.alice.echoes(lab.own_vip, 80)
    assert f"{lab.own_vip}:80" not in waypoint.access_log()


def test_a_reader_that_stops_holds_up_nobody_else(lab, waypoint):
    """Its bytes wait within bounds, where they came from for the most part."""
    def memory():
        return max(int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{one.pid}/status").read())[1]) for one in waypoint.daemons)

    before, sent = memory(), 0
    with lab.alice.connect(lab.vip, 88, timeout=2) as stuck:
        block = bytes(1 << 20)
        with pytest.raises(TimeoutError):
            while sent < 256 << 20:
                sent += stuck.send(block)
        assert sent < 256 << 20
        assert all(lab.alice.echoes(lab.vip, 80) for _ in range(20))
        assert memory() - before < 32 << 10, "KiB"


def test_an_endpoint_that_does_not_answer_is_passed_over(lab, waypoint):
    """Before the first byte; each of the two gets its share as long as it is there."""
    vip, _ = lab.service("shop/pair", {"app": "pair"}, {80: 8080})
    one = lab.pod("shop/one", node="a", labels={"app": "pair"})
    other = lab.pod("shop/other", node="b", labels={"app": "pair"})
    one.serve()
    lab.settle()
    wait(lambda: lab.alice.echoes(vip, 80), "the service is there")
    # Nobody listens at the other: its node says 503, and the waypoint asks the one.
    assert all(lab.alice.echoes(vip, 80) for _ in range(20))
    program = other.serve()
    reached = lambda pod: f"dst.addr={pod.ip}:15008 dst.hbone_addr={vip}:80" in waypoint.access_log()
    wait(lambda: lab.alice.echoes(vip, 80) and reached(one) and reached(other), "both are chosen")
    program.kill()
    assert all(lab.alice.echoes(vip, 80) for _ in range(20))


# --- who may --------------------------------------------------------------------------------------------------------


def test_a_server_may_admit_its_waypoint_alone(lab, waypoint):
    lab.policy("only-the-waypoint", policy(
        "only-the-waypoint", "  selector:\n    matchLabels:\n      app: server\n", [waypoint.identity]))
    wait(lambda: lab.alice.is_refused(lab.server.ip, 8080), "the way around is closed")
    assert all(lab.alice.echoes(lab.vip, 80) for _ in range(5))
    assert lab.bob.is_refused(lab.own_vip, 80)


def test_a_policy_of_the_waypoint_admits_whom_it_names(lab, waypoint):
    with lab.bob.connect(lab.vip, 80) as open_before:
        open_before.sendall(b"hello")
        assert receive(open_before, 5) == b"hello"
        lab.policy("allow", policy(
            "allow", "  targetRefs:\n  - {group: gateway.networking.k8s.io, kind: Gateway, name: wp}\n", [lab.alice.identity]))
        wait(lambda: lab.bob.is_refused(lab.vip, 80), "bob is refused")
        with contextlib.suppress(ConnectionResetError):
            assert open_before.recv(1) == b"", "what was open is asked about again"
    assert all(lab.alice.echoes(lab.vip, 80) for _ in range(5))
    assert "http status: 401" in lab.nodes["b"].access_log()
    said = subprocess.run(
        [warrenlab.BINARIES / "warren", "explain", "shop/bob", f"{lab.vip}:80", "--run-directory", lab.run_directory],
        capture_output=True, text=True).stdout
    assert ": denied" in said.splitlines()[0] and "waypoint: reject" in said and "none allowed" in said, said
    # It is the waypoint's, not the server's.
    assert lab.bob.echoes(lab.server.ip, 8080)


def test_what_a_new_policy_admits_stays_open(lab, waypoint):
    """Attached, a policy counts before it has arrived: whom it admits must not be cut off in between."""
    rules = "  targetRefs:\n  - {group: gateway.networking.k8s.io, kind: Gateway, name: wp}\n"
    with contextlib.ExitStack() as stack:
        admitted = [stack.enter_context(lab.alice.connect(lab.vip, 80)) for _ in range(8)]
        for round in range(5):
            lab.policy("allow", policy("allow", rules, [lab.alice.identity]))
            wait(lambda: lab.bob.is_refused(lab.vip, 80), "bob is refused")
            for connection in admitted:
                connection.sendall(b"hello")
                assert receive(connection, 5) == b"hello"
            lab.withdraw("allow")
            wait(lambda: lab.bob.echoes(lab.vip, 80), "bob may connect again")


def test_what_goes_around_a_strict_waypoint_is_refused(lab, waypoint):
    """`warren.dev/waypoint: strict` on a service: its port takes what comes through the waypoint, and nothing else."""
    def is_answered(pod, to, port):
        with contextlib.suppress(OSError), pod.connect(to, port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: closed\r\nConnection: close\r\n\r\n")
            return receive_all(connection).startswith(b"HTTP/1.1 200")
        return False

    assert is_answered(lab.alice, lab.server.ip, 9080) and is_answered(lab.plain, lab.server.ip, 9080)
    vip, _ = lab.service("shop/closed", {"app": "server"}, {90: 9080}, {"warren.dev/waypoint": "strict"})
    try:
        # From another node, from the server's own, and without an identity.
        for pod in (lab.alice, lab.bob, lab.plain):
            wait(lambda pod=pod: not is_answered(pod, lab.server.ip, 9080), f"the way around is closed for {pod.name}")
        wait(lambda: is_answered(lab.alice, vip, 90), "the way through is open")
        assert is_answered(lab.bob, vip, 90)
        assert lab.alice.echoes(lab.server.ip, 8080), "a port that nobody asked for is as it was"
        assert "strict_waypoint_wp_9080" in lab.nodes["b"].access_log()
        said = subprocess.run(
            [warrenlab.BINARIES / "warren", "explain", "shop/alice", f"{lab.server.ip}:9080", "--run-directory", lab.run_directory],
            capture_output=True, text=True).stdout
        assert "deny policy shop/strict_waypoint_wp_9080 matches" in said, said
    finally:
        lab.remove("service-shop-closed.yaml")


def test_no_open_proxy(lab, waypoint):
    certificate = lab.ca.files(lab.files, "alice", spiffe("shop", "alice"))
    pod = waypoint.pods[0]
    # Not out of a captured pod: its node would carry the tunnel itself to what it takes for an application's port.
    with Tunnel(lab.hub, pod.ip, certificate, lab.roots) as tunnel:
        assert tunnel.alternatives == [f"spiffe://{waypoint.identity}"]
        for authority in (f"{lab.vip}:80", "server.shop.svc.cluster.local:80"):
            stream, status, _ = tunnel.connect(authority)
            assert status == 200 and tunnel.echoes(stream), authority
        # All at once: before it refuses what it does not serve it waits for configuration that may be on its way.
        foreign = [
            f"{lab.far_vip}:80", "distant.far.svc.cluster.local:80", f"{lab.own_vip}:80", f"{lab.server.ip}:8080",
            f"{lab.distant.ip}:8080", f"{pod.ip}:15020", f"{pod.ip}:15008", "127.0.0.1:15020", "[::1]:15020",
            "169.254.169.254:80", f"{lab.control_ip}:15012", "example.org:443", "wp.shop.svc.cluster.local:15008"]
        streams = {}
        for authority in foreign:
            stream = tunnel.machine.get_next_available_stream_id()
            tunnel.machine.send_headers(stream, [(":method", "CONNECT"), (":authority", authority)])
            streams[stream] = authority
        tunnel.flush()
        for stream, authority in streams.items():
            answer = dict(tunnel.until(h2.events.ResponseReceived, stream=stream).headers)
            assert answer[":status"] == "400", authority
            assert answer["x-warren-reason"] == f"{authority} is not served by this waypoint"
        assert tunnel.status("nonsense") == 400
        assert tunnel.status(f"{lab.vip}:7") == 503, "a port that the service does not have"
        assert tunnel.request([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")], end=True)[1] == 400
    # From a captured pod neither.
    assert lab.alice.is_refused(pod.ip, 15008) and lab.alice.is_refused(pod.ip, 15020)


def test_strangers_do_not_get_in(lab, waypoint):
    stranger = MeshCA("stranger")
    for certificate in (None, stranger.files(lab.files, "stranger", spiffe("shop", "alice"))):
        with pytest.raises(Refused):
            with Tunnel(lab.hub, waypoint.pods[0].ip, certificate, lab.roots) as tunnel:
                tunnel.status(f"{lab.vip}:80")


def test_nobody_else_becomes_the_waypoint(lab, waypoint):
    """The join token of a node does not make a waypoint, nor the other way around."""
    for name, arguments in (
            ("as-waypoint", ["warren-waypoint", "--name", "wp", "--namespace", "shop", "--token-file", lab.state / "tokens" / "node-a"]),
            ("as-node", ["warren-node", "--node", "node-a", "--token-file", lab.state / "tokens" / "waypoint-shop_wp",
                         "--admin-listen", "none"])):
        netns = waypoint.pods[0].netns if name == "as-waypoint" else lab.hub
        program = lab.program(name, netns, [
            warrenlab.BINARIES / arguments[0], *arguments[1:], "--control", f"{lab.control_ip}:15012",
            "--ca-root", lab.state / "root-cert.pem", "--run-directory", lab.directory / name,
            "--metrics-listen", "none", "--readiness-listen", "none"]).start()
        # The CA gives the caller what the caller is, whatever it called itself; that is not what it asked for.
        program.wait_for("not usable", timeout=20)
        program.stop()


def test_one_client_keeps_no_other_out(lab, waypoint):
    small = lab.waypoint("shop/small", nodes="b", options=["--workers", "1", "--connections", "8"]).start()
    vip, _ = lab.service("shop/tight", {"app": "server"}, {80: 8080}, {"istio.io/use-waypoint": "small"})
    wait(lambda: lab.alice.echoes(vip, 80) and f"{vip}:80" in small.access_log(), "the service is reached through it")
    wait(lambda: small.status()["connections"] == 0, "the attempts are over")
    held = [lab.alice.connect(vip, 80) for _ in range(4)]
    for connection in held:
        connection.sendall(b"1")
        assert receive(connection, 1) == b"1"
    assert lab.alice.is_refused(vip, 80)
    assert lab.bob.echoes(vip, 80)
    assert "limit reached: 4 connections of this client" in small.access_log()
    assert re.search(r'warren_limit_refusals_total\{budget="connections"\} [1-9]', warrenlab.ask(small.socket(), "/metrics")[1])
    for connection in held:
        connection.close()
    wait(lambda: lab.alice.echoes(vip, 80), "what was given back can be had again")
    small.daemons[0].stop()


# --- coming and going ---------------------------------------------------------------------------------------------------


def test_one_replica_is_enough(lab, waypoint):
    for index in (0, 1):
        waypoint.daemons[index].kill()
        assert all(lab.alice.echoes(lab.vip, 80) and lab.bob.echoes(lab.vip, 80) for _ in range(10))
        waypoint.start()


def test_without_its_waypoint_a_service_is_closed(lab, waypoint):
    for daemon in waypoint.daemons:
        assert daemon.stop() == 0
    assert lab.alice.is_refused(lab.vip, 80)
    assert lab.alice.echoes(lab.own_vip, 80), "what does not use it goes on"
    wait(lambda: re.search(rf"dst.hbone_addr={lab.vip}:80 .*error=\"connection failed: .*refused", lab.nodes["a"].access_log()),
         "the reason is in the log")
    waypoint.start()
    wait(lambda: lab.alice.echoes(lab.vip, 80), "it is open again")


def test_stopping_a_replica_fails_no_connection(lab, waypoint):
    for index in (0, 1):
        program = lab.alice.start("burst", sys.executable, warrenlab.TRAFFIC, "burst", lab.vip, "80", "3000", "8")
        wait(lambda: waypoint.status(index)["connections"], "connections come and go")
        assert waypoint.daemons[index].stop() == 0
        assert program.is_running, "it was stopped while they did"
        program.process.wait(60)
        result = json.loads(program.out.read_text())
        assert result["ok"] == 3000 and result["failed"] == 0, result
        waypoint.start()


def test_an_open_connection_has_until_the_deadline(lab, waypoint):
    held = [lab.alice.connect(lab.vip, 80) for _ in range(8)]
    for connection in held:
        connection.sendall(b"1")
        assert receive(connection, 1) == b"1"
    waypoint.daemons[0].process.send_signal(signal.SIGTERM)
    wait(lambda: waypoint.daemons[0].output().count("draining"), "it drains")
    for connection in held:
        connection.sendall(b"2")
        assert receive(connection, 1) == b"2", "what is under way goes on"
        connection.close()
    assert waypoint.daemons[0].process.wait(10) == 0


def test_it_goes_on_with_what_it_knows_while_control_is_away(lab, waypoint):
    lab.control.stop()
    try:
        assert all(lab.alice.echoes(lab.vip, 80) for _ in range(5))
        # Over restarts too, in order and not: state and certificates are on the tmpfs.
        for daemon, end in zip(waypoint.daemons, (signal.SIGTERM, signal.SIGKILL)):
            daemon.stop(end)
        waypoint.start()
        assert all(lab.alice.echoes(lab.vip, 80) for _ in range(5))
    finally:
        lab.start_control()
    wait(lambda: waypoint.status()["control"]["connected"], "it has found the control component again")


# --- whose waypoint -------------------------------------------------------------------------------------------------------


def test_another_namespace_may_use_it(lab, waypoint):
    """`istio.io/use-waypoint-namespace`, as far as the waypoint's listener lets it."""
    gateway, service = lab.config / waypoint.file, lab.config / "service-far-distant.yaml"
    closed, plain = gateway.read_text(), service.read_text()
    labels = json.dumps({**USE, "istio.io/use-waypoint-namespace": "shop"})
    try:
        lab.write(waypoint.file, closed.replace("from: Same", "from: All"))
        lab.write(service.name, plain.replace("  namespace: far\n", f"  namespace: far\n  labels: {labels}\n"))
        through = lambda: f"{lab.far_vip}:80" in waypoint.access_log()
        wait(lambda: lab.alice.echoes(lab.far_vip, 80) and through(), "far/distant is reached through the waypoint")
        assert lab.distant.echoes(lab.far_vip, 80), "and by itself"
    finally:
        lab.write(service.name, plain)
        lab.write(waypoint.file, closed)


def test_a_waypoint_for_workloads_too(lab, waypoint):
    gateway = lab.config / waypoint.file
    closed = gateway.read_text()
    try:
        lab.write(waypoint.file, closed.replace("labels: {}", 'labels: {"istio.io/waypoint-for": "all"}'))
        through = lambda: f"dst.hbone_addr={lab.server.ip}:8080" in waypoint.access_log()
        wait(lambda: lab.alice.echoes(lab.server.ip, 8080) and through(), "pods are reached through the waypoint")
        assert lab.alice.echoes(lab.vip, 80), "and services still are, once"
    finally:
        lab.write(waypoint.file, closed)
