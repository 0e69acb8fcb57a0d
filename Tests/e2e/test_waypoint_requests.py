"""warren-waypoint between nodes of ours, for HTTP: requests are routed, tried again, mirrored, delayed and refused as manifests say.

      pod shop/client ─▶ node a ══ CONNECT VIP:80 ══▶ pod shop/wp-1 ══ CONNECT POD:9080 ══▶ nodes ─▶ pods shop/v1, shop/v2
"""

import collections
import contextlib
import json
import re
import subprocess

import pytest
from warrenlab import BINARIES, Lab, ask, receive_all, wait

HOST = "server.shop.svc.cluster.local"


@pytest.fixture(scope="module")
def lab():
    with Lab(nodes="ab") as lab:
        lab.namespace("shop", **{"istio.io/use-waypoint": "wp"})
        lab.client = lab.pod("shop/client", node="a")
        lab.versions = {
            name: lab.pod(f"shop/{name}", node=node, account="server", labels={"app": "server", "version": name})
            for name, node in (("v1", "b"), ("v2", "a"))}
        # Nothing listens in it.
        lab.dead = lab.pod("shop/dead", node="b", account="server", labels={"app": "flaky", "version": "dead"})
        lab.alive = lab.pod("shop/alive", node="a", account="server", labels={"app": "flaky", "version": "alive"})
        lab.vip, lab.vip6 = lab.service("shop/server", {"app": "server"}, {80: 9080}, protocol="http")
        lab.flaky, _ = lab.service("shop/flaky", {"app": "flaky"}, {80: 9080}, protocol="http")
        lab.unnamed, _ = lab.service("shop/unnamed", {"app": "server"}, {80: 9080, 81: 8080, 82: 8083})
        lab.bytes, _ = lab.service("shop/bytes", {"app": "server"}, {80: 9080}, protocol="tcp")
        lab.journals = {name: pod.serve() for name, pod in lab.versions.items()}
        lab.alive.serve()
        lab.write("rule.yaml", (
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: server\n  namespace: shop\n"
            "spec:\n  host: server\n  subsets:\n"
            "  - name: v1\n    labels: {version: v1}\n  - name: v2\n    labels: {version: v2}\n"))
        lab.waypoint_ = lab.waypoint("shop/wp", nodes="a")
        lab.start()
        lab.waypoint_.start()
        wait(lambda: get(lab).status == 200, "the way through the waypoint is there")
        yield lab


Answer = collections.namedtuple("Answer", "status version client headers")


def get(lab, path="/", *options, address=None):
    """What curl gets; status 0 where it gets nothing."""
    text = lab.client.run("curl", "-sS", "-i", "--max-time", "10", *options, f"http://{address or lab.vip}{path}", check=False)
    if not text.startswith("HTTP/"):
        return Answer(0, None, None, text)
    head, _, body = text.partition("\n\n")
    server = re.search(r"x-served-by: (\S+)", head)
    names = {pod.ip: pod.name for pod in lab.pods.values()}
    return Answer(int(head.split()[1]), server and names.get(server.group(1)), body.strip(), head.lower())


@pytest.fixture
def routes(lab):
    """Writes the http rules of a VirtualService for the service; without them afterwards."""
    def write(rules):
        lab.write("routes.yaml", (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: server\n  namespace: shop\n"
            f"spec:\n  hosts: [server]\n  http:\n{rules}"))

    yield write
    lab.remove("routes.yaml")
    wait(lambda: {get(lab).version for _ in range(20)} == {"v1", "v2"}, "requests go everywhere again")


def test_requests_reach_every_endpoint(lab):
    answers = [get(lab) for _ in range(40)]
    assert {one.status for one in answers} == {200}
    assert {one.version for one in answers} == {"v1", "v2"}
    assert {one.client for one in answers} == {lab.waypoint_.pods[0].ip}
    assert get(lab, address=f"[{lab.vip6}]").status == 200


def test_a_header_chooses_a_subset(lab, routes):
    routes("  - match:\n    - headers: {x-canary: {exact: \"yes\"}}\n    route:\n    - destination: {host: server, subset: v2}\n"
           "  - route:\n    - destination: {host: server, subset: v1}\n")
    wait(lambda: {get(lab).version for _ in range(10)} == {"v1"}, "the routes are there")
    assert {get(lab, "/", "-H", "x-canary: yes").version for _ in range(10)} == {"v2"}


def test_weights_share_requests_out(lab, routes):
    routes("  - route:\n    - {destination: {host: server, subset: v1}, weight: 80}\n"
           "    - {destination: {host: server, subset: v2}, weight: 20}\n")

    def shares():
        counts = collections.Counter(get(lab).version for _ in range(100))
        return 60 <= counts["v1"] <= 95 and counts["v1"] + counts["v2"] == 100

    wait(shares, "four requests of five at v1")


def test_answers_of_the_waypoints_own(lab, routes):
    routes("  - match:\n    - uri: {prefix: /old}\n    redirect: {uri: /new, redirectCode: 308}\n"
           "  - match:\n    - uri: {exact: /teapot}\n    directResponse: {status: 418, body: {string: short and stout}}\n"
           "  - match:\n    - uri: {prefix: /broken}\n    fault: {abort: {httpStatus: 555, percentage: {value: 100}}}\n"
           "    route:\n    - destination: {host: server}\n"
           "  - match:\n    - uri: {prefix: /only}\n    route:\n    - destination: {host: server}\n")
    wait(lambda: get(lab, "/teapot").status == 418, "the routes are there")
    assert get(lab, "/teapot").client == "short and stout"
    moved = get(lab, "/old/page")
    assert moved.status == 308 and "location: http://" in moved.headers and "/new" in moved.headers
    assert get(lab, "/broken").status == 555
    assert get(lab, "/only").status == 200
    assert get(lab, "/nowhere").status == 404


