import Documents
import Manifests

/// Whether pods ask for encryption also on their own node: `warren.dev/same-node: encrypt`, a label or an annotation, on the
/// Pod or its Namespace. No pod can opt out of what its namespace asks for, and what is no valid value is taken for a
/// wish to be safe.
extension ObjectIndex {
    private static var sameNodeKey: String { "warren.dev/same-node" }

    func encryptsOnSameNode(_ pod: PodManifest) -> Bool {
        Self.asksForEncryption(pod.meta)
            || namespaces[pod.meta.namespace].map { Self.asksForEncryption($0.meta) } ?? false
    }

    private static func asksForEncryption(_ meta: ObjectMeta) -> Bool {
        meta.labels[sameNodeKey] != nil || meta.annotations[sameNodeKey] != nil
    }

    func sameNodeWarnings() -> [Problem] {
        let objects =
            namespaces.values.map { ("Namespace \($0.meta.name)", $0.meta) }
            + pods.values.joined().filter { !$0.isTerminal }.map {
                ("Pod \($0.meta.namespace)/\($0.meta.name)", $0.meta)
            }
        return objects.flatMap { name, meta in
            [("label", meta.labels), ("annotation", meta.annotations)].compactMap { kind, values in
                guard let value = values[Self.sameNodeKey], value != "encrypt" else { return nil }
                return Problem(
                    .warning, at: meta.position,
                    "\(name): \(kind) \(Self.sameNodeKey) is \"\(value)\"; the only value is encrypt, and that is what it is taken for"
                )
            }
        }
    }
}
