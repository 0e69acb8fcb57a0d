"""Labs whose control component is pycontrol's."""

import warrenlab
from pycontrol import PyControl
from warrenlab import Lab, ask, wait


class ForeignLab(Lab):
    """Nodes of Warren under a control component that is not Warren's. `lab.foreign` is it."""

    foreign = None

    def __init__(self, nodes="ab", **options):
        super().__init__(nodes)
        self.foreign = PyControl(
            self.state, [node.name for node in self.nodes.values()], self.control_ip, 15012, self.hub.inside, **options)

    def enroll(self, *pods, **fields):
        for pod in pods:
            self.foreign.enroll(pod, **fields)

    def start(self):
        self.foreign.start()
        for node in self.nodes.values():
            node.daemon.start()
        return self.settle()

    def settle(self, timeout=20):
        """Waits until the nodes are ready, have answered everything, and every enrolled pod is captured."""
        def settled():
            for node in self.nodes.values():
                self._alive(node.daemon)
                assert node.is_ready(), node.status()["pending"]
            waiting = self.foreign.uncaptured()
            assert not waiting, waiting
            return self.foreign.is_settled(*(node.name for node in self.nodes.values()))

        wait(settled, "the mesh has settled", timeout)
        return self

    def late_pod(self, qualified_name, node, **fields):
        """A pod that joins a mesh that runs already."""
        pod = self.pod(qualified_name, node)
        self.enroll(pod, **fields)
        wait(lambda: self.foreign.is_captured(pod), f"{qualified_name} is captured")
        return pod

    def stream(self, letter):
        return wait(lambda: self.foreign.stream(self.nodes[letter].name), f"a stream of node {letter}")

    def dump(self, letter):
        code, body = ask(self.nodes[letter].socket, "/config_dump")
        assert code == 200, body
        return body

    def known(self, letter):
        """What a node's dump holds: {"workloads": {uid: …}, "services": {ns/hostname: …}, "policies": {ns/name: …}}."""
        dump = self.dump(letter)
        return {
            "workloads": {one["uid"]: one for one in dump["workloads"]},
            "services": {f"{one['namespace']}/{one['hostname']}": one for one in dump["services"]},
            "policies": {f"{one['namespace']}/{one['name']}": one for one in dump["policies"]}}

    def certificate(self, letter, pod):
        """What a node's status says of a pod's certificate; {} when it does not know of one."""
        return next((one for one in self.nodes[letter].status()["certificates"]
                     if one["identity"].endswith(pod.identity)), {})

    def refusals(self, letter, *texts):
        """The lines of a node's access log that hold all these texts."""
        return [line for line in self.nodes[letter].access_log().splitlines() if all(text in line for text in texts)]

    def close(self):
        if self.foreign:
            self.foreign.stop()
        super().close()


def missing_flag(flag):
    """Whether warren-node does not know a flag."""
    return warrenlab.missing_programs("warren-node") or flag not in warrenlab.run(
        warrenlab.BINARIES / "warren-node", "--help", check=False)
