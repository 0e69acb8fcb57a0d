"""What goes over the wire between a control component and a node: Google's message classes and makers of resources."""

import hashlib
import ipaddress
import pathlib
import shutil
import subprocess
import sys
import tempfile

import meshca
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOS = pathlib.Path(__file__).resolve().parents[2] / "Sources/Wire/Protos"
PREFIX = "type.googleapis.com/"
ADDRESS = PREFIX + "istio.workload.Address"
POLICY = PREFIX + "istio.security.Authorization"
LOCAL_POD = PREFIX + "warren.v1.LocalPod"
REPORT = PREFIX + "warren.v1.CaptureReport"
XDS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
CA = "istio.v1.auth.IstioCertificateService"
CLUSTER = "Kubernetes"


def _classes():
    """Message classes by full name, from the very files that Warren's own come from, in a pool of their own."""
    compiler = [shutil.which("protoc")] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory, "all.binpb")
        subprocess.run([*compiler, f"-I{PROTOS}", f"--descriptor_set_out={out}", *files], check=True)
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool, waiting = descriptor_pool.DescriptorPool(), {file.name: file for file in described.file}

    def add(name):
        if file := waiting.pop(name, None):
            for dependency in file.dependency:
                add(dependency)
            pool.AddSerializedFile(file.SerializeToString())

    for name in list(waiting):
        add(name)
    return {
        f"{file.package}.{message.name}": message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for file in described.file for message in file.message_type}


CLASSES = _classes()


def new(full_name, /, **fields):
    """A message by its full name."""
    return CLASSES[full_name](**fields)


Request = CLASSES["envoy.service.discovery.v3.DeltaDiscoveryRequest"]
Response = CLASSES["envoy.service.discovery.v3.DeltaDiscoveryResponse"]
CertificateRequest = CLASSES["istio.v1.auth.IstioCertificateRequest"]
CertificateResponse = CLASSES["istio.v1.auth.IstioCertificateResponse"]


def encoded(message):
    """Bytes for the wire; what is bytes already goes out as it is."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def packed(type_url, value):
    return new("google.protobuf.Any", type_url=type_url, value=encoded(value))


def _address(text):
    return ipaddress.ip_address(text).packed


class Resource:
    """One named thing to publish; `node` limits it to one node's streams. The contents may be any bytes."""

    def __init__(self, type_url, name, contents, node=None, version=None, inner_type=None):
        self.type_url, self.name, self.node = type_url, name, node
        self.contents = encoded(contents) if contents is not None else None
        self.inner_type = inner_type or type_url
        self.version = version or hashlib.sha256(self.contents or b"").hexdigest()[:16]

    def wire(self):
        made = new("envoy.service.discovery.v3.Resource", name=self.name, version=self.version)
        if self.contents is not None:
            made.resource.CopyFrom(packed(self.inner_type, self.contents))
        return made


def uid(pod):
    return f"{CLUSTER}//Pod/{pod.namespace}/{pod.name}"


def workload(pod, hbone=True, **fields):
    """A pod as istiod tells of it; `fields` are further ones of the message."""
    made = new("istio.workload.Workload", **{
        "uid": uid(pod), "name": pod.name, "namespace": pod.namespace,
        "addresses": [_address(pod.ip), _address(pod.ip6)], "tunnel_protocol": int(hbone),
        "service_account": pod.account, "node": pod.node.name, "workload_type": 2, "workload_name": pod.name,
        "canonical_name": pod.name, "canonical_revision": "latest", "cluster_id": CLUSTER, **fields})
    return Resource(ADDRESS, made.uid, new("istio.workload.Address", workload=made))


def service(namespace, name, vips, ports, **fields):
    hostname = f"{name}.{namespace}.svc.cluster.local"
    made = new("istio.workload.Service", **{
        "name": name, "namespace": namespace, "hostname": hostname, "canonical": True,
        "addresses": [new("istio.workload.NetworkAddress", address=_address(vip)) for vip in vips],
        "ports": [new("istio.workload.Port", service_port=port, target_port=target) for port, target in ports.items()],
        **fields})
    return Resource(ADDRESS, f"{namespace}/{hostname}", new("istio.workload.Address", service=made))


def endpoint_of(namespace, name, ports):
    """`services` of a workload that is an endpoint of this service."""
    ports = [new("istio.workload.Port", service_port=port, target_port=target) for port, target in ports.items()]
    return {f"{namespace}/{name}.{namespace}.svc.cluster.local": new("istio.workload.PortList", ports=ports)}


def policy(namespace, name, action="ALLOW", scope="NAMESPACE", matches=(), groups=None, **fields):
    """A policy of one group with one clause of these matches (each a dict of fields), or of these groups."""
    if groups is None:
        rules = new("istio.security.Rules", matches=[new("istio.security.Match", **match) for match in matches])
        groups = [new("istio.security.Group", rules=[rules])]
    made = new(
        "istio.security.Authorization", name=name, namespace=namespace, action=action, scope=scope, groups=groups,
        **fields)
    return Resource(POLICY, f"{namespace}/{name}", made)


def exactly(text):
    return new("istio.security.StringMatch", exact=text)


def local_pod(pod):
    made = new(
        "warren.v1.LocalPod", uid=uid(pod), namespace=pod.namespace, name=pod.name, service_account=pod.account,
        addresses=[_address(pod.ip), _address(pod.ip6)])
    made.network_namespace.netns_name_or_path = pod.netns_annotation
    return Resource(LOCAL_POD, made.uid, made, node=pod.node.name)


def node_uri(node):
    return f"spiffe://{meshca.TRUST_DOMAIN}/warren/node/{node}"
