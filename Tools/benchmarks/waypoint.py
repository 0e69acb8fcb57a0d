"""What a waypoint costs: warren-waypoint, and Envoy configured as Istio configures one, in turn in the same place.

      pod client ─▶ warren-node ══ HBONE ══▶ the waypoint ══ HBONE ══▶ warren-node ─▶ pod server: nginx, HTTP/1.1 and h2c

Both have one worker, an access log to a file, the same 100 routes and 50 destination rules' clusters. CPU and memory are the waypoint's alone.
"""

import contextlib
import json
import pathlib
import re
import statistics
import sys
import tempfile

from lab.mesh import ROOT, Failure

from . import envoy
from .figures import percentile
from .load import CONNECTIONS
from .measures import RATE
from .usage import cpu_seconds, resident_kib, settled

sys.path.insert(0, str(ROOT / "Tests/e2e"))
from meshca import MeshCA, spiffe  # noqa: E402
from warrenlab import Lab, wait  # noqa: E402

NAMES = ("waypoint", "envoy-waypoint")
ROUTES, RULES = 100, 50
HTTP, GRPC = 9080, 8080
TYPE = envoy.TYPE
NGINX = """daemon off; worker_processes 1; pid {0}/nginx.pid; error_log stderr error; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0};
uwsgi_temp_path {0}; scgi_temp_path {0}; default_type application/grpc;
server {{ listen 9080; location / {{ return 200 "{1}"; }} }}
server {{ listen 8080 http2; location / {{ add_trailer grpc-status 0; return 200 "{1}"; }} }} }}
"""
# (key, what, unit, whether more is better, what Warren is to reach against Envoy)
MEASURES = (
    ("http-rate", "HTTP/1.1, 64 connections", "1/s", True, 1.5), ("http-cpu", "HTTP/1.1: CPU of the waypoint", "µs each", False, 0.65),
    ("grpc-rate", "gRPC, 64 streams", "1/s", True, 1.5), ("grpc-cpu", "gRPC: CPU of the waypoint", "µs each", False, 0.65),
    ("p50", f"p50 at {RATE:,}/s in bursts of 64", "µs", False, 0.7), ("p99", f"p99 at {RATE:,}/s in bursts of 64", "µs", False, 1.0),
    ("memory", "resident at start", "MiB", False, 0.35))


def manifests(host):
    """100 rules of which only the last is for what is asked, and 50 destination rules: the host's and 49 others'."""
    rules = [{"match": [{"uri": {"prefix": f"/api/{index}/"}}], "route": [{"destination": {"host": host}}]} for index in range(ROUTES - 1)]
    yield "routes", {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "routes", "namespace": "shop"},
                     "spec": {"hosts": [host], "http": [*rules, {"route": [{"destination": {"host": host}}]}]}}
    for index in range(RULES):
        yield f"rule-{index}", {
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": f"rule-{index}", "namespace": "shop"},
            "spec": {"host": host if index == 0 else f"other-{index}", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "5s"}}}}}


def service_with(lab, name, waypoint):
    address, _ = lab.service(f"shop/{name}", {"app": "server"}, {HTTP: HTTP}, {"istio.io/use-waypoint": waypoint}, protocol="http")
    file = lab.config / f"service-shop-{name}.yaml"
    lab.write(file.name, file.read_text() + f"  - name: grpc\n    port: {GRPC}\n    targetPort: {GRPC}\n    appProtocol: grpc\n")
    return address


