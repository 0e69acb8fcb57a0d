"""A mesh on one machine: nodes and pods are network namespaces, everything in them is an ordinary program.

      hub: the network between the nodes, and where warren-control runs
     ┌──────────────────────────────────────────────────────────────────────┐
     │  bridge "wire"   10.98.0.254/24   fd98::fe/64    <- tcpdump listens  │
     └───────┬──────────────────────────────────────────────┬───────────────┘
             │ 10.98.0.1  fd98::1                           │ 10.98.0.2  fd98::2
     ┌───────┴───────── node a ─────────┐           ┌───────┴───────── node b ─────────┐
     │ warren-node --node a…            │           │ warren-node --node b…            │
     │ bridge "pods" 10.98.1.1/24       │           │ bridge "pods" 10.98.2.1/24       │
     │               fd98:0:0:1::1/64   │           │               fd98:0:0:2::1/64   │
     └──┬──────────────┬────────────────┘           └──┬──────────────┬────────────────┘
      eth0           eth0                            eth0           eth0
     pod 10.98.1.10  pod 10.98.1.11                 pod 10.98.2.10  pod 10.98.2.11
      fd98:0:0:1::a   fd98:0:0:1::b                  fd98:0:0:2::a   fd98:0:0:2::b

     Services have addresses from 10.98.200.0/24 and fd98:0:0:c8::/64, which exist nowhere.

Namespaces are called wlab<pid>-<number>-…: labs of different runs do not meet, and what a run left behind when it was
killed is removed by the next one. Programs under test come from WARREN_BIN (default .build/release).
"""

import contextlib
import ctypes
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import re
import resource
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("WARREN_BIN", ROOT / ".build/release"))
TRAFFIC = pathlib.Path(__file__).with_name("traffic.py")
_LIBC = ctypes.CDLL(None, use_errno=True)
_HOME = os.open("/proc/self/ns/net", os.O_RDONLY) if sys.platform == "linux" else -1
_numbers = itertools.count(1)


# --- small things ---------------------------------------------------------------------------------------------------


def missing_programs(*names):
    """Which of the programs under test are not there."""
    return [name for name in names if not os.access(BINARIES / name, os.X_OK)]


def run(*command, check=True, timeout=60, **options):
    """Runs a program of the system; its output, both streams together, as text."""
    result = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
        text=True, errors="replace", **options)
    if check and result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}")
    return result.stdout


def wait(condition, what, timeout=60.0, every=0.05):
    """Calls `condition` until it gives something true, and gives that. Exceptions count as not yet."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (OSError, AssertionError, KeyError, ValueError, RuntimeError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s; last seen: {last!r}")
        time.sleep(every)


def nonce():
    """Bytes that are nowhere by chance, printable so that they survive every protocol."""
    return b"nonce-" + os.urandom(16).hex().encode()


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path, request="/status", method="GET"):
    """An admin page by its daemon's socket: the status code and the body, decoded when it is JSON."""
    connection = UnixConnection(path)
    try:
        connection.request(method, request)
        answer = connection.getresponse()
        body = answer.read()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(body)
        return answer.status, body.decode(errors="replace")
    finally:
        connection.close()


# --- namespaces and programs -----------------------------------------------------------------------------------------


