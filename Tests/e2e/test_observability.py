"""What a node shows: metrics on 15020, readiness on 15021, dumps on 15000, and one line of the access log for each end."""

import json
import re

import pytest
from warrenlab import Lab, receive, wait

# The labels of every TCP metric, in ztunnel's order.
LABELS = [
    "reporter", "source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
    "source_principal", "source_app", "source_version", "source_cluster", "destination_service",
    "destination_service_namespace", "destination_service_name", "destination_workload",
    "destination_canonical_service", "destination_canonical_revision", "destination_workload_namespace",
    "destination_principal", "destination_app", "destination_version", "destination_cluster", "request_protocol",
    "response_flags", "connection_security_policy", "source_region", "source_zone", "destination_region",
    "destination_zone"]
DENY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  action: DENY
  rules:
  - from:
    - source: {principals: ["%s"]}
"""


@pytest.fixture(scope="module")
def lab():
    with Lab() as lab:
        lab.namespace("shop")
        lab.namespace("legacy", mode=None)
        lab.client = lab.pod("shop/client", node="a", labels={"app": "buyer", "version": "v7"})
        lab.server = lab.pod("shop/server", node="b", labels={"app": "server"})
        lab.neighbour = lab.pod("shop/neighbour", node="b")
        lab.plain = lab.pod("legacy/plain", node="a")
        lab.vip, _ = lab.service("shop/server", {"app": "server"}, {80: 8080})
        lab.server.serve()
        yield lab.start()


def page(lab, letter, port, path, *options):
    """(status, headers, body) of a page in the node's own namespace."""
    text = lab.nodes[letter].netns.run("curl", "-s", "-i", "--max-time", "5", *options, f"http://127.0.0.1:{port}{path}")
    head, _, body = text.partition("\n\n" if "\r\n\r\n" not in text else "\r\n\r\n")
    lines = head.splitlines()
    return int(lines[0].split()[1]), {key.lower(): value.strip() for key, _, value in (
        line.partition(":") for line in lines[1:])}, body


class Series(list):
    """[(name, labels, value)] of a metrics page."""

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)(?: \S+)?", line):
                self.append((match[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or "")), float(match[3])))
            else:
                assert line.startswith("#"), line

    def sum(self, name, **labels):
        return sum(value for one, has, value in self if one == name and labels.items() <= has.items())

    names = property(lambda self: {name for name, _, _ in self})


def metrics(lab, letter):
    return Series(page(lab, letter, 15020, "/metrics")[2])


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_have_ztunnels_names(lab):
    assert lab.client.echoes(lab.server.ip, 8080)
    for letter in "ab":
        wait(lambda: {
            "istio_build", "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total",
            "istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total", "istio_xds_message_total",
            "istio_xds_message_bytes_total", "workload_manager_active_proxy_count", "process_open_fds",
            "process_max_fds"} <= metrics(lab, letter).names, f"all families of node {letter}")
        series = metrics(lab, letter)
        assert series.sum("istio_build", component="ztunnel") == 1
        assert series.sum("workload_manager_active_proxy_count") == sum(
            pod.node.letter == letter for pod in (lab.client, lab.server, lab.neighbour))


def test_the_aes_in_use_is_told_by_metric_and_dump(lab):
    for letter in "ab":
        dumped = json.loads(page(lab, letter, 15000, "/config_dump")[2])["config"]["aes"]
        assert dumped in ("ipsec-mb", "libcrypto")
        series = metrics(lab, letter)
        assert series.sum("warren_tls_info") == series.sum("warren_tls_info", aes=dumped) == 1


@pytest.mark.parametrize("path", ["/metrics", "/stats/prometheus"])
def test_metrics_are_served_in_the_form_that_is_asked_for(lab, path):
    status, headers, body = page(lab, "a", 15020, path)
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert Series(body)
    _, headers, body = page(lab, "a", 15020, path, "-H", "Accept: application/openmetrics-text;version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text") and body.rstrip().endswith("# EOF")


def test_metrics_of_both_sides_agree_on_what_was_moved(lab):
    wanted = {"source_workload": "client", "destination_workload": "server", "connection_security_policy": "mutual_tls"}

    def sums(letter, reporter):
        series = metrics(lab, letter)
        return [series.sum(f"istio_tcp_{name}_total", reporter=reporter, **wanted) for name in (
            "connections_opened", "connections_closed", "received_bytes", "sent_bytes")]

    before = sums("a", "source"), sums("b", "destination")
    with lab.client.connect(lab.vip, 80) as connection:
        for _ in range(10):
            connection.sendall(b"x" * 1000)
            assert receive(connection, 1000) == b"x" * 1000

    def grown():
        after = sums("a", "source"), sums("b", "destination")
        return [[now - then for now, then in zip(*pair)] for pair in zip(after, before)]

    wait(lambda: grown() == [[1, 1, 10_000, 10_000]] * 2, "both sides have counted it")