def http(name, codec, host, **more):
    return {"name": "http", "typed_config": {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name, "codec_type": codec,
        "http_filters": [{"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [host]}, **more}}


def cluster(name, address, options=None, **more):
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}, **more,
        **({"typed_extension_protocol_options": {envoy.HTTP_OPTIONS: {
            "@type": f"type.googleapis.com/{envoy.HTTP_OPTIONS}", **options}}} if options else {})}


def envoy_configuration(files, address, server, log):
    """`files`: (key, chain, roots). Each port has its own inner listener, routes and way to the server."""
    key, chain, roots = map(str, files)
    limits = {"max_concurrent_streams": 1_000_000}
    unlimited = {"thresholds": [{"max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000}]}

    def tls(expected):
        return {"tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}], "alpn_protocols": ["h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {"trusted_ca": {"filename": roots},
                                       "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": expected}]}}

    ends = http("connect_terminate", "HTTP2", {"name": "server", "domains": ["*"], "routes": [
        {"match": {"connect_matcher": {}, "headers": [{"name": ":authority", "string_match": {"exact": f"{address}:{port}"}}]},
         "route": {"cluster": f"main-{port}", "timeout": "0s",
                   "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}} for port in (HTTP, GRPC)]},
                http2_protocol_options={"allow_connect": True, **limits}, upgrade_configs=[{"upgrade_type": "CONNECT"}])
    listeners = [{"name": "connect_terminate", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15008}},
                  "filter_chains": [{"filters": [ends], "transport_socket": {"name": "tls", "typed_config": {
                      "@type": TYPE + "transport_sockets.tls.v3.DownstreamTlsContext", "require_client_certificate": True,
                      "common_tls_context": tls({"prefix": "spiffe://cluster.local/"})}}}]}]
    clusters = [cluster("tunnel", {"socket_address": {"address": server, "port_value": 15008}},
                        {"explicit_http_config": {"http2_protocol_options": limits}}, circuit_breakers=unlimited,
                        transport_socket={"name": "tls", "typed_config": {
                            "@type": TYPE + "transport_sockets.tls.v3.UpstreamTlsContext",
                            "common_tls_context": tls({"exact": spiffe("shop", "server")})}})]
    for port in (HTTP, GRPC):
        to = [{"match": {"prefix": f"/api/{index}/"}, "route": {"cluster": f"originate-{port}"}} for index in range(ROUTES - 1)]
        filters = {f"main-{port}": http("requests", "AUTO", {"name": "server", "domains": ["*"], "routes": [
            *to, {"match": {"prefix": "/"}, "route": {"cluster": f"originate-{port}"}}]},
                                        access_log=[{"name": "file", "typed_config": {
                                            "@type": TYPE + "access_loggers.file.v3.FileAccessLog", "path": str(log)}}]),
                   f"originate-{port}": {"name": "tcp", "typed_config": {
                       "@type": TYPE + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tunnel", "cluster": "tunnel",
                       "tunneling_config": {"hostname": f"{server}:{port}"}}}}
        listeners += [{"name": name, "internal_listener": {}, "filter_chains": [{"filters": [one]}]} for name, one in filters.items()]
        clusters += [cluster(name, {"envoy_internal_address": {"server_listener_name": name}}, {
            "use_downstream_protocol_config": {"http2_protocol_options": limits}} if name.startswith("originate") else None,
                             circuit_breakers=unlimited) for name in filters]
    clusters += [cluster(f"other-{index}", {"socket_address": {"address": server, "port_value": HTTP}}) for index in range(1, RULES)]
    return {"bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {
        "@type": TYPE + "bootstrap.internal_listener.v3.InternalListener"}}],
            "static_resources": {"listeners": listeners, "clusters": clusters}}


@contextlib.contextmanager
def stage(name, directory):
    """The mesh with one contender's waypoint: (client, service's address, the waypoint's process)."""
    ca = MeshCA()
    with Lab(nodes="ab", cacerts=ca.write(directory / "cacerts")) as lab:
        lab.namespace("shop")
        client, server = lab.pod("shop/client", node="a"), lab.pod("shop/server", node="b", account="server", labels={"app": "server"})
        address = service_with(lab, "server", "wp")
        for file, document in manifests("server"):
            lab.write(f"{file}.yaml", json.dumps(document))
        if name == "waypoint":
            (directory / "requests.log").touch(mode=0o666)
            (directory / "requests.log").chmod(0o666)
            one = lab.waypoint("shop/wp", nodes="a", options=["--workers", "1", "--access-log", directory / "requests.log"])
            program = one.daemons[0]
        else:
            pod = lab.pod("shop/wp", node="a", labels={"istio.io/dataplane-mode": "none", "networking.istio.io/tunnel": "http",
                                                       "gateway.networking.k8s.io/gateway-name": "wp"})
            lab.write("gateway.yaml", json.dumps({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {
                    "name": "wp", "namespace": "shop", "labels": {"istio.io/waypoint-for": "service"}},
                "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                         "addresses": [{"type": "IPAddress", "value": pod.ip}]}}))
            files = (*ca.files(directory, "wp", spiffe("shop", "wp")), directory / "cacerts/root-cert.pem")
            (directory / "envoy.json").write_text(json.dumps(envoy_configuration(files, address, server.ip, directory / "requests.log")))
            program = lab.program("envoy", pod.netns, [envoy.program(), "-c", directory / "envoy.json", "--concurrency", "1",
                                                       "--disable-hot-restart", "-l", "warning"])
        (directory / "nginx.conf").write_text(NGINX.format(directory, "x" * 1024))
        server.start("nginx", "nginx", "-p", directory, "-c", directory / "nginx.conf")
        lab.start()
        one.start() if name == "waypoint" else program.start()
        wait(lambda: client.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", f"http://{address}:{HTTP}/",
                                check=False).strip() == "200", "the way through the waypoint is there")
        yield client, address, program


def h2load_figures(text):
    """(requests that were answered well, requests a second) of what h2load prints; anything failed is a failure of all."""
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", text)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
    if not rate or not counts or int(counts[1]) == 0 or any(map(int, counts.groups()[1:])):
        raise Failure(f"h2load: {text.strip()[-500:]}")
    return int(counts[1]), float(rate[1])


def wrk_figures(text):
    """The same of what wrk prints."""
    count, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not count or not rate or int(count[1]) == 0 or "Socket errors" in text or "Non-2xx" in text:
        raise Failure(f"wrk: {text.strip()[-500:]}")
    return int(count[1]), float(rate[1])


def sample(client, address, pid, seconds):
    figures = {}
    loads = (("http", wrk_figures, ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://{address}:{HTTP}/"]),
             ("grpc", h2load_figures, ["h2load", "-c8", "-m8", "-D", seconds, "-H", "content-type: application/grpc", "-H", "te: trailers",
                                       f"http://{address}:{GRPC}/shop.Server/Get"]))
    for name, read, command in loads:
        before = cpu_seconds([pid])
        count, figures[f"{name}-rate"] = read(client.run(*map(str, command)))
        figures[f"{name}-cpu"] = (cpu_seconds([pid]) - before) / count * 1e6
    # Not load-generator: it takes an answer's field names in one spelling alone, and proxies of HTTP write them in small letters.
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory) / "requests"
        h2load_figures(client.run("h2load", "--h1", f"-c{CONNECTIONS}", "-D", str(seconds), f"--rps={RATE / CONNECTIONS}", f"--log-file={log}",
                                  f"http://{address}:{HTTP}/"))
        micros = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return figures | {"p50": percentile(micros, 0.5), "p99": percentile(micros, 0.99)}


def quotients(samples):
    """{measure: median of the quotients within each round}, of [{contender: {measure: figure}}]."""
    return {key: statistics.median(one["waypoint"][key] / one["envoy-waypoint"][key] for one in samples) for key, *_ in MEASURES}


def markdown(samples):
    ratios = quotients(samples)
    lines = ["| Measure |  | waypoint | envoy-waypoint | waypoint / envoy-waypoint | aim |  |", "|---|---|---:|---:|---:|---:|---|"]
    for key, text, unit, more, aim in MEASURES:
        cells = []
        for name in NAMES:
            values = [one[name][key] for one in samples]
            cells.append(f"{statistics.median(values):,.4g} ({min(values):,.4g}..{max(values):,.4g})")
        reached = ratios[key] >= aim if more else ratios[key] <= aim
        lines.append(f"| {text} | {unit} | {' | '.join(cells)} | **{ratios[key]:.2f}** | {'≥' if more else '≤'} {aim} | "
                     f"{'reached' if reached else 'open'} |")
    return "\n".join(lines)


def run(directory, rounds, seconds, note):
    """[{contender: {measure: figure}}], a round each; both meshes stay up, so that a round's samples are a moment apart."""
    with contextlib.ExitStack() as stack:
        field, memory = {}, {}
        for name in NAMES:
            own = pathlib.Path(directory) / name
            own.mkdir(mode=0o755)
            client, address, program = stack.enter_context(stage(name, own))
            field[name] = (client, address, program.process.pid)
            memory[name] = settled(lambda pid=program.process.pid: resident_kib([pid]), 8, 1) / 1024
            note(f"{name} is up")
        samples = []
        for index in range(rounds):
            order = NAMES if index % 2 == 0 else NAMES[::-1]
            samples.append({name: {**sample(*field[name], seconds), "memory": memory[name]} for name in order})
            note(f"round {index + 1}")
        return samples
