"""Envoy at both ends as Istio's own ambient proxies work: captured connections become CONNECT streams of HTTP/2 over mutual TLS.

      client's pod: nftables ─▶ Envoy: original_dst, tunneling_config ══ TLS 1.3, HTTP/2 CONNECT ══▶ :15008 Envoy ─▶ 127.0.0.1

Kept out of its way: no access log, no policy, no admin port, limits on streams and connections beyond what is used.
Held to the handshake that the others have: X25519 alone (its own default adds ML-KEM, for more) and no resumption (its own default resumes
some, for less).
"""

import json
import shutil

from lab.mesh import ROOT, Failure
from lab.topology import NETNS

from .certificates import CLIENT, SERVER
from .load import BULK, HTTP
from .stage import Contender, pair, redirect

OUTBOUND, TUNNEL = 15001, 15008
TYPE = "type.googleapis.com/envoy.extensions."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANY = 1_000_000
MEBIBYTE = 1 << 20
# Variants by what a stream may have under way; a connection has 16 MiB in either. The better one counts, measure by measure.
STREAM_WINDOWS = {"envoy-hbone/16MiB": 16 * MEBIBYTE, "envoy-hbone/4MiB": 4 * MEBIBYTE}


def program():
    found = shutil.which("envoy", path=ROOT / ".venv/bin")
    if not found:
        raise Failure("no Envoy in .venv: Tools/install bench")
    return found


def http2(stream_window):
    return {"max_concurrent_streams": MANY, "initial_stream_window_size": stream_window,
            "initial_connection_window_size": 16 * MEBIBYTE}


def tls(certificates, name, expected):
    return {"alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
                           "ecdh_curves": ["X25519"]},
            "tls_certificates": [{"certificate_chain": {"filename": str(certificates.chain(name))},
                                  "private_key": {"filename": str(certificates.key(name))}}],
            "validation_context": {
                "trusted_ca": {"filename": str(certificates.root)},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": expected}}]}}


def cluster(name, address, port, **more):
    limits = {"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": address, "port_value": port}}}}]}]}, **more}


def listener(port, filters, **more):
    chain = {"filters": filters, **({"transport_socket": more.pop("transport_socket")} if "transport_socket" in more else {})}
    return {"name": f"on-{port}", "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
            "tcp_backlog_size": 4096, "filter_chains": [chain], **more}


def client(certificates, server_address, stream_window, neighbour=None, owns_tunnels=False):
    """The outbound end: whatever was captured goes through a tunnel, under the address that it was for. In a neighbour's namespace
    the same process listens too. A tunnel takes one stream where each connection shall have its own."""
    once = {"common_http_protocol_options": {"max_requests_per_connection": 1}} if owns_tunnels else {}
    tunnel = cluster(
        "tunnel", server_address, TUNNEL,
        typed_extension_protocol_options={HTTP_OPTIONS: {
            "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
            "explicit_http_config": {"http2_protocol_options": http2(stream_window)}, **once}},
        transport_socket={"name": "tls", "typed_config": {
            "@type": TYPE + "transport_sockets.tls.v3.UpstreamTlsContext", "max_session_keys": 0,
            "common_tls_context": tls(certificates, "client", SERVER)}})
    proxy = {"name": "tcp", "typed_config": {
        "@type": TYPE + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "outbound", "cluster": "tunnel",
        "tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"}}}
    original = {"name": "original_dst", "typed_config": {
        "@type": TYPE + "filters.listener.original_dst.v3.OriginalDst"}}
    listeners = [listener(OUTBOUND, [proxy], listener_filters=[original])]
    if neighbour:
        there = listener(OUTBOUND, [proxy], listener_filters=[original], name="neighbour")
        there["address"]["socket_address"]["network_namespace_filepath"] = str(NETNS / neighbour.namespace)
        listeners.append(there)
    return configuration(listeners, [tunnel])


def server(certificates, own_address, stream_window):
    """The inbound end: ends tunnels and connects to the server beside it."""
    hosts = [{"name": f"to-{port}", "domains": [f"{own_address}:{port}"], "routes": [{
        "match": {"connect_matcher": {}},
        "route": {"cluster": f"app-{port}", "timeout": "0s",
                  "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]} for port in (HTTP, BULK)]
    manager = {"name": "http", "typed_config": {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound", "codec_type": "HTTP2", "stream_idle_timeout": "0s",
        "http2_protocol_options": {"allow_connect": True, **http2(stream_window)},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http_filters": [{"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": hosts}}}
    transport = {"name": "tls", "typed_config": {
        "@type": TYPE + "transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
        "disable_stateless_session_resumption": True,
        "common_tls_context": tls(certificates, "server", CLIENT)}}
    return configuration([listener(TUNNEL, [manager], transport_socket=transport)],
                         [cluster(f"app-{port}", "127.0.0.1", port) for port in (HTTP, BULK)])


def configuration(listeners, clusters):
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


class EnvoyPair(Contender):
    def __init__(self, name, host, has_neighbours):
        window = STREAM_WINDOWS[name]
        ends = pair(f"envoy{window >> 20}", host)
        # Its end in the server's pod is a process of that pod alone, so the neighbour's bulk goes there too.
        neighbours = (pair(f"eneigh{window >> 20}", host + 100)[0], ends[1]) if has_neighbours else ()
        super().__init__(name, f"Envoy at both ends, one worker each; windows 16 MiB a connection, {window >> 20} MiB a stream",
                         *ends, handshakes=True, neighbours=neighbours)
        self.window = window

    def start(self, programs, certificates, owns_tunnels):
        neighbour = self.neighbours[0] if self.neighbours else None
        ends = (("client", self.client, OUTBOUND, client(certificates, self.address, self.window, neighbour, owns_tunnels)),
                ("server", self.server, TUNNEL, server(certificates, self.address, self.window)))
        for side, pod, port, content in ends:
            file = programs.directory / f"{pod.name}-envoy.json"
            file.write_text(json.dumps(content))
            child = programs.start(pod, f"{pod.name}-envoy", program(), "-c", file, "--concurrency", "1",
                                   "--disable-hot-restart", "-l", "warning")
            self.pids[side] = [child.pid]
            programs.wait(pod, port, child)
        for pod in filter(None, (self.client, neighbour)):
            redirect(pod, (HTTP, OUTBOUND), (BULK, OUTBOUND))