def test_labels_say_who_and_where(lab):
    assert lab.client.echoes(lab.vip, 80)

    def labels(letter, reporter):
        return next((has for name, has, _ in metrics(lab, letter) if name == "istio_tcp_connections_closed_total"
                     and has["reporter"] == reporter and has["source_workload"] == "client"
                     and has["destination_service_name"] == "server"), None)

    for letter, reporter in (("a", "source"), ("b", "destination")):
        has = wait(lambda: labels(letter, reporter), f"a series of node {letter}")
        assert list(has) == LABELS
        assert has["source_principal"] == f"spiffe://{lab.client.identity}"
        assert has["destination_principal"] == f"spiffe://{lab.server.identity}"
        assert (has["source_app"], has["source_version"]) == ("buyer", "v7")
        assert (has["source_workload_namespace"], has["destination_workload_namespace"]) == ("shop", "shop")
        assert has["destination_service"] == "server.shop.svc.cluster.local"
        assert has["destination_service_namespace"] == "shop"
        assert (has["request_protocol"], has["response_flags"]) == ("tcp", "-")
        assert has["connection_security_policy"] == "mutual_tls" and has["source_region"] == "unknown"


def test_plain_connections_have_no_principal(lab):
    assert lab.plain.echoes(lab.server.ip, 8080)
    has = wait(lambda: next((has for name, has, _ in metrics(lab, "b") if name == "istio_tcp_connections_closed_total"
                             and has["source_workload"] == "plain"), None), "the series")
    assert has["source_principal"] == "unknown" and has["connection_security_policy"] == "unknown"


def test_a_denied_connection_is_counted_as_failed(lab):
    lab.policy("deny", DENY % lab.client.identity)
    try:
        wait(lambda: lab.client.is_refused(lab.server.ip, 8080), "the policy is enforced")
        # That one may have been open when the policy came, and been cut; this one is refused from the start.
        assert lab.client.is_refused(lab.server.ip, 8080)
        wait(lambda: metrics(lab, "b").sum(
            "istio_tcp_connections_failed_total", reporter="destination", response_flags="DENY",
            source_workload="client") >= 1, "the destination counts it")
        wait(lambda: metrics(lab, "a").sum(
            "istio_tcp_connections_failed_total", reporter="source", response_flags="CONNECT",
            source_workload="client") >= 1, "the source counts it")
    finally:
        lab.withdraw("deny")
        wait(lambda: lab.client.echoes(lab.server.ip, 8080), "connections pass again")


# --- readiness and dumps ---------------------------------------------------------------------------------------------


def test_readiness(lab):
    for letter in "ab":
        assert page(lab, letter, 15021, "/healthz/ready")[0] == 200
    assert page(lab, "a", 15021, "/anything/else")[0] == 404


def test_open_connections_are_in_the_dump_of_both_sides(lab):
    def connections(letter, pod, direction):
        _, headers, body = page(lab, letter, 15000, "/config_dump")
        assert headers["content-type"].startswith("application/json")
        states = json.loads(body)["workloadState"]
        state = next(one for one in states.values() if one["info"]["name"] == pod.name)
        assert state["state"] == "Up" and state["info"]["serviceAccount"] == pod.account
        return state["connections"][direction]

    with lab.client.connect(lab.vip, 80) as connection:
        connection.sendall(b"12345")
        assert receive(connection, 5) == b"12345"
        own = "%s:%d" % connection.getsockname()[:2]
        outbound = [one for one in connections("a", lab.client, "outbound") if one["src"] == own]
        assert len(outbound) == 1, outbound
        assert outbound[0]["originalDst"] == f"{lab.vip}:80" and outbound[0]["protocol"] == "HBONE"
        assert outbound[0]["actualDst"].startswith(f"{lab.server.ip}:")
        inbound = [one for one in connections("b", lab.server, "inbound") if one["src"].startswith(f"{lab.client.ip}:")]
        assert any(one["actualDst"] == f"{lab.server.ip}:8080" and one["protocol"] == "HBONE" for one in inbound), inbound
    wait(lambda: not any(one["src"] == own for one in connections("a", lab.client, "outbound")), "it is gone")


def test_the_dump_holds_what_istioctl_reads(lab):
    dump = json.loads(page(lab, "a", 15000, "/config_dump")[2])
    assert {"workloads", "services", "policies", "certificates", "version", "config", "workloadState"} <= set(dump)
    server = next(one for one in dump["workloads"] if one["name"] == "server")
    assert server["uid"] == "Kubernetes//Pod/shop/server" and server["protocol"] == "HBONE"
    assert server["workloadIps"] == [lab.server.ip, lab.server.ip6] and server["node"] == "node-b"
    service = next(one for one in dump["services"] if one["name"] == "server")
    assert service["hostname"] == "server.shop.svc.cluster.local" and any(lab.vip in vip for vip in service["vips"])
    certificate = next(one for one in dump["certificates"] if one["identity"].endswith(lab.client.identity))
    assert certificate["state"] == "Available" and certificate["certChain"] and certificate["rootCerts"]
    assert "PRIVATE KEY" not in json.dumps(dump)


