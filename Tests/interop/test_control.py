"""warren-control as a ztunnel sees it: discovery and certificates by grpcio, protobuf and OpenSSL, nothing of ours.

Builds `warren-control` itself. Needs no privileges.
"""

import json
import os
import pathlib
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests/e2e"))
import wireresources as wire  # noqa: E402
from wireresources import ADDRESS, LOCAL_POD, POLICY, REPORT, Request  # noqa: E402

NODES = "".join(
    f"---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n" for name in ("node-a", "node-b"))
MESH = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio.io/dataplane-mode: ambient}}}}
{NODES}---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


def pod(name, address, node="node-a", labels="{app: web}", extra=""):
    return f"""---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {labels}, annotations: {{warren.dev/netns: {name}}}}}
spec: {{nodeName: {node}, serviceAccountName: {name}{extra}}}
status: {{podIP: {address}}}
"""


def policy(name, spec):
    return (f"---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
            f"metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n")


def wait(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"no {what} within {seconds} s")


def free_port():
    """One that nobody listens on, from below those that the kernel gives out: nobody's connection takes it meanwhile."""
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", random.randrange(10_000, 30_000)))
            except OSError:
                continue
            return probe.getsockname()[1]


@pytest.fixture(scope="session")
def program():
    subprocess.run(["swift", "build", "--quiet", "--product", "warren-control"], cwd=ROOT, check=True)
    folder = subprocess.check_output(["swift", "build", "--show-bin-path"], cwd=ROOT, text=True).strip()
    return os.path.join(folder, "warren-control")


class Control:
    """A control component with a configuration, state and admin socket of its own."""

    def __init__(self, program, directory, *flags):
        self.program, self.directory, self.flags = program, pathlib.Path(directory), flags
        self.config = self.directory / "config"
        self.state = self.directory / "state"
        self.config.mkdir()
        self.port = free_port()
        self.process = None

    def write(self, name, text):
        """As an editor does: the new file takes the old one's place."""
        temporary = self.config / f".{name}.new"
        temporary.write_text(text)
        temporary.rename(self.config / name)

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "--config", self.config, "--state", self.state, "--run-directory", self.directory / "run",
             "--listen", f"127.0.0.1:{self.port}", *self.flags],
            stderr=open(self.directory / "log", "ab"))
        wait(lambda: self.page("/healthz/ready", check=False) == "ready\n", "ready control component")
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def page(self, path, method="GET", check=True):
        done = subprocess.run(
            ["curl", "-s", "-X", method, "--unix-socket", self.directory / "run/control.sock", f"http://control{path}"],
            capture_output=True, text=True)
        assert done.returncode == 0 or not check, self.log()
        return done.stdout

    def status(self):
        return json.loads(self.page("/status"))

    def node(self, name):
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def workload(self, name):
        return next(one for one in self.status()["workloads"] if one["name"] == name)

    def log(self):
        return (self.directory / "log").read_text()

    def token(self, node):
        return (self.state / "tokens" / node).read_text()

    @property
    def roots(self):
        return (self.state / "root-cert.pem").read_bytes()


@pytest.fixture
def control(program, tmp_path):
    control = Control(program, tmp_path)
    control.write("mesh.yaml", MESH)
    control.write("pods.yaml", pod("web", "10.0.0.1") + pod("db", "10.0.0.2", node="node-b", labels="{app: db}"))
    control.start()
    yield control
    if control.process.poll() is None:
        control.stop()


