"""The tunnel port, spoken to by a stranger's HTTP/2 and TLS: who gets in, and what each request is answered."""

import contextlib
import resource
import socket
import ssl

import h2.events
import h2.settings
import pytest
from hbone import Refused, Tunnel
from meshca import MeshCA, spiffe
from warrenlab import Lab, wait

FRIEND = spiffe("shop", "friend")


@pytest.fixture(scope="module")
def ca():
    return MeshCA()


@pytest.fixture(scope="module")
def lab(ca, tmp_path_factory):
    directory = tmp_path_factory.mktemp("cacerts")
    with Lab(nodes="a", cacerts=ca.write(directory)) as lab:
        lab.roots = directory / "root-cert.pem"
        lab.namespace("shop")
        lab.server = lab.pod("shop/server", node="a", labels={"app": "server"})
        lab.neighbour = lab.pod("shop/neighbour", node="a")
        lab.vip, _ = lab.service("shop/server", {"app": "server"}, {80: 8080})
        lab.server.serve()
        lab.neighbour.serve()
        lab.peer = lab.outsider("peer")
        yield lab.start()


@pytest.fixture
def dial(lab, ca, tmp_path):
    """Opens a tunnel with a certificate of these URIs, or of these options."""
    numbers = iter(range(100))

    def open_(*uris, address=lab.server.ip, certificate=True, alpn=("h2",), maximum=None, **options):
        files = ca.files(tmp_path, next(numbers), *(uris or (FRIEND,)), **options) if certificate else None
        return Tunnel(lab.peer, address, files, lab.roots, alpn=alpn, maximum=maximum)

    return open_


# --- who gets in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["ip", "ip6"])
def test_a_peer_of_the_mesh_gets_in(lab, dial, address):
    to = getattr(lab.server, address)
    authority = f"{to}:8080" if address == "ip" else f"[{to}]:8080"
    with dial(address=to) as tunnel:
        assert tunnel.alternatives == [spiffe("shop", "server")]
        assert tunnel.socket.version() == "TLSv1.3"
        assert tunnel.socket.selected_alpn_protocol() == "h2"
        stream, status, headers = tunnel.connect(authority)
        assert status == 200
        assert "k8s.namespace.name=shop" in headers["baggage"]
        assert tunnel.echoes(stream)


BAD_CERTIFICATES = {
    "none": dict(certificate=False),
    "another trust domain": dict(uris=[spiffe("shop", "friend", "elsewhere.example")]),
    "expired": dict(begins=-48, ends=-24),
    "not valid yet": dict(begins=24, ends=48),
    "of another authority": dict(by=MeshCA("somebody else")),
    "no identity": dict(uris=[]),
    "no SPIFFE identity": dict(uris=["https://cluster.local/ns/shop/sa/friend"]),
    "a malformed identity": dict(uris=["spiffe://cluster.local/ns/shop/friend"]),
    "an identity with more parts": dict(uris=[FRIEND + "/more"]),
    "two identities": dict(uris=[FRIEND, spiffe("shop", "other")]),
    "for servers only": dict(usages=["server"]),
}


def tls_errors(lab):
    return [line for line in lab.nodes["a"].access_log().splitlines()
            if f"src.addr={lab.peer.addresses[0]}:" in line and "tls error: " in line]


@pytest.mark.parametrize("flaw", list(BAD_CERTIFICATES))
def test_a_peer_with_a_bad_certificate_gets_no_answer(lab, ca, tmp_path, flaw):
    options = dict(BAD_CERTIFICATES[flaw])
    files = None
    if options.pop("certificate", True):
        files = ca.files(tmp_path, "peer", *options.pop("uris", [FRIEND]), **options)
    before = len(tls_errors(lab))
    # In TLS 1.3 the client is done before the server has seen its certificate: the end comes with the first answer.
    with pytest.raises(Refused):
        with Tunnel(lab.peer, lab.server.ip, files, lab.roots) as tunnel:
            tunnel.status(f"{lab.server.ip}:8080")
    wait(lambda: len(tls_errors(lab)) > before, "a line of the log that says why")