def test_a_failing_endpoint_is_hidden_by_another_try(lab):
    answers = [get(lab, address=lab.flaky) for _ in range(30)]
    assert {(one.status, one.version) for one in answers} == {(200, "alive")}


def test_ports_without_a_protocol_carry_anything(lab):
    assert get(lab, address=lab.unnamed).status == 200
    assert lab.client.echoes(lab.unnamed, 81)
    # A server that speaks first is heard, though its client says nothing.
    with lab.client.connect(lab.unnamed, 82) as connection:
        assert connection.recv(100)


def test_a_tcp_route_leads_to_a_subset(lab):
    assert {get(lab, address=lab.bytes).version for _ in range(40)} == {"v1", "v2"}
    lab.write("bytes.yaml", (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: bytes\n  namespace: shop\n"
        "spec:\n  hosts: [bytes]\n  tcp:\n  - match:\n    - port: 80\n    route:\n"
        "    - destination: {host: server, subset: v2}\n"))
    try:
        wait(lambda: {get(lab, address=lab.bytes).version for _ in range(20)} == {"v2"}, "connections go to the subset")
    finally:
        lab.remove("bytes.yaml")
    wait(lambda: {get(lab, address=lab.bytes).version for _ in range(20)} == {"v1", "v2"}, "connections go everywhere again")


def test_http2_with_prior_knowledge(lab):
    answer = get(lab, "/", "--http2-prior-knowledge")
    assert answer.status == 200 and answer.headers.startswith("http/2")


def test_what_can_be_read_in_two_ways_is_refused(lab):
    for attack in (
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
            b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"):
        with lab.client.connect(lab.vip, 80) as connection:
            connection.sendall(attack)
            assert receive_all(connection).startswith(b"HTTP/1.1 400")


def test_each_request_has_its_line_and_is_counted(lab):
    assert get(lab, "/logged?by=test", "-A", "the-agent").status == 200
    line = wait(lambda: next((one for one in lab.waypoint_.access_log().splitlines() if "/logged" in one), None), "its line")
    assert '"GET /logged?by=test HTTP/1.1" 200 - via_upstream - "-" 0 ' in line
    assert '"the-agent"' in line and f'"{lab.vip}"' in line
    assert f"inbound-vip|80|http|{HOST}" in line and f"{lab.client.ip}:" in line
    code, text = ask(lab.waypoint_.socket(), "/metrics")
    assert code == 200
    counted = [one for one in text.splitlines() if one.startswith("istio_requests_total{") and 'response_code="200"' in one]
    labels = ('reporter="waypoint"', 'request_protocol="http"', 'source_workload="client"', f'destination_service="{HOST}"',
              'connection_security_policy="mutual_tls"')
    assert any(all(label in one for label in labels) for one in counted), counted


def config(lab, part, name, *options, status=0):
    answer = subprocess.run(
        [BINARIES / "warren", "config", part, name, "--run-directory", lab.run_directory, *options], capture_output=True, text=True)
    assert answer.returncode == status, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


def test_what_the_waypoint_runs_on_is_shown(lab, routes):
    routes("  - name: canary\n    match:\n    - headers: {x-canary: {exact: \"yes\"}}\n"
           "    route:\n    - destination: {host: server, subset: v2}\n    timeout: 3s\n"
           "  - route:\n    - destination: {host: server, subset: v1}\n")
    wait(lambda: {get(lab).version for _ in range(10)} == {"v1"}, "the routes are there")

    def rows(part, name="shop/wp"):
        lines = [re.split(r" {3,}", line) for line in config(lab, part, name).splitlines()]
        assert len({len(line) for line in lines}) == 1, lines
        return lines

    shown = [row for row in rows("routes") if row[:2] == [HOST, "80"]]
    assert [row[2] for row in shown] == ["VirtualService shop/server rule 0 (canary)", "VirtualService shop/server rule 1"]
    assert [row[3] for row in shown] == ["header x-canary is yes", "any request"]
    assert "subset v2; timeout 3s" in shown[0][4] and "subset v1" in shown[1][4]
    assert [HOST, "80", "v1", "least request", "-", "DestinationRule shop/server"] in rows("clusters")
    for subset, pod in lab.versions.items():
        for name in ("shop/wp", "shop/wp-1"):
            (row,) = [row for row in rows("endpoints", name) if row[:3] == [HOST, "80", subset]]
            assert row[3].endswith(f"/shop/{subset}") and row[4:] == [f"{pod.ip}:9080", "1"]
    dumped = json.loads(config(lab, "routes", "shop/wp", "-o", "json"))
    (port,) = [one for one in dumped if one["service"] == HOST and one["port"] == 80]
    action = port["virtualHosts"][0]["routes"][0]["action"]
    assert action["type"] == "forward" and action["timeout"] == "3s" and action["destinations"][0]["subset"] == "v2"
    assert "there are shop/wp" in config(lab, "routes", "shop/other", status=2)


def test_the_waypoint_drains_without_a_failed_request(lab):
    """Connections that are kept end behind an answer; who asks again finds the next waypoint."""
    with lab.client.connect(lab.vip, 80) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        program = lab.waypoint_.daemons[0]
        program.stop(timeout=60)
        with contextlib.suppress(ConnectionResetError):
            assert idle.recv(4096) == b""
    lab.waypoint_.start()
    wait(lambda: get(lab).status == 200, "the waypoint is back")
