"""What warren-control puts on the wire and signs, field by field, read by grpcio, protobuf and python's cryptography.

How it behaves over time is in Tests/interop/test_control.py.
"""

import datetime
import json
import signal
import socket
import ssl
import subprocess

import grpc
import meshca
import pytest
import warrenlab
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from pynode import Node
from warrenlab import ask, wait
from wireresources import ADDRESS, LOCAL_POD, POLICY, CertificateRequest, CertificateResponse, node_uri

UID = "Kubernetes//Pod/{}".format
AMBIENT = "istio.io/dataplane-mode: ambient"


def namespace(name, label=AMBIENT):
    return f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{{label}}}\n"


def pod(name, number, node="node-a", labels="", ports="", extra=""):
    space, name = name.split("/")
    return f"""\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {space}
  labels: {{{labels}}}
  annotations: {{warren.dev/netns: {name}-netns}}
spec:
  nodeName: {node}
  serviceAccountName: {name}
  containers:
  - name: main
    ports: [{ports}]
status:
  podIP: 10.1.0.{number}
  podIPs: [{{ip: 10.1.0.{number}}}, {{ip: "fd01::{number:x}"}}]
{extra}"""


SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.2.0.1
  clusterIPs: [10.2.0.1, "fd02::1"]
  ipFamilies: [IPv4, IPv6]
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: named, port: 81, targetPort: admin}
"""
STRICT = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: bank}
spec: {mtls: {mode: STRICT}}
"""
AUTHORIZATION = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - from:
    - source: {principals: ["cluster.local/ns/shop/sa/*"], notNamespaces: ["bank"]}
    to:
    - operation: {ports: ["8080"]}
    when:
    - {key: source.ip, values: ["10.1.0.0/16"]}
