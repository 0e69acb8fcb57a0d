import Documents
import Manifests

/// The objects of a configuration, each there once.
public struct ObjectStore: Hashable, Sendable {
    public private(set) var objects: [ObjectKey: Manifest] = [:]

    public init() {}

    public init(_ manifests: some Sequence<Manifest>) {
        for manifest in manifests { insert(manifest) }
    }

    /// Puts the files of a directory together.
    ///
    /// - Returns: a problem for every object that an earlier file (by its path) defines as well; the earlier one
    ///   stands, so that the outcome does not depend on the order of changes.
    public mutating func merge(_ files: [ManifestFile]) -> [Problem] {
        var problems: [Problem] = []
        for manifest in files.flatMap(\.manifests).sorted(by: { $0.meta.position < $1.meta.position }) {
            if let earlier = objects[manifest.key] {
                problems.append(
                    Problem(
                        at: manifest.meta.position,
                        "\(manifest.key) is already defined at \(earlier.meta.position): this one is ignored")
                )
            } else {
                objects[manifest.key] = manifest
            }
        }
        return problems
    }

    public mutating func insert(_ manifest: Manifest) { objects[manifest.key] = manifest }

    public mutating func remove(_ key: ObjectKey) { objects[key] = nil }
}
