import Documents
import Manifests

/// Whether pods ask for encryption also on their own node: `warren.dev/same-node: encrypt`, on the Pod or its Namespace.
extension ObjectIndex {
    private static var sameNode: Wish { Wish(key: "warren.dev/same-node", value: "encrypt") }

    func encryptsOnSameNode(_ pod: PodManifest) -> Bool { Self.sameNode.holds(for: pod.meta, self) }

    func sameNodeWarnings() -> [Problem] { Self.sameNode.warnings(self) }
}