class Netns:
    """A network namespace with a name."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")
        # Addresses are usable at once: nobody else is on these links.
        self.sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")

    path = property(lambda self: f"/run/netns/{self.name}")

    def ip(self, *arguments):
        return run("ip", "-n", self.name, *arguments)

    def sysctl(self, *settings):
        with self.inside():
            for setting in settings:
                key, value = setting.split("=")
                with contextlib.suppress(FileNotFoundError):
                    pathlib.Path("/proc/sys", *key.split(".")).write_text(value)

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in the namespace meanwhile; sockets made then stay there."""
        there = os.open(self.path, os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(_HOME)
            os.close(there)

    def run(self, *command, **options):
        return run("nsenter", f"--net={self.path}", "--", *command, **options)

    def inhabitants(self):
        """The processes that are in the namespace."""
        status = os.stat(self.path)
        return _inhabitants((status.st_dev, status.st_ino))

    def delete(self):
        run("ip", "netns", "del", self.name, check=False)


def add_bridge(netns, name):
    """A bridge with a hardware address of its own. Else it has the lowest one of its ports, so another one when a port comes, and who
    knows it by the old one sends to nobody until its neighbour's entry has run out."""
    netns.ip("link", "add", "name", name, "address", "02:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(5)), "type", "bridge")


def _setns(descriptor):
    if _LIBC.setns(descriptor, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _inhabitants(identity):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{entry}/ns/net")
                if (status.st_dev, status.st_ino) == identity:
                    found.append(int(entry))
    return found


def sweep():
    """Removes the namespaces of runs that are dead, with the processes that are still in them."""
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        owner = re.match(r"wlab(\d+)-", name)
        if not owner or os.path.exists(f"/proc/{owner[1]}"):
            continue
        with contextlib.suppress(OSError):
            status, own = os.stat(f"/run/netns/{name}"), os.fstat(_HOME)
            # A name of a lab for a namespace that is not a lab's would be a mistake; not one to kill a machine by.
            if status.st_ino != own.st_ino:
                for pid in _inhabitants((status.st_dev, status.st_ino)):
                    os.kill(pid, signal.SIGKILL)
        run("ip", "netns", "del", name, check=False)


class Program:
    """A running program of a lab, with its output in files."""

    def __init__(self, lab, name, netns, command, environment=None):
        self.name, self.command = name, [str(part) for part in command]
        self.lab, self.netns, self.environment = lab, netns, environment
        self.out, self.err = lab.logs / f"{name}.out", lab.logs / f"{name}.err"
        self.process = None

    def start(self):
        namespace = os.open(self.netns.path, os.O_RDONLY)

        def enter():
            _setns(namespace)
            _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: ends with us, also when we are killed
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=enter, close_fds=True,
                start_new_session=True, env={**os.environ, **(self.environment or {})})
        os.close(namespace)
        return self

    pid = property(lambda self: self.process.pid)
    is_running = property(lambda self: self.process is not None and self.process.poll() is None)

    def stop(self, with_signal=signal.SIGTERM, timeout=15):
        """Sends the signal and waits for the end; the exit status, negative for a signal."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.name} did not end within {timeout} s of {with_signal!r}") from None
        return self.process.returncode

    def kill(self):
        return self.stop(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def wait_for(self, text, timeout=10):
        """Waits for text in what the program has printed."""
        return wait(lambda: text in self.output(), f"{text!r} from {self.name}", timeout)

    def output(self):
        return "".join(path.read_text(errors="replace") for path in (self.out, self.err) if path.exists())

    def tail(self, lines=25):
        return "\n".join(f"  {line}" for line in self.output().splitlines()[-lines:])


# --- the mesh --------------------------------------------------------------------------------------------------------


class Node:
    """A machine of the lab: routes for its pods and runs a warren-node."""

    def __init__(self, lab, letter, index):
        self.lab, self.letter, self.index = lab, letter, index
        self.name = f"node-{letter}"
        self.ip, self.ip6 = f"10.98.0.{index}", f"fd98::{index:x}"
        self.pod_count = 0
        self.netns = lab.netns(self.name)
        lab.hub.ip("link", "add", f"to-{letter}", "type", "veth", "peer", "name", "wire", "netns", self.netns.name)
        lab.hub.ip("link", "set", f"to-{letter}", "master", "wire", "up")
        for text in (f"{self.ip}/24", f"{self.ip6}/64"):
            self.netns.ip("addr", "add", text, "dev", "wire")
        self.netns.ip("link", "set", "wire", "up")
        add_bridge(self.netns, "pods")
        for text in (f"10.98.{index}.1/24", f"fd98:0:0:{index:x}::1/64"):
            self.netns.ip("addr", "add", text, "dev", "pods")
        self.netns.ip("link", "set", "pods", "up")
        self.netns.sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.daemon = Program(lab, self.name, self.netns, [
            BINARIES / "warren-node", "--node", self.name, "--control", f"{lab.control_ip}:15012",
            "--ca-root", lab.state / "root-cert.pem", "--token-file", lab.state / "tokens" / self.name,
            "--state", lab.directory / self.name, "--run-directory", lab.run_directory])

    socket = property(lambda self: self.lab.run_directory / f"{self.name}.sock")

    def route_to(self, other):
        self.netns.ip("route", "add", f"10.98.{other.index}.0/24", "via", other.ip)
        self.netns.ip("-6", "route", "add", f"fd98:0:0:{other.index:x}::/64", "via", other.ip6)

    def status(self):
        code, body = ask(self.socket)
        assert code == 200, body
        return body

    def is_ready(self):
        return ask(self.socket, "/healthz/ready")[0] == 200

    def access_log(self):
        return self.daemon.out.read_text(errors="replace") if self.daemon.out.exists() else ""

    def manifest(self):
        return (
            f"apiVersion: v1\nkind: Node\nmetadata:\n  name: {self.name}\n"
            f"  annotations:\n    warren.dev/netns: {self.netns.name}\n")


class Pod:
    """A workload: a namespace on a node's bridge, and the manifest that says so."""

    def __init__(self, lab, node, qualified_name, account=None, labels=None, netns_annotation=None):
        self.lab, self.node = lab, node
        self.namespace, self.name = qualified_name.split("/")
        self.account, self.labels = account or self.name, labels or {}
        host = 10 + node.pod_count
        node.pod_count += 1
        self.ip, self.ip6 = f"10.98.{node.index}.{host}", f"fd98:0:0:{node.index:x}::{host:x}"
        self.netns = lab.netns(f"{self.namespace}-{self.name}")
        self.netns_annotation = netns_annotation or self.netns.name
        port = f"p{host}"
        node.netns.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", self.netns.name)
        node.netns.ip("link", "set", port, "master", "pods", "up")
        for text in (f"{self.ip}/24", f"{self.ip6}/64"):
            self.netns.ip("addr", "add", text, "dev", "eth0")
        self.netns.ip("link", "set", "eth0", "up")
        self.netns.ip("route", "add", "default", "via", f"10.98.{node.index}.1")
        self.netns.ip("-6", "route", "add", "default", "via", f"fd98:0:0:{node.index:x}::1")

    qualified_name = property(lambda self: f"{self.namespace}/{self.name}")
    identity = property(lambda self: f"cluster.local/ns/{self.namespace}/sa/{self.account}")
    file = property(lambda self: f"pod-{self.namespace}-{self.name}.yaml")

    def manifest(self):
        labels = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in self.labels.items())
        return (
            f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {self.name}\n  namespace: {self.namespace}\n"
            + (f"  labels:\n{labels}" if labels else "")
            + f"  annotations:\n    warren.dev/netns: {self.netns_annotation}\n"
            f"spec:\n  nodeName: {self.node.name}\n  serviceAccountName: {self.account}\n"
            f"status:\n  podIP: {self.ip}\n  podIPs:\n  - ip: {self.ip}\n  - ip: \"{self.ip6}\"\n")

    def write(self):
        self.lab.write(self.file, self.manifest())
        return self

    def inside(self):
        return self.netns.inside()

    def run(self, *command, **options):
        return self.netns.run(*command, **options)

    def start(self, name, *command):
        return self.lab.program(f"{self.name}-{name}", self.netns, command).start()

    def serve(self):
        """Starts the servers of traffic.py: see there for what listens where."""
        program = self.start("serve", sys.executable, TRAFFIC, "serve")
        program.wait_for("ready")
        return program

    def connect(self, to, port, timeout=5.0):
        """A TCP connection out of the pod."""
        with self.inside():
            return socket.create_connection((to, port), timeout=timeout)

    def echoes(self, to, port, message=None, timeout=5.0):
        """Whether an echo server there answers; raises what the socket raises."""
        message = message or nonce()
        with self.connect(to, port, timeout) as connection:
            connection.sendall(message)
            return receive(connection, len(message)) == message

    def is_refused(self, to, port, timeout=5.0):
        """Whether an attempt to use an echo server there ends without an answer, by being closed."""
        try:
            with self.connect(to, port, timeout) as connection:
                connection.sendall(b"may I?")
                return connection.recv(100) == b""
        except (ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
            return True

    def has_rules(self):
        return "table inet warren {" in self.run("nft", "list", "ruleset")

    def captured(self):
        return any(
            one["namespace"] == self.namespace and one["name"] == self.name and one["state"] == "captured"
            for one in self.lab.status()["workloads"])


class Waypoint:
    """A Gateway of class istio-waypoint, and for each replica a pod that runs warren-waypoint."""

    def __init__(self, lab, qualified_name, nodes, labels, attach, options):
        self.lab = lab
        self.namespace, self.name = qualified_name.split("/")
        self.file = f"gateway-{self.namespace}-{self.name}.yaml"
        lab.write(self.file, (
            f"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: {self.name}\n"
            f"  namespace: {self.namespace}\n  labels: {json.dumps(labels)}\n"
            "spec:\n  gatewayClassName: istio-waypoint\n  listeners:\n  - name: mesh\n    port: 15008\n"
            f"    protocol: HBONE\n    allowedRoutes:\n      namespaces:\n        from: {attach}\n"))
        self.pods = [
            lab.pod(f"{qualified_name}-{number}", node=node, account=self.name,
                    labels={"gateway.networking.k8s.io/gateway-name": self.name})
            for number, node in enumerate(nodes, 1)]
        self.daemons = [
            lab.program(pod.name, pod.netns, [
                BINARIES / "warren-waypoint", "--name", self.name, "--namespace", self.namespace, "--pod-name", pod.name,
                "--control", f"{lab.control_ip}:15012", "--ca-root", lab.state / "root-cert.pem",
                "--token-file", lab.state / "tokens" / f"waypoint-{self.namespace}_{self.name}",
                "--state", lab.directory / f"{pod.namespace}-{pod.name}", "--run-directory", lab.run_directory, *options]) for pod in self.pods]

    identity = property(lambda self: self.pods[0].identity)

    def socket(self, index=0):
        return self.lab.run_directory / f"{self.namespace}_{self.pods[index].name}.sock"

    def start(self):
        token = self.lab.state / "tokens" / f"waypoint-{self.namespace}_{self.name}"
        wait(token.exists, "control has heard of the waypoint")
        for index, daemon in enumerate(self.daemons):
            if not daemon.is_running:
                daemon.start()
            wait(lambda: ask(self.socket(index), "/ready")[0] == 200 or self.lab._alive(daemon),
                 f"{daemon.name} is ready")
        return self

    def status(self, index=0):
        code, body = ask(self.socket(index))
        assert code == 200, body
        return body

    def access_log(self):
        return "".join(one.out.read_text(errors="replace") for one in self.daemons if one.out.exists())


class Lab:
    """Everything of one test module. Use it as a context manager; it leaves nothing behind."""

    def __init__(self, nodes="ab", cacerts=None):
        assert os.geteuid() == 0, "labs need root, for network namespaces"
        sweep()
        self.prefix = f"wlab{os.getpid()}-{next(_numbers)}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="warrenlab-"))
        # Nodes and control read only what is theirs, but the daemons give up root: directories are open to all.
        self.directory.chmod(0o755)
        self.config, self.state = self.directory / "config", self.directory / "state"
        self.run_directory, self.logs = self.directory / "run", self.directory / "logs"
        for directory in (self.config, self.state, self.run_directory, self.logs):
            directory.mkdir(mode=0o755)
        self._namespaces, self.programs, self.pods, self._vips = [], [], {}, itertools.count(1)
        self.control_ip = "10.98.0.254"
        try:
            self.hub = self.netns("hub")
            add_bridge(self.hub, "wire")
            for text in (f"{self.control_ip}/24", "fd98::fe/64"):
                self.hub.ip("addr", "add", text, "dev", "wire")
            self.hub.ip("link", "set", "wire", "up")
            command = [
                BINARIES / "warren-control", "--config", self.config, "--listen", f"{self.control_ip}:15012",
                "--state", self.state, "--run-directory", self.run_directory]
            if cacerts:
                command += ["--cacerts", cacerts]
            self.control = self.program("control", self.hub, command)
            self.nodes = {letter: Node(self, letter, index) for index, letter in enumerate(nodes, 1)}
            for node in self.nodes.values():
                self.hub.ip("route", "add", f"10.98.{node.index}.0/24", "via", node.ip)
                self.hub.ip("-6", "route", "add", f"fd98:0:0:{node.index:x}::/64", "via", node.ip6)
                for other in self.nodes.values():
                    if other is not node:
                        node.route_to(other)
                self.programs.append(node.daemon)
                self.write(f"node-{node.letter}.yaml", node.manifest())
        except BaseException:
            self.close()
            raise

    def netns(self, name):
        made = Netns(f"{self.prefix}-{name}")
        self._namespaces.append(made)
        return made

    def program(self, name, netns, command, environment=None):
        names = {one.name for one in self.programs}
        unique = next(n for n in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))) if n not in names)
        made = Program(self, unique, netns, command, environment)
        self.programs.append(made)
        return made

    # Manifests. Each file appears and changes in one step, as an editor or a deployment tool would do it.

    def write(self, file, text):
        temporary = self.config / f".{file}.new"
        temporary.write_text(text)
        temporary.rename(self.config / file)

    def remove(self, file):
        (self.config / file).unlink(missing_ok=True)

    def namespace(self, name, mode="ambient", **more):
        labels = {**({"istio.io/dataplane-mode": mode} if mode else {}), **more}
        labels = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in labels.items())
        labels = f"  labels:\n{labels}" if labels else ""
        self.write(f"namespace-{name}.yaml", f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n{labels}")

    def pod(self, qualified_name, node, **options):
        made = Pod(self, self.nodes[node], qualified_name, **options)
        self.pods[qualified_name] = made
        self.write(
            f"account-{made.namespace}-{made.account}.yaml",
            f"apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {made.account}\n  namespace: {made.namespace}\n")
        return made.write()

    def waypoint(self, qualified_name, nodes="a", labels=None, attach="Same", options=()):
        """A waypoint with a replica on each of the nodes; `start` runs it."""
        return Waypoint(self, qualified_name, nodes, labels or {}, attach, options)

    def outsider(self, name):
        """A machine on the network between the nodes that the mesh knows nothing of; its namespace and addresses."""
        host = 100 + len(self._namespaces)
        netns = self.netns(name)
        self.hub.ip("link", "add", f"o{host}", "type", "veth", "peer", "name", "eth0", "netns", netns.name)
        self.hub.ip("link", "set", f"o{host}", "master", "wire", "up")
        netns.ip("addr", "add", f"10.98.0.{host}/24", "dev", "eth0")
        netns.ip("addr", "add", f"fd98::{host:x}/64", "dev", "eth0")
        netns.ip("link", "set", "eth0", "up")
        for node in self.nodes.values():
            netns.ip("route", "add", f"10.98.{node.index}.0/24", "via", node.ip)
            netns.ip("-6", "route", "add", f"fd98:0:0:{node.index:x}::/64", "via", node.ip6)
        netns.addresses = (f"10.98.0.{host}", f"fd98::{host:x}")
        return netns

    def service(self, qualified_name, selector, ports, labels=None, protocol="port"):
        """A Service; its IPv4 and IPv6 address. What its ports' names begin with says what they are for."""
        namespace, name = qualified_name.split("/")
        number = next(self._vips)
        vip, vip6 = f"10.98.200.{number}", f"fd98:0:0:c8::{number:x}"
        self.write(
            f"service-{namespace}-{name}.yaml",
            f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n"
            + (f"  labels: {json.dumps(labels)}\n" if labels else "") + "spec:\n"
            f"  clusterIP: {vip}\n  clusterIPs:\n  - {vip}\n  - \"{vip6}\"\n  ipFamilyPolicy: PreferDualStack\n"
            "  selector:\n" + "".join(f"    {key}: {value}\n" for key, value in selector.items())
            + "  ports:\n" + "".join(
                f"  - name: {protocol}-{port}\n    port: {port}\n    targetPort: {target}\n" for port, target in ports.items()))
        return vip, vip6

    # Life.

    def start(self):
        """Starts control and all nodes and waits until every enrolled pod is captured."""
        self.start_control()
        for node in self.nodes.values():
            node.daemon.start()
        self.settle()
        return self

    def start_control(self):
        self.control.start()
        wait(lambda: ask(self.run_directory / "control.sock", "/healthz/ready")[0] == 200 or self._alive(self.control),
             "control is ready")

    @staticmethod
    def _alive(program):
        if not program.is_running:
            raise RuntimeError(f"{program.name} has ended:\n{program.tail()}")

    def status(self):
        code, body = ask(self.run_directory / "control.sock")
        assert code == 200, body
        return body

    def settle(self, timeout=20):
        """Waits until nodes are ready and no pod is on its way into the mesh or out of it."""
        def settled():
            for node in self.nodes.values():
                if node.daemon.process is not None:
                    self._alive(node.daemon)
                    if not node.is_ready():
                        return False
            states = [(one["name"], one["state"]) for one in self.status()["workloads"]]
            assert all(state != "pending" for _, state in states), states
            return True

        wait(settled, "the mesh has settled", timeout)

    def workload(self, qualified_name):
        namespace, name = qualified_name.split("/")
        return next(
            one for one in self.status()["workloads"] if (one["namespace"], one["name"]) == (namespace, name))

    def policy(self, name, text):
        """Writes a policy document; `withdraw` takes it away again."""
        self.write(f"policy-{name}.yaml", text)

    def withdraw(self, name):
        self.remove(f"policy-{name}.yaml")

    def capture(self, netns=None, interface="wire"):
        return LinkCapture(self, netns or self.hub, interface)

    def report(self):
        """The end of every log, for a test that failed."""
        return "\n".join(f"── {one.name}\n{one.tail()}" for one in self.programs if one.process is not None)

    def close(self):
        for program in reversed(self.programs):
            with contextlib.suppress(AssertionError):
                program.kill()
        for netns in reversed(self._namespaces):
            netns.delete()
        if os.environ.get("WARREN_KEEP_LOGS"):
            print(f"\nlogs are kept in {self.logs}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- traffic ---------------------------------------------------------------------------------------------------------


def receive(connection, count):
    """Exactly so many bytes, or those until the end."""
    data = bytearray()
    while len(data) < count:
        more = connection.recv(min(1 << 18, count - len(data)))
        if not more:
            break
        data += more
    return bytes(data)


def receive_all(connection):
    data = bytearray()
    while more := connection.recv(1 << 18):
        data += more
    return bytes(data)


_BLOCK = hashlib.shake_256(b"warren").digest(1 << 18)


def chunks(byte_count):
    """The same bytes for the same count everywhere, no two chunks alike."""
    for number in range((byte_count + len(_BLOCK) - 1) // len(_BLOCK)):
        chunk = struct.pack("!Q", number) + _BLOCK[8:]
        yield chunk[: min(len(chunk), byte_count - number * len(_BLOCK))]


def digest(byte_count):
    """SHA-256 of `chunks(byte_count)`."""
    sum_ = hashlib.sha256()
    for chunk in chunks(byte_count):
        sum_.update(chunk)
    return sum_.hexdigest()


# --- what was on the wire ---------------------------------------------------------------------------------------------


class LinkCapture:
    """tcpdump on an interface while the context lasts; afterwards its TCP streams, put together."""

    def __init__(self, lab, netns, interface):
        self.file = lab.directory / f"capture-{next(_numbers)}.pcap"
        self.program = lab.program("tcpdump", netns, [
            "tcpdump", "-i", interface, "-s", "0", "-U", "--immediate-mode", "-B", "65536", "-Z", "root", "-n", "-w", self.file])

    def __enter__(self):
        self.program.start()
        self.program.wait_for("listening on")
        return self

    def __exit__(self, *_):
        # Read with what is underway: until the file stands still.
        size = -1
        while size != (size := self.file.stat().st_size):
            time.sleep(0.3)
        self.program.stop(signal.SIGINT)

    def contains(self, needle):
        """Whether the bytes were on the wire, in one packet or over several."""
        return needle in self.file.read_bytes() or any(needle in stream for stream in self.streams().values())

    def streams(self):
        """{(source, source port, destination, destination port): bytes}, every direction of every connection."""
        segments = {}
        for flow, sequence, is_syn, payload in self._segments():
            # A new connection may use the ports of an old one: a SYN begins a new stream.
            runs = segments.setdefault(flow, [])
            if is_syn or not runs:
                if runs and is_syn and runs[-1][0] == sequence:
                    continue
                runs.append((sequence if is_syn else sequence - 1, []))
            if payload:
                runs[-1][1].append((sequence + is_syn, payload))
        streams = {}
        for flow, runs in segments.items():
            joined = bytearray()
            for start, parts in runs:
                joined += _joined(start + 1, parts)
            streams[flow] = bytes(joined)
        return streams

    def lost(self):
        """How many packets the kernel dropped before tcpdump saw them."""
        return int(re.search(r"(\d+) packets dropped by kernel", self.program.output())[1])

    def _segments(self):
        data = self.file.read_bytes()
        assert data[:4] == b"\xd4\xc3\xb2\xa1", "a little-endian pcap file"
        offset = 24
        while offset + 16 <= len(data):
            length = struct.unpack_from("<I", data, offset + 8)[0]
            frame = data[offset + 16: offset + 16 + length]
            offset += 16 + length
            kind = frame[12:14]
            if kind == b"\x08\x00" and frame[23] == 6:
                header = 14 + (frame[14] & 15) * 4
                end = 14 + struct.unpack_from("!H", frame, 16)[0]
                source, destination = (socket.inet_ntop(socket.AF_INET, frame[i:i + 4]) for i in (26, 30))
            elif kind == b"\x86\xdd" and frame[20] == 6:
                header, end = 54, 54 + struct.unpack_from("!H", frame, 18)[0]
                source, destination = (socket.inet_ntop(socket.AF_INET6, frame[i:i + 16]) for i in (22, 38))
            else:
                continue
            # Segmentation offload: a packet as the kernel hands it on may say 0 for "longer than 64 KiB".
            end = len(frame) if end <= header else end
            ports = struct.unpack_from("!HH", frame, header)
            sequence = struct.unpack_from("!I", frame, header + 4)[0]
            payload = frame[header + (frame[header + 12] >> 4) * 4: end]
            yield (source, ports[0], destination, ports[1]), sequence, bool(frame[header + 13] & 2), payload


def _joined(start, parts):
    """The payload of one direction in order, without what was sent twice. Gaps are left out."""
    joined, position = bytearray(), 0
    for sequence, payload in sorted((((sequence - start) & 0xFFFFFFFF, payload) for sequence, payload in parts),
                                    key=lambda part: part[0]):
        if sequence > 0x80000000 or sequence + len(payload) <= position:
            continue
        joined += payload[max(0, position - sequence):]
        position = sequence + len(payload)
    return joined


def tls_records(stream):
    """[(content type, version, length)] of a stream; raises ValueError where it is not TLS. A cut end is no error."""
    records, offset = [], 0
    while offset + 5 <= len(stream):
        kind, version, length = struct.unpack_from("!BHH", stream, offset)
        if kind not in (20, 21, 22, 23) or version not in (0x0301, 0x0303) or length > 16640:
            raise ValueError(f"not a TLS record at {offset}: {stream[offset:offset + 16]!r}")
        records.append((kind, version, length))
        offset += 5 + length
    return records