"""


class Control:
    def __init__(self, directory):
        self.directory = directory
        self.config, self.state, self.run = (directory / name for name in ("config", "state", "run"))
        self.config.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.process = None
        for letter in "ab":
            self.write(f"node-{letter}", f"apiVersion: v1\nkind: Node\nmetadata: {{name: node-{letter}}}\n")

    def write(self, name, text):
        temporary = self.config / f".{name}.new"
        temporary.write_text(text)
        temporary.rename(self.config / f"{name}.yaml")

    def remove(self, name):
        (self.config / f"{name}.yaml").unlink()

    def start(self):
        self.process = subprocess.Popen(
            [warrenlab.BINARIES / "warren-control", "--config", self.config, "--listen", self.address,
             "--state", self.state, "--run-directory", self.run],
            stderr=open(self.directory / "log", "ab"), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        wait(self.is_ready, "it is ready")
        return self

    def is_ready(self):
        assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
        return ask(self.run / "control.sock", "/healthz/ready")[0] == 200

    def stop(self, with_signal=signal.SIGTERM):
        self.process.send_signal(with_signal)
        return self.process.wait(10)

    def status(self):
        return ask(self.run / "control.sock")[1]

    log = property(lambda self: (self.directory / "log").read_text(errors="replace"))
    roots = property(lambda self: (self.state / "root-cert.pem").read_bytes())

    def node(self, name="node-a", **options):
        if "pair" not in options and "token" not in options:
            options["token"] = (self.state / "tokens" / name).read_text().strip()
        return Node(self.address, self.roots, name=name, **options)


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    control = Control(tmp_path_factory.mktemp("control"))
    control.write("namespaces", "---\n".join([
        namespace("shop"), namespace("bank"), namespace("legacy", "team: old"), namespace("istio-system", "")]))
    control.write("web", pod("shop/web", 1, labels="app: web, version: v2",
                             ports="{name: admin, containerPort: 9000}"))
    control.write("other", pod("shop/other", 2, node="node-b"))
    control.write("teller", pod("bank/teller", 3))
    control.write("plain", pod("legacy/plain", 4))
    control.write("service", SERVICE)
    control.write("strict", STRICT)
    control.write("policy", AUTHORIZATION)
    control.start()
    yield control
    control.stop(signal.SIGKILL)


@pytest.fixture
def node(control):
    with control.node() as node:
        yield node.open()


def workloads(node):
    node.of(ADDRESS)
    return {name: message.workload for name, (_, message) in node.held(ADDRESS).items() if message.HasField("workload")}


# --- discovery -------------------------------------------------------------------------------------------------------


def test_every_pod_is_told_as_istiod_tells_it(node):
    all_ = workloads(node)
    assert set(all_) == {UID("shop/web"), UID("shop/other"), UID("bank/teller"), UID("legacy/plain")}
    web = all_[UID("shop/web")]
    assert (web.uid, web.name, web.namespace, web.node) == (UID("shop/web"), "web", "shop", "node-a")
    assert [socket.inet_ntop(socket.AF_INET if len(one) == 4 else socket.AF_INET6, one) for one in web.addresses] == [
        "10.1.0.1", "fd01::1"]
    assert web.service_account == "web" and web.trust_domain == "" and web.network == ""
    assert web.workload_type == 2 and web.status == 0 and web.cluster_id in ("", "Kubernetes")
    assert (web.canonical_name, web.canonical_revision) == ("web", "v2")
    assert web.tunnel_protocol == 1 and all_[UID("legacy/plain")].tunnel_protocol == 0
    # The port that has a name is resolved for this pod, not in the Service.
    ports = web.services["shop/web.shop.svc.cluster.local"].ports
    assert [(port.service_port, port.target_port) for port in ports] == [(80, 8080), (81, 9000)]


def test_services_are_told_as_istiod_tells_them(node):
    node.of(ADDRESS)
    web = node.held(ADDRESS)["shop/web.shop.svc.cluster.local"][1].service
    assert (web.name, web.namespace, web.hostname) == ("web", "shop", "web.shop.svc.cluster.local")
    assert [len(address.address) for address in web.addresses] == [4, 16]
    assert [(port.service_port, port.target_port) for port in web.ports] == [(80, 8080), (81, 0)]
    assert web.canonical and web.ip_families == 3


def test_policies_are_told_as_istiod_tells_them(node):
    node.of(POLICY)
    policies = {name: message for name, (_, message) in node.held(POLICY).items()}
    web = policies["shop/web"]
    assert (web.scope, web.action, len(web.groups)) == (2, 1, 1)
    to, from_, when = (rules.matches for rules in web.groups[0].rules)
    assert list(to[0].destination_ports) == [8080]
    assert from_[0].principals[0].prefix == "cluster.local/ns/shop/sa/"
    assert from_[0].not_namespaces[0].exact == "bank"
    assert (when[0].source_ips[0].address, when[0].source_ips[0].length) == (b"\x0a\x01\0\0", 16)
    strict = policies["istio-system/istio_converted_static_strict"]
    match, = strict.groups[0].rules[0].matches
    assert strict.action == 1 and match.not_principals[0].HasField("presence")
    all_ = workloads(node)
    assert list(all_[UID("shop/web")].authorization_policies) == ["shop/web"]
    assert list(all_[UID("bank/teller")].authorization_policies) == ["istio-system/istio_converted_static_strict"]


def test_local_pods_are_those_that_are_enrolled_on_the_own_node(control, node):
    node.of(LOCAL_POD)
    mine = {message.name: message for _, message in node.held(LOCAL_POD).values()}
    assert set(mine) == {"web", "teller"}
    assert mine["web"].network_namespace.netns_name_or_path == "web-netns"
    assert mine["web"].service_account == "web" and len(mine["web"].addresses) == 2
    with control.node("node-b") as other:
        other.open().of(LOCAL_POD)
        assert {message.name for _, message in other.held(LOCAL_POD).values()} == {"other"}


def test_reports_are_shown_in_the_status(control, node):
    node.of(LOCAL_POD)
    uid = next(name for name, (_, message) in node.held(LOCAL_POD).items() if message.name == "web")

    def state():
        return next(one for one in control.status()["workloads"] if one["name"] == "web")

    node.report(uid, "STATE_CAPTURED")
    wait(lambda: state()["state"] == "captured", "it is captured")
    node.report(uid, "STATE_REFUSED", "no such namespace")
    wait(lambda: state()["state"] == "refused" and state()["reason"] == "no such namespace", "it is refused")


def test_a_refusal_is_shown_and_the_next_change_is_sent_all_the_same(control):
    with control.node(answers=False) as node:
        response = node.open(wanted=[POLICY]).of(POLICY)
        node.answer(response, "shop/web: I do not like it")

        def rejected():
            return next(one for one in control.status()["nodes"] if one["name"] == "node-a").get("rejected", "")

        wait(lambda: "I do not like it" in rejected(), "the NACK in the status")
        assert len(node.responses) == 1
        control.write("policy", AUTHORIZATION.replace("8080", "8081"))
        changed = node.of(POLICY, 2)
        assert [one.name for one in changed.resources] == ["shop/web"]
        node.answer(changed)
        wait(lambda: not rejected(), "the ACK in the status")
    control.write("policy", AUTHORIZATION)


def test_a_layer_7_deny_becomes_a_wider_one_and_a_layer_7_allow_nothing(control, node):
    node.of(POLICY)
    control.write("l7", "---\n".join(
        f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: l7-{action.lower()}, namespace: bank}}
spec:
  action: {action}
  rules:
  - to:
    - operation: {{methods: ["DELETE"]}}
""" for action in ("ALLOW", "DENY")))
    wait(lambda: {"bank/l7-allow", "bank/l7-deny"} <= set(node.held(POLICY)), "the policies")
    policies = node.held(POLICY)
    assert not policies["bank/l7-allow"][1].groups
    # One group that always matches: whoever cannot see the method denies without it.
    group, = policies["bank/l7-deny"][1].groups
    assert not group.rules
    warnings = control.status()["configuration"]["warnings"]
    assert any("l7-deny" in one and "methods" in one for one in warnings), warnings
    control.remove("l7")
    wait(lambda: not any(name.startswith("bank/l7") for name in node.held(POLICY)), "they are gone")