class Client:
    """What a ztunnel does, by grpcio."""

    def __init__(self, control, node="node-a", token=None, pair=None):
        self.node, self.outbox, self.responses, self.error = node, queue.Queue(), [], None
        self.headers = [("clusterid", "Kubernetes")]
        token = control.token(node) if token is None else token
        if token and not pair:
            self.headers.append(("authorization", f"Bearer {token}"))
        self.channel = grpc.secure_channel(
            f"127.0.0.1:{control.port}", grpc.ssl_channel_credentials(control.roots, *(pair or ())))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.outbox.put(None)
        self.channel.close()

    def open(self):
        call = self.channel.stream_stream(
            f"/{wire.XDS}/DeltaAggregatedResources", Request.SerializeToString, wire.Response.FromString)
        self.call = call(iter(self.outbox.get, None), metadata=self.headers)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        try:
            for response in self.call:
                self.responses.append(response)
            self.error = self.call
        except grpc.RpcError as error:
            self.error = error

    def ask(self, type_url, subscribe=(), unsubscribe=(), known=None, node_name=None):
        request = Request(
            type_url=type_url, resource_names_subscribe=subscribe, resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=known or {})
        request.node.id = f"ztunnel~10.0.0.9~{self.node}.warren-system~warren-system.svc.cluster.local"
        request.node.metadata.update({"NODE_NAME": node_name or self.node})
        self.outbox.put(request)

    def of(self, type_url, count=1):
        """The newest of at least so many responses of a type."""
        return wait(
            lambda: (mine := [one for one in self.responses if one.type_url == type_url])[count - 1:] and mine[-1],
            f"{count} responses of {type_url}")

    def answer(self, response, error=None):
        request = Request(type_url=response.type_url, response_nonce=response.nonce)
        if error is not None:
            request.error_detail.message = error
        self.outbox.put(request)

    def report(self, uid, state, reason=""):
        request = Request(type_url=REPORT)
        request.error_detail.details.append(
            wire.packed(REPORT, wire.new("warren.v1.CaptureReport", uid=uid, state=state, reason=reason)))
        self.outbox.put(request)

    def certificate(self, identity=None, life=0, csr=None):
        """(key in PEM, chain) of the CA; the request asks for what nobody may have."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cluster.local/ns/kube-system/sa/root")]),
            True).sign(key, hashes.SHA256())
        request = wire.CertificateRequest(
            csr=csr or made.public_bytes(serialization.Encoding.PEM).decode(), validity_duration=life)
        if identity:
            request.metadata.update({"ImpersonatedIdentity": identity})
        call = self.channel.unary_unary(
            f"/{wire.CA}/CreateCertificate", wire.CertificateRequest.SerializeToString,
            wire.CertificateResponse.FromString)
        answer = call(request, metadata=self.headers, timeout=10)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return pem, list(answer.cert_chain)


def names(response):
    return sorted(one.name for one in response.resources)


def contents(response, name, message):
    found = next(one for one in response.resources if one.name == name)
    return wire.CLASSES[message].FromString(found.resource.value)


def uri(pem):
    leaf = x509.load_pem_x509_certificate(pem.encode())
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier)


# Discovery


def test_a_ztunnel_gets_the_mesh(control):
    control.write("policy.yaml", policy("allow", "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/db]}}]}]}"))
    with Client(control).open() as client:
        for type_url in (ADDRESS, POLICY, LOCAL_POD):
            client.ask(type_url)
        addresses = client.of(ADDRESS)
        assert names(addresses) == [
            "Kubernetes//Pod/shop/db", "Kubernetes//Pod/shop/web", "shop/web.shop.svc.cluster.local"]
        web = contents(addresses, "Kubernetes//Pod/shop/web", "istio.workload.Address").workload
        assert web.tunnel_protocol == 1 and web.service_account == "web" and web.node == "node-a"
        assert web.trust_domain == "" and list(web.addresses) == [b"\x0a\0\0\1"]
        ports = web.services["shop/web.shop.svc.cluster.local"].ports
        assert [(port.service_port, port.target_port) for port in ports] == [(80, 8080)]
        aliases = {one.name: list(one.aliases) for one in addresses.resources}
        assert aliases["shop/web.shop.svc.cluster.local"] == ["/10.96.0.1"]
        client.answer(addresses)
        client.answer(client.of(POLICY))
        pods = client.of(LOCAL_POD)
        assert names(pods) == ["shop/web"], "the other node's pods are none of its business"
        assert contents(pods, "shop/web", "warren.v1.LocalPod").network_namespace.netns_name_or_path == "web"
        wait(lambda: any(names(one) == ["shop/allow"] for one in client.responses if one.type_url == POLICY), "policy")


def test_a_change_is_there_within_a_second(control):
    with Client(control).open() as client:
        client.ask(ADDRESS)
        client.answer(client.of(ADDRESS))
        started = time.monotonic()
        control.write("more.yaml", pod("new", "10.0.0.3"))
        response = client.of(ADDRESS, 2)
        assert time.monotonic() - started < 1
        assert names(response) == ["Kubernetes//Pod/shop/new"], "what did not change is not sent"
        client.answer(response)
        (control.config / "more.yaml").unlink()
        response = client.of(ADDRESS, 3)
        assert list(response.removed_resources) == ["Kubernetes//Pod/shop/new"] and not names(response)


def test_a_swapped_link_is_noticed(program, tmp_path):
    control = Control(program, tmp_path)
    control.config.rmdir()
    for name, text in (("one", MESH), ("two", MESH + pod("web", "10.0.0.1"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mesh.yaml").write_text(text)
    control.config.symlink_to(tmp_path / "one")
    control.start()
    try:
        (tmp_path / "link").symlink_to(tmp_path / "two")
        (tmp_path / "link").rename(control.config)
        wait(lambda: len(control.status()["workloads"]) == 1, "the pod of the other directory", 3)
    finally:
        assert control.stop() == 0


def test_changes_wait_for_the_answer_and_come_together(control):
    with Client(control).open() as client:
        client.ask(ADDRESS)
        first = client.of(ADDRESS)
        for number in range(3):
            generation = control.status()["configuration"]["generation"]
            control.write("more.yaml", pod("new", f"10.0.1.{number}"))
            wait(lambda: control.status()["configuration"]["generation"] > generation, "new generation")
        assert len(client.responses) == 1
        client.answer(first)
        response = client.of(ADDRESS, 2)
        workload = contents(response, "Kubernetes//Pod/shop/new", "istio.workload.Address").workload
        assert names(response) == ["Kubernetes//Pod/shop/new"] and workload.addresses[0] == b"\x0a\0\1\2"


def test_after_a_restart_only_what_differs_is_sent(control):
    with Client(control).open() as client:
        client.ask(ADDRESS)
        versions = {one.name: one.version for one in client.of(ADDRESS).resources}
    assert control.stop() == 0
    control.write("pods.yaml", pod("web", "10.0.0.9") + pod("extra", "10.0.0.8"))
    control.start()
    with Client(control).open() as client:
        client.ask(ADDRESS, known=versions)
        response = client.of(ADDRESS)
        assert names(response) == ["Kubernetes//Pod/shop/extra", "Kubernetes//Pod/shop/web"]
        assert list(response.removed_resources) == ["Kubernetes//Pod/shop/db"]


def test_on_demand(control):
    with Client(control, "node-b").open() as client:
        client.ask(ADDRESS, subscribe=["*"], unsubscribe=["*"])
        response = client.of(ADDRESS)
        assert names(response) == ["Kubernetes//Pod/shop/db"], "its own node's"
        client.answer(response)
        client.ask(ADDRESS, subscribe=["/10.96.0.1"])
        response = client.of(ADDRESS, 2)
        assert names(response) == ["Kubernetes//Pod/shop/web", "shop/web.shop.svc.cluster.local"]
        client.answer(response)
        client.ask(ADDRESS, subscribe=["/192.0.2.1"])
        assert list(client.of(ADDRESS, 3).removed_resources) == ["/192.0.2.1"]


def test_answers_and_reports_are_shown(control):
    with Client(control).open() as client:
        client.ask(ADDRESS)
        client.ask(LOCAL_POD)
        client.answer(client.of(ADDRESS), "Kubernetes//Pod/shop/db: a bad port")
        client.answer(client.of(LOCAL_POD))
        wait(lambda: control.node("node-a").get("rejected") == "Kubernetes//Pod/shop/db: a bad port", "NACK")
        assert control.node("node-a")["types"]["LPDS"]["state"] == "ACK"
        assert control.node("node-a")["connected"] and not control.node("node-b")["connected"]
        assert control.workload("web")["state"] == "pending"
        client.report("shop/web", "STATE_REFUSED", "not a network namespace")
        wait(lambda: control.workload("web")["state"] == "refused", "refusal")
        assert control.workload("web")["reason"] == "not a network namespace"
        client.report("shop/web", "STATE_CAPTURED")
        wait(lambda: control.workload("web")["state"] == "captured", "capture")
        client.report("shop/db", "STATE_CAPTURED")
        client.report("shop/web", "STATE_CAPTURED")
        assert control.workload("db")["state"] == "pending", "another node's pod is not its to report"
    wait(lambda: not control.node("node-a")["connected"], "end of the connection")


def test_a_broken_file_changes_nothing_and_is_named(control):
    with Client(control).open() as client:
        client.ask(ADDRESS)
        client.answer(client.of(ADDRESS))
        control.write("pods.yaml", pod("web", "10.0.0.300"))
        errors = wait(lambda: control.status()["configuration"]["errors"], "error")
        assert errors == [f'{control.config}/pods.yaml:6:17: status.podIP: "10.0.0.300" is no address of a pod']
        assert {one["name"] for one in control.status()["workloads"]} == {"web", "db"}
        control.write("pods.yaml", pod("web", "10.0.0.1"))
        assert list(client.of(ADDRESS, 2).removed_resources) == ["Kubernetes//Pod/shop/db"]
        assert control.status()["configuration"]["errors"] == []


def test_a_node_that_leaves_the_configuration_is_let_go(control):
    with Client(control, "node-b").open() as client:
        client.ask(ADDRESS)
        client.answer(client.of(ADDRESS))
        control.write("mesh.yaml", MESH.replace("name: node-b", "name: node-c"))
        error = wait(lambda: client.error, "end of the stream")
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        wait(lambda: (control.state / "tokens/node-c").exists() and not (control.state / "tokens/node-b").exists(), "tokens")


# Who may call


@pytest.mark.parametrize("token", ["", "junk", "warren1.bjE.99999999999.00.AAAA"])
def test_strangers_are_turned_away(control, token):
    with Client(control, token=token).open() as client:
        client.ask(ADDRESS)
        assert wait(lambda: client.error, "refusal").code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as refused:
            client.certificate()
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert not client.responses
    if token:
        assert token not in control.log()


def test_a_proxy_of_another_node_is_turned_away(control):
    with Client(control).open() as client:
        client.ask(ADDRESS, node_name="node-b")
        assert wait(lambda: client.error, "refusal").code() == grpc.StatusCode.PERMISSION_DENIED


def test_tokens_are_made_for_declared_nodes_and_never_logged(control):
    token = control.page("/tokens?node=node-b&ttl=60", "POST")
    with Client(control, "node-b", token=token).open() as client:
        client.ask(ADDRESS)
        assert names(client.of(ADDRESS))
    assert "no node stranger is in the configuration" in control.page("/tokens?node=stranger", "POST")
    assert "ttl has to be" in control.page("/tokens?node=node-b&ttl=0", "POST")
    assert token not in control.log() and control.token("node-a") not in control.log()


def test_a_node_has_so_many_streams(control):
    clients = [Client(control).open() for _ in range(9)]
    try:
        for client in clients:
            client.ask(ADDRESS)
        refused = wait(lambda: [client for client in clients if client.error], "refusal")
        wait(lambda: sum(bool(client.responses) for client in clients) == 8, "eight answers")
        assert [client.error.code() for client in refused] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    finally:
        for client in clients:
            client.__exit__()


# Certificates


def test_a_node_exchanges_its_token_for_a_certificate_and_goes_on_with_that(control):
    with Client(control) as client:
        key, chain = client.certificate()
    assert uri(chain[0]) == ["spiffe://cluster.local/warren/node/node-a"]
    assert chain[-1].encode() == control.roots
    with Client(control, pair=(key, chain[0].encode())).open() as client:
        client.ask(LOCAL_POD)
        assert names(client.of(LOCAL_POD)) == ["shop/web"]
        _, chain = client.certificate("spiffe://cluster.local/ns/shop/sa/web")
        assert uri(chain[0]) == ["spiffe://cluster.local/ns/shop/sa/web"]


def test_certificates_are_what_openssl_verifies(control, tmp_path):
    with Client(control) as client:
        _, chain = client.certificate("spiffe://cluster.local/ns/shop/sa/web", life=10**9)
    (tmp_path / "leaf.pem").write_text(chain[0])
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", control.state / "root-cert.pem",
         tmp_path / "leaf.pem"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert 86_400 <= life.total_seconds() <= 86_400 + 300, "capped at a day"
    shown = control.node("node-a")["certificates"]
    assert [one["identity"] for one in shown] == ["spiffe://cluster.local/ns/shop/sa/web"]
    assert 86_000 < shown[0]["remainingSeconds"] <= 86_400
    assert int(shown[0]["serialNumber"], 16) == leaf.serial_number


@pytest.mark.parametrize("identity", [
    "spiffe://cluster.local/ns/shop/sa/db", "spiffe://cluster.local/ns/shop/sa/nobody",
    "spiffe://other/ns/shop/sa/web", "spiffe://cluster.local/warren/node/node-b", "cluster.local/ns/shop/sa/web"])
def test_identities_of_others_are_refused_and_written_down(control, identity):
    with Client(control) as client, pytest.raises(grpc.RpcError) as refused:
        client.certificate(identity)
    assert refused.value.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)
    wait(lambda: "certificate refused" in control.log() and identity in control.log(), "audit line")
    assert control.status()["authority"]["refused"] == 1


def test_a_pod_that_left_the_mesh_has_no_certificate(control):
    control.write("pods.yaml", pod("web", "10.0.0.1", labels="{app: web, istio.io/dataplane-mode: none}"))
    wait(lambda: control.workload("web")["state"] == "plain", "the pod's leaving")
    with Client(control) as client, pytest.raises(grpc.RpcError) as refused:
        client.certificate("spiffe://cluster.local/ns/shop/sa/web")
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_a_workloads_certificate_opens_nothing(control):
    with Client(control) as client:
        key, chain = client.certificate("spiffe://cluster.local/ns/shop/sa/web")
    with Client(control, pair=(key, chain[0].encode())) as client, pytest.raises(grpc.RpcError) as refused:
        client.certificate()
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_what_is_no_request_is_refused(control):
    with Client(control) as client, pytest.raises(grpc.RpcError) as refused:
        client.certificate(csr="-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# The program


def test_the_root_outlives_a_restart_and_its_key_is_private(control):
    root = control.roots
    assert control.stop() == 0
    control.start()
    assert control.roots == root
    modes = {str(path.relative_to(control.state)): oct(path.stat().st_mode & 0o777)
             for path in control.state.rglob("*")}
    assert modes == {
        "root-cert.pem": "0o644", "keys": "0o700", "keys/ca-key.pem": "0o600", "keys/ca-cert.pem": "0o600",
        "keys/token-key": "0o600", "tokens": "0o700", "tokens/node-a": "0o600", "tokens/node-b": "0o600"}
    assert oct(control.state.stat().st_mode & 0o777) == "0o711"


def test_a_wrong_configuration_at_the_start_is_status_2_with_the_place(program, tmp_path):
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: A}\n---\nkind: [")
    (tmp_path / "b.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: a}\n")
    done = subprocess.run([program, "--config", tmp_path, "--check"], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path}/a.yaml:3:18: metadata.name: a name" in done.stderr
    assert f"{tmp_path}/a.yaml:6:1: did not find" in done.stderr, "told together with the document before"
    assert f"{tmp_path}/b.yaml:2:7: warning: kind: Sidecar" in done.stderr
    (tmp_path / "a.yaml").unlink()
    done = subprocess.run([program, "--config", tmp_path, "--check"], capture_output=True, text=True)
    assert done.returncode == 0 and "warning" in done.stderr
    done = subprocess.run([program, "--config", tmp_path, "--stat", "x"], capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean --state?" in done.stderr


def test_a_plugged_in_authority_signs(program, tmp_path):
    run = lambda *words: subprocess.run(["openssl", *map(str, words)], cwd=tmp_path, check=True, capture_output=True)
    extensions = tmp_path / "ca.cnf"
    extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n")
    folder = tmp_path / "state/cacerts"
    folder.mkdir(parents=True)
    for name, subject in (("root", "/O=root"), ("ca", "/O=intermediate")):
        run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}-key.pem",
            "-subj", subject, "-out", f"{name}.csr")
    run("x509", "-req", "-in", "root.csr", "-signkey", "root-key.pem", "-extfile", extensions, "-days", 30, "-out", folder / "root-cert.pem")
    run("x509", "-req", "-in", "ca.csr", "-CA", folder / "root-cert.pem", "-CAkey", "root-key.pem", "-CAcreateserial",
        "-extfile", extensions, "-days", 20, "-out", folder / "ca-cert.pem")
    (tmp_path / "ca-key.pem").rename(folder / "ca-key.pem")
    (folder / "cert-chain.pem").write_bytes((folder / "ca-cert.pem").read_bytes())
    control = Control(program, tmp_path)
    control.write("mesh.yaml", MESH + pod("web", "10.0.0.1"))
    control.start()
    try:
        assert control.roots == (folder / "root-cert.pem").read_bytes()
        with Client(control) as client:
            _, chain = client.certificate("spiffe://cluster.local/ns/shop/sa/web")
        assert len(chain) == 3, "leaf, intermediate, root"
        (tmp_path / "leaf.pem").write_text(chain[0])
        (tmp_path / "between.pem").write_text(chain[1])
        run("verify", "-x509_strict", "-CAfile", folder / "root-cert.pem", "-untrusted", "between.pem", "leaf.pem")
    finally:
        assert control.stop() == 0


def test_it_ends_in_order_while_nodes_are_connected(control):
    with Client(control).open() as client:
        client.ask(ADDRESS)
        client.of(ADDRESS)
        assert control.stop() == 0
        assert wait(lambda: client.error, "end of the stream").code() == grpc.StatusCode.UNAVAILABLE
