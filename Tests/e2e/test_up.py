"""`warren up` with daemons of our own making, which fail where real ones seldom do; and the command line's manners."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import warrenlab

DAEMON = '''#!/usr/bin/python3
"""Stands for warren-control and warren-node: answers their admin pages, and fails as files beside it say."""
import http.server, json, os, pathlib, signal, socket, socketserver, sys
here = pathlib.Path(sys.argv[0]).parent
options = {}
for name, value in zip(sys.argv[1:], sys.argv[2:]):
    if name.startswith("--"):
        options.setdefault(name, []).append(value)
is_control = sys.argv[0].endswith("control")
name = "control" if is_control else options["--node"][0]
with open(here / "calls", "a") as calls:
    calls.write(json.dumps({"name": name, "pid": os.getpid(), "arguments": sys.argv[1:],
                            "namespace": os.readlink("/proc/self/ns/net")}) + "\\n")
print(name, "begins", flush=True)
print(name, "complains", file=sys.stderr, flush=True)
if (here / f"refuse-{name}").exists():
    sys.exit(2)
listeners = [socket.socket(fileno=int(value.removeprefix("fd:"))) for value in options.get("--listen", [])]
STATUS = {"ready": True, "workloads": [], "addresses": ["%s:%d" % one.getsockname() for one in listeners]}
class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (json.dumps(STATUS) if self.path == "/status" else "ready").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        with open(here / "calls", "a") as calls:
            calls.write(json.dumps({"name": name, "post": self.path}) + "\\n")
        self.do_GET()
        os.kill(os.getpid(), signal.SIGKILL if (here / f"stubborn-{name}").exists() else signal.SIGTERM)
    def log_message(self, *_):
        pass
    def address_string(self):
        return "unix"
class Server(socketserver.ThreadingUnixStreamServer):
    pass
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
path = pathlib.Path(options["--run-directory"][0]) / f"{name}.sock"
path.unlink(missing_ok=True)
Server(str(path), Pages).serve_forever()
'''

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for network namespaces")


class Up:
    """A `warren up` beside daemons of ours."""

    def __init__(self, directory, namespace):
        self.directory, self.namespace = directory, namespace
        self.run_directory = directory / "run"
        self.programs = directory / "programs"
        self.programs.mkdir()
        shutil.copy(warrenlab.BINARIES / "warren", self.programs)
        for name in ("warren-control", "warren-node"):
            (self.programs / name).write_text(DAEMON)
            (self.programs / name).chmod(0o755)
        manifests = directory / "mesh"
        manifests.mkdir()
        (manifests / "mesh.yaml").write_text(
            "{apiVersion: v1, kind: Node, metadata: {name: here}}\n---\n"
            "{apiVersion: v1, kind: Node, metadata: {name: there, annotations: {warren.dev/netns: %s}}}\n" % namespace)
        self.process = None

    def start(self, *options, stdout=None):
        self.process = subprocess.Popen(
            [self.programs / "warren", "up", "-f", self.directory / "mesh", "--run-directory", self.run_directory,
             "--port", "25012", *options],
            stdin=subprocess.DEVNULL, stdout=stdout or open(self.directory / "out", "wb"),
            stderr=open(self.directory / "err", "wb"), start_new_session=True)
        return self

    @property
    def errors(self):
        return (self.directory / "err").read_text()

    @property
    def output(self):
        return (self.directory / "out").read_text()

    def calls(self, name=None):
        path = self.programs / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for call in map(json.loads, lines) if name in (None, call["name"])]

    def wait(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{self.output}\n{self.errors}"
            time.sleep(0.02)

    def is_up(self):
        self.wait(lambda: "the mesh is up" in self.errors)

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def up(tmp_path):
    namespace = f"warren-up-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
    up = Up(tmp_path, namespace)
    yield up
    if up.process and up.process.poll() is None:
        up.process.kill()
        up.process.wait()
    for call in up.calls():
        if "pid" in call and pathlib.Path(f"/proc/{call['pid']}").exists():
            os.kill(call["pid"], signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", namespace], check=True)


def test_every_node_runs_in_its_namespace_and_reaches_control_on_its_loopback(up):
    up.start().is_up()
    inside = os.stat(f"/run/netns/{up.namespace}").st_ino
    assert up.calls("here")[0]["namespace"] == os.readlink("/proc/self/ns/net")
    assert up.calls("there")[0]["namespace"] == f"net:[{inside}]"
    listen = ["ss", "-Hltn", "sport = :25012"]
    for prefix in ([], ["ip", "netns", "exec", up.namespace]):
        assert "127.0.0.1:25012" in subprocess.run([*prefix, *listen], capture_output=True, text=True).stdout
    control = up.calls("control")[0]["arguments"]
    assert control.count("--listen") == 2 and "fd:3" in control and "fd:4" in control
    assert "there   | there begins\n" in up.output
    assert "there   | there complains\n" in up.errors


def test_an_interrupt_takes_the_capture_away_and_leaves_nothing(up):
    up.start().is_up()
    assert up.interrupt() == 0
    for node in ("here", "there"):
        assert {"name": node, "post": "/quitquitquit?capture=remove"} in up.calls(node)
    assert not up.run_directory.exists()
    assert not any(pathlib.Path(f"/proc/{call['pid']}").exists() for call in up.calls() if "pid" in call)


def test_a_state_that_is_named_stays(up, tmp_path):
    up.start("--state", str(tmp_path / "state")).is_up()
    assert up.interrupt(signal.SIGTERM) == 0
    assert (tmp_path / "state/nodes").is_dir()


def test_a_daemon_that_dies_is_started_again_and_it_is_said(up):
    up.start().is_up()
    os.kill(up.calls("there")[0]["pid"], signal.SIGKILL)
    up.wait(lambda: len([call for call in up.calls("there") if "pid" in call]) == 2)
    assert "there ended (killed by signal 9); it is started again in" in up.errors
    assert up.interrupt() == 0


def test_a_daemon_that_refuses_its_configuration_ends_everything_with_status_2(up):
    (up.programs / "refuse-there").touch()
    assert up.start().process.wait(20) == 2
    assert "there refused what it was given" in up.errors
    assert not up.run_directory.exists()


def test_output_that_nobody_reads_holds_nothing_up(up):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    up.start(stdout=writing).is_up()
    os.kill(up.calls("there")[0]["pid"], signal.SIGKILL)
    up.wait(lambda: len([call for call in up.calls("there") if "pid" in call]) == 2)
    assert up.interrupt() == 0
    os.close(reading)
    os.close(writing)


def test_a_refusal_ends_nothing_once_the_mesh_is_up(up):
    up.start().is_up()
    (up.programs / "refuse-control").touch()
    os.kill(up.calls("control")[0]["pid"], signal.SIGKILL)
    up.wait(lambda: "control ended (exit status 2); it is started again in" in up.errors)
    # Nobody took the pods out of the mesh for it.
    assert up.process.poll() is None and not [call for call in up.calls() if "post" in call]
    (up.programs / "refuse-control").unlink()
    assert up.interrupt() == 0


def test_one_node_can_be_run_alone(up):
    up.start("--node", "there").is_up()
    assert up.calls("here") == []
    assert up.interrupt() == 0


def test_capture_rules_go_even_when_the_node_cannot_take_them_away(up):
    manifests = up.directory / "mesh/mesh.yaml"
    manifests.write_text(manifests.read_text() + "---\n" + json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {"warren.dev/netns": up.namespace}},
        "spec": {"nodeName": "there"}, "status": {"podIP": "10.1.1.1"}}) + "\n")
    inside = ["ip", "netns", "exec", up.namespace]
    # What a captured pod has of routing, marked as Warren's by its protocol number.
    rule = ["fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100", "protocol", "87"]
    subprocess.run([*inside, "ip", "rule", "add", *rule], check=True)
    other = ["fwmark", "0x222/0xfff", "pref", "32763", "lookup", "100"]
    subprocess.run([*inside, "ip", "rule", "add", *other], check=True)
    # And of capture without connection tracking, the settings of which bear the same number.
    for family in ("-4", "-6"):
        for more in (["fwmark", "0x112/0xfff", "pref", "32762", "goto", "32766"], ["pref", "32761", "lookup", "100"]):
            subprocess.run([*inside, "ip", family, "rule", "add", "iif", "lo", "ipproto", "tcp", *more, "protocol", "87"],
                           check=True)
        subprocess.run([*inside, "ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100", "proto", "87"],
                       check=True)
    subprocess.run([*inside, "sysctl", "-q", "net.ipv4.fwmark_reflect=87", "net.ipv6.fwmark_reflect=1"], check=True)
    (up.programs / "stubborn-there").touch()
    up.start().is_up()
    assert up.interrupt() == 0
    rules = subprocess.run([*inside, "ip", "rule"], capture_output=True, text=True).stdout
    assert "32764" not in rules and "32762" not in rules and "32761" not in rules
    assert "32763" in rules, "somebody else's rule is gone"
    rules = subprocess.run([*inside, "ip", "-6", "rule"], capture_output=True, text=True).stdout
    assert "ipproto" not in rules
    routes = subprocess.run([*inside, "ip", "route", "show", "table", "all"], capture_output=True, text=True).stdout
    assert "local default" not in routes
    settings = subprocess.run([*inside, "sysctl", "-n", "net.ipv4.fwmark_reflect", "net.ipv6.fwmark_reflect"],
                              capture_output=True, text=True).stdout
    assert settings.split() == ["0", "1"], "what Warren did not switch on stays on"


@pytest.mark.parametrize("arguments, status, said", [
    ([], 0, "Usage: warren"),
    (["up"], 2, "--file"),
    (["up", "-f", "/nonexistent"], 2, "/nonexistent"),
    (["statsu"], 2, "did you mean status"),
    (["status", "--run-directory", "/nonexistent"], 1, "warren up -f DIR"),
    (["config", "routes", "shop/wp", "--run-directory", "/nonexistent"], 1, "warren up -f DIR"),
    (["config", "endpoints", "--help"], 0, "warren config endpoints shop/waypoint"),
    (["config"], 2, "a command is missing"),
    (["explain", "a", "b"], 2, "address with its port"),
    (["completion", "csh"], 2, "bash, zsh, fish"),
    (["version"], 0, "warren "),
])
def test_exit_statuses_and_the_next_step(arguments, status, said):
    answer = subprocess.run([warrenlab.BINARIES / "warren", *arguments], capture_output=True, text=True)
    assert answer.returncode == status
    assert said in answer.stdout + answer.stderr


def test_a_broken_manifest_is_told_with_its_place_and_nothing_is_started(up):
    (up.directory / "mesh/broken.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: [x]}\n")
    assert up.start().process.wait(20) == 2
    assert "broken.yaml:3:18" in up.errors
    assert up.calls() == []