def test_a_type_that_nobody_knows_is_answered_with_nothing(control):
    strange = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    with control.node() as node:
        response = node.open(wanted=[strange]).of(strange)
        assert not response.resources


def test_a_message_that_is_none_ends_the_call_and_nothing_else(control):
    with control.node() as node:
        call = node.channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
            lambda raw: raw, lambda raw: raw)
        with pytest.raises(grpc.RpcError) as ended:
            list(call(iter([b"\xff\xff\xff\xff"]), metadata=node.headers))
        assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as ended:
            node.channel.unary_unary("/istio.v1.auth.IstioCertificateService/Nothing")(b"", metadata=node.headers)
        assert ended.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert control.is_ready()


# --- who may ask -----------------------------------------------------------------------------------------------------


def refused(function, *codes):
    with pytest.raises(grpc.RpcError) as error:
        function()
    assert error.value.code() in (codes or (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)), error.value


@pytest.mark.parametrize("token", [None, "", "nonsense", "warren1.bm9kZS1h.9999999999.0123456789abcdef.AAAA"])
def test_strangers_are_turned_away(control, token):
    with control.node(token=token) as node:
        assert node.open().ended() is grpc.StatusCode.UNAUTHENTICATED
        refused(node.certificate, grpc.StatusCode.UNAUTHENTICATED)


def test_a_token_that_was_changed_is_no_token(control):
    token = (control.state / "tokens" / "node-a").read_text().strip()
    parts = token.split(".")
    for index, part in enumerate(parts):
        changed = ".".join(parts[:index] + [part[:-1] + ("A" if part[-1] != "A" else "B")] + parts[index + 1:])
        with control.node(token=changed) as node:
            refused(node.certificate, grpc.StatusCode.UNAUTHENTICATED)


def pair(key, chain):
    return meshca.pem(key), "".join(chain[:-1]).encode()


def test_a_token_is_exchanged_for_a_certificate_which_then_serves(control):
    with control.node() as node:
        key, chain = node.certificate()
    with control.node(pair=pair(key, chain)) as node:
        node.open().of(ADDRESS)
        node.certificate(meshca.spiffe("shop", "web"))
        key, chain = node.certificate()
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [node_uri("node-a")]


def test_a_certificate_of_another_authority_is_refused(control, tmp_path):
    key, chain = meshca.MeshCA("elsewhere").files(tmp_path, "foreign", node_uri("node-a"))
    with control.node(pair=(key.read_bytes(), chain.read_bytes())) as node:
        assert node.open().ended() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("identity", [
    meshca.spiffe("shop", "other"), meshca.spiffe("legacy", "plain"), meshca.spiffe("shop", "nobody"),
    meshca.spiffe("shop", "web", "elsewhere.example"), meshca.spiffe("istio-system", "istiod"), node_uri("node-b"),
    node_uri("node-a"), "spiffe://cluster.local/warren/control", "cluster.local/ns/shop/sa/web", "",
    meshca.spiffe("shop", "web") + "/more", meshca.spiffe("shop", "web") + "\n"])
