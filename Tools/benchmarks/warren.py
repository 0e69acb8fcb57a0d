"""Warren as people run it: `warren up`, access log to a file, metrics, 50 policies, 1,000 workloads.

One mesh serves two contenders: `warren`, from node to node, and `warren-same-node`, between two pods of one node.
"""

import json
import pathlib
import shutil

from lab.mesh import Mesh
from lab.topology import processes_in

from .stage import NODE_A, NODES, Contender, pair
from .usage import resident_kib, settled

POLICY_COUNT, WORKLOAD_COUNT = 50, 1000
# A tunnel for each connection.
OWN_TUNNELS = {"WARREN_STREAMS_PER_TUNNEL": "1", "WARREN_TUNNEL_IDLE": "0s"}


def node(node):
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node.name, "annotations": {"warren.dev/netns": node.namespace}}}


def pod(pod):
    first, second = pod.addresses
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": pod.group, "labels": {"app": pod.name},
                         "annotations": {"warren.dev/netns": pod.namespace}},
            "spec": {"nodeName": pod.node.name, "serviceAccountName": pod.name,
                     "containers": [{"name": "main", "image": "none"}]},
            "status": {"podIP": first, "podIPs": [{"ip": first}, {"ip": second}]}}


def namespace(name):
    return {"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"istio.io/dataplane-mode": "ambient"}}}


def fleet(count):
    """Enrolled pods of nodes that are elsewhere, with addresses that nobody has."""
    documents = [namespace("fleet")]
    for index in range(count):
        address = f"10.98.{index // 250}.{index % 250 + 1}"
        documents.append({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": f"fleet-{index}", "namespace": "fleet", "labels": {"app": f"app-{index % 50}"}},
            "spec": {"nodeName": f"far-{index % 20}", "serviceAccountName": f"account-{index % 50}",
                     "containers": [{"name": "main", "image": "none"}]},
            "status": {"podIP": address, "podIPs": [{"ip": address}]}})
    return documents


def policies(group, clients, count):
    """So many for every pod of a namespace, all of which a connection has to be held against; the last one lets it in."""
    def policy(index, action, rule):
        return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": f"policy-{index:02}", "namespace": group},
                "spec": {"action": action, "rules": [rule]}}

    def source(**fields):
        return {"from": [{"source": fields}]}

    result = []
    for index in range(count - 1):
        other = source(principals=[f"cluster.local/ns/other-{index}/sa/somebody"])
        if index % 5 == 0:
            result.append(policy(index, "DENY", source(ipBlocks=[f"192.0.2.{index}/32"])))
        elif index % 5 == 1:
            result.append(policy(index, "DENY", {**other, "to": [{"operation": {"ports": [str(9000 + index)]}}]}))
        elif index % 5 == 2:
            result.append(policy(index, "ALLOW", source(namespaces=[f"other-{index}", "somewhere-*"])))
        else:
            result.append(policy(index, "ALLOW", other))
    principals = [f"cluster.local/ns/{group}/sa/{one.name}" for one in clients]
    return result + [policy(count - 1, "ALLOW", source(principals=principals))]


def manifests(pods, clients):
    group = pods[0].group
    strict = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
              "metadata": {"name": "default", "namespace": group}, "spec": {"mtls": {"mode": "STRICT"}}}
    accounts = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": one.name, "namespace": group}}
                for one in pods]
    return [*map(node, NODES), namespace(group), strict, *accounts, *map(pod, pods),
            *policies(group, clients, POLICY_COUNT), *fleet(WORKLOAD_COUNT)]


def write(directory, documents):
    """As JSON, which is YAML."""
    directory.mkdir()
    (directory / "mesh.yaml").write_text("---\n".join(json.dumps(document) + "\n" for document in documents))
    return directory


def daemons(node):
    """The node's daemon."""
    return [pid for pid in processes_in(node.namespace)
            if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("warren-node")]


class WarrenMesh:
    """The mesh and those of its contenders that were asked for."""

    def __init__(self, topology, directory, contenders, workers, owns_tunnels=False):
        self.topology, self.directory, self.contenders, self.workers = topology, directory, contenders, workers
        self.options = OWN_TUNNELS if owns_tunnels else {}
        self.mesh = None

    def start_empty(self):
        """Resident KiB of both daemons in a mesh without workloads, once it has settled; the mesh is gone afterwards."""
        directory = self.directory / "empty"
        directory.mkdir()
        with Mesh(self.topology, directory, write(directory / "mesh", map(node, NODES))) as mesh:
            self.up(mesh)
            result = self.resident()
        shutil.rmtree(directory)
        return result

    def up(self, mesh):
        # The daemons open it as the user that they become.
        log = mesh.directory / "connections.log"
        log.touch()
        log.chmod(0o666)
        for directory in (self.directory, mesh.directory):
            directory.chmod(0o711)
        mesh.up(environment={"WARREN_WORKERS": str(self.workers), "WARREN_ACCESS_LOG": str(log), **self.options})

    def resident(self):
        return settled(lambda: {node.name: resident_kib(daemons(node)) for node in NODES}, 12, 1)

    def __enter__(self):
        pods = [pod for one in self.contenders for pod in one.pods]
        clients = [pod for one in self.contenders for pod in (one.client, *one.neighbours[:1])]
        self.mesh = Mesh(self.topology, self.directory / "warren", write(self.directory / "mesh", manifests(pods, clients)))
        self.mesh.directory.mkdir()
        self.mesh.__enter__()
        try:
            self.up(self.mesh)
        except BaseException:
            self.mesh.__exit__()
            raise
        for one in self.contenders:
            one.pids["client"] = daemons(NODE_A)
            if one.server.node != NODE_A:
                one.pids["server"] = daemons(one.server.node)
        return self

    def __exit__(self, *_):
        self.mesh.__exit__()
        for name in ("warren", "mesh"):
            shutil.rmtree(self.directory / name)


def across(workers, has_neighbours):
    return Contender("warren", f"two node daemons, {workers} worker{'s' if workers > 1 else ''} each; access log, metrics, "
                     f"{POLICY_COUNT} policies, {WORKLOAD_COUNT:,} workloads", *pair("warren", 10), handshakes=True,
                     neighbours=pair("wneigh", 110) if has_neighbours else ())


def within(workers):
    return Contender("warren-same-node", f"both pods on one node, one daemon with {workers} worker{'s' if workers > 1 else ''}",
                     *pair("near", 12, server_node=NODE_A))
