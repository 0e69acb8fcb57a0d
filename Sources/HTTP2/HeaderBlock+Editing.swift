/// Changes to a block that is on its way through. What is taken out leaves its bytes behind in the storage, which costs less than closing the gap.
extension HeaderBlock {
    /// Whether there is such a field. `name` is in lower case.
    public func contains(_ name: String) -> Bool { indices.contains { self.name($0, is: name) } }

    /// Takes out every field of a name, in lower case.
    public mutating func remove(_ name: String) {
        guard contains(name) else { return }
        let kept = indices.filter { !self.name($0, is: name) }
        keep(kept)
    }

    /// Puts one value in place of all that a field has; a field that is not there is added behind the others, a pseudo-header before them.
    public mutating func set(_ name: String, _ value: String) { set(name, bytes: value.utf8) }

    public mutating func set(_ name: String, bytes value: some Sequence<UInt8>) {
        let places = indices.filter { self.name($0, is: name) }
        append(name, bytes: value)
        let last = count - 1
        guard let first = places.first ?? (name.utf8.first == UInt8(ascii: ":") ? pseudoCount : nil) else {
            return
        }
        var kept = indices.filter { !places.contains($0) && $0 != last }
        kept.insert(last, at: kept.firstIndex { $0 >= first } ?? kept.endIndex)
        keep(kept)
    }

    /// How many pseudo-headers it begins with.
    private var pseudoCount: Int {
        indices.first { nameBytes(at: $0).first != UInt8(ascii: ":") } ?? count - 1
    }
}
