import Documents
import Manifests

/// A wish to be safer that an object makes by a label or an annotation of ours, with the one value that there is.
///
/// No object can opt out of what its namespace asks for, and what is no valid value is taken for a wish to be safe.
struct Wish {
    let key: String
    let value: String

    func isMade(by meta: ObjectMeta) -> Bool {
        meta.labels[key] != nil || meta.annotations[key] != nil
    }

    /// On the object or its Namespace.
    func holds(for meta: ObjectMeta, _ index: ObjectIndex) -> Bool {
        isMade(by: meta) || index.namespaces[meta.namespace].map { isMade(by: $0.meta) } ?? false
    }

    /// For values that are none, on Namespaces, Pods and the other objects that may make it.
    ///
    /// - Parameter others: with how messages call them.
    func warnings(_ index: ObjectIndex, and others: [(String, ObjectMeta)] = []) -> [Problem] {
        let objects =
            index.namespaces.values.map { ("Namespace \($0.meta.name)", $0.meta) }
            + index.pods.values.joined().filter { !$0.isTerminal }.map {
                ("Pod \($0.meta.namespace)/\($0.meta.name)", $0.meta)
            }
        return (objects + others).flatMap { name, meta in
            [("label", meta.labels), ("annotation", meta.annotations)].compactMap { kind, values in
                guard let given = values[key], given != value else { return nil }
                return Problem(
                    .warning, at: meta.position,
                    "\(name): \(kind) \(key) is \"\(given)\"; the only value is \(value), and that is what it is taken for"
                )
            }
        }
    }
}