def test_the_server_is_refused_without_the_mesh_root(lab, ca, tmp_path, dial):
    other = MeshCA("somebody else").write(tmp_path / "other") / "root-cert.pem"
    with pytest.raises(Refused, match="certificate verify failed"):
        Tunnel(lab.peer, lab.server.ip, ca.files(tmp_path, "peer", FRIEND), other)


@pytest.mark.parametrize("alpn", [("http/1.1",), (), ("h3", "http/1.1")])
def test_only_http_2_is_spoken(lab, dial, alpn):
    with pytest.raises(Refused):
        with dial(alpn=alpn) as tunnel:
            tunnel.status(f"{lab.server.ip}:8080")


def test_only_tls_1_3_is_spoken(lab, dial):
    with pytest.raises(Refused):
        dial(maximum=ssl.TLSVersion.TLSv1_2)


# --- what a request is answered --------------------------------------------------------------------------------------


def test_settings_are_those_that_peers_expect(dial):
    with dial() as tunnel:
        tunnel.until(h2.events.RemoteSettingsChanged)
        settings = tunnel.machine.remote_settings
        assert settings.initial_window_size == 4_194_304
        assert settings.max_frame_size == 1_048_576
        assert settings.max_concurrent_streams == 200
        assert settings.max_header_list_size == 65_536
        if tunnel.machine.outbound_flow_control_window < 16_777_216:
            tunnel.until(h2.events.WindowUpdated)
        assert tunnel.machine.outbound_flow_control_window == 16_777_216


def test_pings_are_answered(dial):
    with dial() as tunnel:
        tunnel.machine.ping(b"8 bytes!")
        tunnel.flush()
        assert tunnel.until(h2.events.PingAckReceived).ping_data == b"8 bytes!"


def test_answers_by_authority(lab, dial):
    own, other = lab.server.ip, lab.neighbour.ip
    with dial() as tunnel:
        for authority, status in {
                f"{own}:8080": 200,
                "server.shop.svc.cluster.local:80": 200,
                # Not an address and a port.
                "nonsense": 400, own: 400, f"{own}:": 400, f"{own}:65536": 400, f"{own}:80x": 400,
                ":8080": 400, f"[{own}]:8080": 400, "[::1:8080": 400,
                # Somebody else's: no open proxy.
                f"{other}:8080": 400, "127.0.0.1:8080": 400, "[::1]:8080": 400, "169.254.169.254:80": 400,
                f"[::ffff:{other}]:8080": 400, "0.0.0.0:8080": 400, lab.vip + ":80": 400,
                # Ourselves again, and nobody.
                f"{own}:15001": 503, f"{own}:15006": 503, f"{own}:15008": 503, f"{own}:4444": 503,
                "server.shop.svc.cluster.local:81": 503}.items():
            assert tunnel.status(authority) == status, authority
        # The tunnel has survived all of that.
        stream, status, _ = tunnel.connect(f"{own}:8080")
        assert status == 200 and tunnel.echoes(stream)
    for reason in ("invalid CONNECT address", f"ip mismatch: {other} != {own}", "connection failed", "recursive call"):
        wait(lambda: reason in lab.nodes["a"].access_log(), f"a line that says {reason!r}")


def test_only_connect_is_served(lab, dial):
    with dial() as tunnel:
        for method in ("GET", "POST", "OPTIONS"):
            _, status, _ = tunnel.request([
                (":method", method), (":scheme", "https"), (":path", "/"), (":authority", f"{lab.server.ip}:8080")],
                end=True)
            assert status == 400, method
            wait(lambda: f"expected method CONNECT, got {method}" in lab.nodes["a"].access_log(), "a line that says why")


