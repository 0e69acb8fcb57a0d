/// All resources of one type, at one time, with what changed on the way there.
public struct ResourceCollection: Sendable {
    public private(set) var resources: [String: PublishedResource] = [:]
    /// Grows by one with every change of the contents.
    public private(set) var generation: UInt64 = 0
    /// The latest changes, oldest first: what spares comparing tens of thousands of resources for every proxy.
    private var changes: [Change] = []
    private static let changeLimit = 64

    private struct Change {
        var touched: Set<String>
    }

    public init() {}

    public init(_ resources: some Sequence<PublishedResource>) {
        replace(with: resources)
    }

    /// Makes `resources` the contents.
    public mutating func replace(with resources: some Sequence<PublishedResource>) {
        let next = Dictionary(resources.map { ($0.name, $0) }) { first, _ in first }
        var touched: Set<String> = []
        for (name, resource) in next where self.resources[name] != resource { touched.insert(name) }
        for name in self.resources.keys where next[name] == nil { touched.insert(name) }
        guard !touched.isEmpty else { return }
        self.resources = next
        generation += 1
        changes.append(Change(touched: touched))
        if changes.count > Self.changeLimit { changes.removeFirst() }
    }

    /// What somebody who has `old` still needs: the resources that are new or different, and the names that are gone.
    public func difference(from old: ResourceCollection) -> (updated: [PublishedResource], removed: [String])
    {
        guard old.generation != generation else { return ([], []) }
        let missed = Int(clamping: generation &- old.generation)
        guard old.generation < generation, missed <= changes.count else {
            return difference(from: old.resources.mapValues(\.version))
        }
        let touched = changes.suffix(missed).reduce(into: Set<String>()) { $0.formUnion($1.touched) }
        var updated: [PublishedResource] = []
        var removed: [String] = []
        for name in touched.sorted() {
            if let resource = resources[name] {
                if old.resources[name] != resource { updated.append(resource) }
            } else if old.resources[name] != nil {
                removed.append(name)
            }
        }
        return (updated, removed)
    }

    /// The same for somebody who says by name and version what they have.
    public func difference(from versions: [String: String]) -> (
        updated: [PublishedResource], removed: [String]
    ) {
        let updated = resources.values.filter { versions[$0.name] != $0.version }.sorted { $0.name < $1.name }
        return (updated, versions.keys.filter { resources[$0] == nil }.sorted())
    }
}