def test_a_node_gets_no_certificate_of(control, identity):
    with control.node() as node:
        refused(lambda: node.certificate(identity), grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.UNAUTHENTICATED)
    wait(lambda: "certificate refused" in control.log, "the audit line")


def test_a_pod_that_leaves_takes_its_identity_with_it(control):
    control.write("brief", pod("shop/brief", 8))
    with control.node() as node:
        identity = meshca.spiffe("shop", "brief")
        wait(lambda: "brief" in json.dumps(control.status()["workloads"]), "the pod is known")
        node.certificate(identity)
        control.remove("brief")
        wait(lambda: "brief" not in json.dumps(control.status()["workloads"]), "the pod is gone")
        refused(lambda: node.certificate(identity))


# --- what it issues --------------------------------------------------------------------------------------------------


def test_a_certificate_says_who_was_authenticated_and_not_what_was_asked(control):
    identity = meshca.spiffe("shop", "web")
    with control.node() as node:
        key, chain = node.certificate(identity)
    leaf, *others = [x509.load_pem_x509_certificate(one.encode()) for one in chain]
    assert leaf.public_key() == key.public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(identity)]
    assert names.critical and len(leaf.subject) == 0
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign
    purposes = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert purposes == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.datetime.now(datetime.timezone.utc)
    assert leaf.not_valid_before_utc <= now
    assert 23.5 * 3600 < (leaf.not_valid_after_utc - now).total_seconds() <= 24 * 3600
    assert leaf.serial_number.bit_length() > 64
    # The last element is the root, by which the chain verifies.
    leaf.verify_directly_issued_by(others[0])
    roots = x509.load_pem_x509_certificates(chain[-1].encode())
    assert [meshca.pem(root) for root in roots] == [
        meshca.pem(root) for root in x509.load_pem_x509_certificates(control.roots)]
    roots[0].verify_directly_issued_by(roots[0])


@pytest.mark.parametrize("life, granted", [(600, 600), (0, 86_400), (-5, 86_400), (30 * 86_400, 86_400)])
def test_life_is_what_was_asked_for_and_capped(control, life, granted):
    with control.node() as node:
        _, chain = node.certificate(meshca.spiffe("shop", "web"), life=life)
    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    remaining = (leaf.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    assert granted - 130 < remaining <= granted + 1


def test_serials_are_never_the_same(control):
    with control.node() as node:
        serials = {
            x509.load_pem_x509_certificate(node.certificate(meshca.spiffe("shop", "web"))[1][0].encode()).serial_number
            for _ in range(20)}
    assert len(serials) == 20


def broken_request(signature=True, key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    der = bytearray(made.public_bytes(serialization.Encoding.DER))
    if not signature:
        der[-1] ^= 1
    return ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")


@pytest.mark.parametrize("csr", [
    "", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    broken_request(signature=False), broken_request(key=rsa.generate_private_key(65537, 1024)), "A" * 100_000],
    ids=["empty", "nonsense", "not DER", "wrong signature", "a weak key", "long"])
def test_a_request_that_is_none_is_refused(control, csr):
    with control.node() as node:
        refused(lambda: node.certificate(meshca.spiffe("shop", "web"), csr=csr),
                grpc.StatusCode.RESOURCE_EXHAUSTED if len(csr) > 65_536 else grpc.StatusCode.INVALID_ARGUMENT)


def test_a_thousand_calls_at_once_are_answered(control):
    with control.node() as node:
        key = ec.generate_private_key(ec.SECP256R1())
        csr = broken_request(key=key)
        call = node.channel.unary_unary(
            "/istio.v1.auth.IstioCertificateService/CreateCertificate", CertificateRequest.SerializeToString,
            CertificateResponse.FromString)
        request = CertificateRequest(csr=csr)
        request.metadata.update({"ImpersonatedIdentity": meshca.spiffe("shop", "web")})
        calls = [call.future(request, metadata=node.headers, timeout=60) for _ in range(1000)]
        assert all(len(one.result().cert_chain) >= 2 for one in calls)