def test_handshakes_that_are_never_finished_keep_nobody_out(lab, dial):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    try:
        with contextlib.ExitStack() as stack:
            # More than the tunnels that one workload may have.
            with lab.peer.inside():
                for _ in range(5_000):
                    stack.enter_context(socket.create_connection((lab.server.ip, 15008), timeout=10))
            with dial() as tunnel:
                stream, status, _ = tunnel.connect(f"{lab.server.ip}:8080")
                assert status == 200 and tunnel.echoes(stream)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_headers_of_other_proxies_are_no_obstacle(lab, dial):
    with dial() as tunnel:
        stream, status, _ = tunnel.connect(
            f"{lab.server.ip}:8080", baggage="k8s.cluster.name=x,,k8s.pod.name=,=,junk", forwarded='for="[::1]:1";host=x',
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", **{"x-anything": "\u00e4" * 100})
        assert status == 200 and tunnel.echoes(stream)


def test_a_stream_is_half_closed_and_reset_on_its_own(lab, dial):
    with dial() as tunnel:
        stream, status, _ = tunnel.connect(f"{lab.server.ip}:8086")
        assert status == 200
        other, _, _ = tunnel.connect(f"{lab.server.ip}:8080")
        tunnel.send(stream, b"all I have", end=True)
        assert tunnel.receive(stream, 100) == b"late"
        resetting, _, _ = tunnel.connect(f"{lab.server.ip}:8084")
        tunnel.send(resetting, b"x")
        tunnel.until(h2.events.StreamReset, stream=resetting)
        tunnel.machine.reset_stream(tunnel.connect(f"{lab.server.ip}:8080")[0])
        tunnel.flush()
        assert tunnel.echoes(other)


def test_a_hundred_streams_share_a_tunnel(lab, dial):
    with dial() as tunnel:
        streams = [tunnel.connect(f"{lab.server.ip}:8080")[0] for _ in range(100)]
        assert all(tunnel.echoes(stream) for stream in reversed(streams))


def test_who_a_policy_does_not_name_is_answered_401(lab, dial):
    lab.policy("allow", (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: allow\n  namespace: shop\n"
        "spec:\n  rules:\n  - from:\n    - source:\n        principals: [\"cluster.local/ns/shop/sa/friend\"]\n"))
    try:
        with dial() as friend, dial(spiffe("shop", "stranger")) as stranger:
            wait(lambda: stranger.status(f"{lab.server.ip}:8080") == 401, "the stranger is refused")
            stream, status, _ = friend.connect(f"{lab.server.ip}:8080")
            assert status == 200 and friend.echoes(stream)
    finally:
        lab.withdraw("allow")
    with dial(spiffe("shop", "stranger")) as stranger:
        wait(lambda: stranger.status(f"{lab.server.ip}:8080") == 200, "the stranger is let in again")


def test_a_deny_resets_the_streams_of_whom_it_names(lab, dial):
    with dial() as friend, dial(spiffe("shop", "stranger")) as stranger:
        open_, _, _ = stranger.connect(f"{lab.server.ip}:8080")
        kept, _, _ = friend.connect(f"{lab.server.ip}:8080")
        assert stranger.echoes(open_) and friend.echoes(kept)
        lab.policy("deny", (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: deny\n  namespace: shop\n"
            "spec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n"
            "        principals: [\"cluster.local/ns/shop/sa/stranger\"]\n"))
        try:
            stranger.until(h2.events.StreamReset, h2.events.StreamEnded, stream=open_)
            assert friend.echoes(kept)
        finally:
            lab.withdraw("deny")


def test_content_before_the_answer_goes_to_the_application_that_the_answer_names(lab, dial):
    message = b"sent before anybody said yes"
    with dial() as tunnel:
        for authority, expected in ((f"{lab.server.ip}:8080", 200), (f"{lab.neighbour.ip}:8080", 400),
                                    (f"{lab.server.ip}:1", 503), (f"{lab.server.ip}:8080", 200)):
            stream = tunnel.machine.get_next_available_stream_id()
            tunnel.machine.send_headers(stream, [(":method", "CONNECT"), (":authority", authority)])
            tunnel.machine.send_data(stream, message)
            tunnel.flush()
            answer = tunnel.until(h2.events.ResponseReceived, stream=stream)
            assert int(dict(answer.headers)[":status"]) == expected
            if expected == 200:
                assert tunnel.receive(stream, len(message)) == message