@pytest.mark.parametrize("path", ["/quitquitquit", "/drain", "/logging?level=debug"])
def test_nothing_is_changed_over_tcp(lab, path):
    node = lab.nodes["a"]
    pid = node.daemon.pid
    assert page(lab, "a", 15000, path, "-X", "POST")[0] in (403, 404, 405)
    assert node.daemon.is_running and node.daemon.pid == pid and lab.client.echoes(lab.server.ip, 8080)


def test_admin_pages_are_not_reached_from_pods_and_other_machines(lab):
    for where in (lab.client, lab.plain):
        for address in (lab.nodes["a"].ip, "10.98.1.1"):
            with pytest.raises((OSError, AssertionError)):
                with where.connect(address, 15000, timeout=2) as connection:
                    connection.sendall(b"GET /config_dump HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert connection.recv(100)


# --- the access log --------------------------------------------------------------------------------------------------

FIELDS = re.compile(r'([\w.]+)=("(?:[^"\\]|\\.)*"|\S+)')


def lines(lab, letter, **wanted):
    found = []
    for line in lab.nodes[letter].access_log().splitlines():
        columns = line.split("\t", 4)
        fields = {key: value.strip('"') for key, value in FIELDS.findall(columns[-1])}
        if wanted.items() <= fields.items():
            found.append((columns, fields))
    return found


def test_each_side_writes_one_line_with_ztunnels_fields(lab):
    with lab.client.connect(lab.vip, 80) as connection:
        connection.sendall(b"x" * 1234)
        assert receive(connection, 1234) == b"x" * 1234
        own = "%s:%d" % connection.getsockname()[:2]
    wait(lambda: lines(lab, "a", **{"src.addr": own}), "the line of the client's node")
    (columns, fields), = lines(lab, "a", **{"src.addr": own})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", columns[0])
    assert columns[1:4] == ["info", "access", "connection complete"]
    assert list(fields) == [
        "src.addr", "src.workload", "src.namespace", "src.identity", "src.cluster", "dst.addr", "dst.hbone_addr",
        "dst.service", "dst.workload", "dst.namespace", "dst.identity", "dst.cluster", "direction", "bytes_sent",
        "bytes_recv", "duration"]
    assert fields["dst.addr"] == f"{lab.server.ip}:15008" and fields["dst.hbone_addr"] == f"{lab.server.ip}:8080"
    assert fields["src.identity"] == f"spiffe://{lab.client.identity}"
    assert fields["dst.identity"] == f"spiffe://{lab.server.identity}"
    assert (fields["direction"], fields["bytes_sent"], fields["bytes_recv"]) == ("outbound", "1234", "1234")
    assert re.fullmatch(r"\d+ms", fields["duration"])
    inbound = wait(lambda: lines(lab, "b", **{"direction": "inbound", "bytes_sent": "1234"}), "the line of the server's node")
    assert inbound[-1][1]["src.workload"] == "client" and inbound[-1][1]["dst.workload"] == "server"


def test_a_failed_connection_says_why(lab):
    assert lab.client.is_refused(lab.server.ip, 4444)
    columns, fields = wait(
        lambda: next(iter(lines(lab, "a", **{"dst.hbone_addr": f"{lab.server.ip}:4444"})), None), "the line")
    assert columns[1] == "error" and "503" in fields["error"]
    columns, fields = wait(
        lambda: next((one for one in lines(lab, "b", direction="inbound") if "connection failed" in one[1].get("error", "")),
                     None), "the line of the other side")
    assert columns[1] == "error"


def test_lines_in_json_hold_the_same_fields():
    with Lab(nodes="a") as small:
        small.nodes["a"].daemon.command += ["--log-format", "json"]
        small.namespace("shop")
        client, server = (small.pod(f"shop/{name}", node="a") for name in ("client", "server"))
        server.serve()
        small.start()
        assert client.echoes(server.ip, 8080) and client.is_refused(server.ip, 4444)

        def entries(**wanted):
            found = [json.loads(line) for line in small.nodes["a"].access_log().splitlines()]
            return [entry for entry in found if wanted.items() <= entry.items()]

        done, = wait(lambda: entries(direction="outbound", **{"dst.addr": f"{server.ip}:8080"}), "the line of what went well")
        assert (done["level"], done["scope"], done["message"]) == ("info", "access", "connection complete")
        assert done["src.identity"] == f"spiffe://{client.identity}" and done["dst.workload"] == "server"
        assert isinstance(done["bytes_sent"], int) and re.fullmatch(r"\d+ms", done["duration"]) and "error" not in done
        failed, = wait(lambda: entries(direction="outbound", **{"dst.addr": f"{server.ip}:4444"}), "the line of what failed")
        assert failed["level"] == "error" and failed["error"]
