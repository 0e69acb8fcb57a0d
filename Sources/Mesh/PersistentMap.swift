/// A dictionary whose copies share what they have in common: a copy costs nothing, and a change to a copy of 100,000 entries four
/// small nodes. A snapshot is such a copy, and its builder goes on.
///
/// A trie over the bits of the hash, five to a level, in which a node has slots for those branches only that there are (Bagwell,
/// "Ideal Hash Trees"). All of it is made of arrays: what nobody else holds is changed in place.
struct PersistentMap<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private var root = Node()
    private(set) var count = 0

    init() {}

    subscript(key: Key) -> Value? {
        get { root.value(of: key, hash: UInt(bitPattern: key.hashValue)) }
        set {
            let hash = UInt(bitPattern: key.hashValue)
            if let newValue {
                let isNew = root.insert(Entry(hash: hash, key: key, value: newValue), at: 0)
                if isNew { count += 1 }
            } else if root.remove(key, hash: hash, at: 0) {
                count -= 1
            }
        }
    }

    var isEmpty: Bool { count == 0 }

    /// In no particular order.
    var elements: [(key: Key, value: Value)] {
        var elements: [(key: Key, value: Value)] = []
        elements.reserveCapacity(count)
        root.appendElements(to: &elements)
        return elements
    }

    var values: [Value] { elements.map(\.value) }

    private struct Entry: Sendable {
        let hash: UInt
        let key: Key
        let value: Value
    }

    private enum Slot: Sendable {
        case entry(Entry)
        case node(Node)
        /// Keys of one hash.
        case bucket([Entry])
    }

    /// How many bits of the hash choose a branch.
    private static var step: UInt { 5 }

    private struct Node: Sendable {
        /// A bit for each of 32 branches: those that have a slot, in order.
        private var taken: UInt32 = 0
        private var slots: [Slot] = []

        private static func bit(_ hash: UInt, _ shift: UInt) -> UInt32 { 1 << UInt32(hash >> shift & 31) }

        private func index(_ bit: UInt32) -> Int { (taken & (bit - 1)).nonzeroBitCount }

        func value(of key: Key, hash: UInt) -> Value? {
            var node = self
            var rest = hash
            while true {
                let bit = Self.bit(rest, 0)
                guard node.taken & bit != 0 else { return nil }
                switch node.slots[node.index(bit)] {
                case .entry(let entry):
                    return entry.hash == hash && entry.key == key ? entry.value : nil
                case .node(let next):
                    node = next
                    rest >>= PersistentMap.step
                case .bucket(let entries):
                    return entries.first { $0.hash == hash && $0.key == key }?.value
                }
            }
        }

        /// - Parameter shift: how many bits of the hash have led here.
        /// - Returns: whether the key is a new one.
        mutating func insert(_ entry: Entry, at shift: UInt) -> Bool {
            let bit = Self.bit(entry.hash, shift)
            let index = index(bit)
            guard taken & bit != 0 else {
                taken |= bit
                slots.insert(.entry(entry), at: index)
                return true
            }
            switch slots[index] {
            case .node(var node):
                // Held once, or it would be copied.
                slots[index] = .node(Node())
                let isNew = node.insert(entry, at: shift + PersistentMap.step)
                slots[index] = .node(node)
                return isNew
            case .entry(let old) where old.hash == entry.hash && old.key == entry.key:
                slots[index] = .entry(entry)
                return false
            case .entry(let old) where old.hash == entry.hash:
                slots[index] = .bucket([old, entry])
            case .entry(let old):
                slots[index] = .node(
                    Node(.entry(old), of: old.hash, beside: entry, at: shift + PersistentMap.step))
            case .bucket(var entries) where entries[0].hash == entry.hash:
                let place = entries.firstIndex { $0.key == entry.key }
                if let place { entries[place] = entry } else { entries.append(entry) }
                slots[index] = .bucket(entries)
                return place == nil
            case .bucket(let entries):
                slots[index] = .node(
                    Node(.bucket(entries), of: entries[0].hash, beside: entry, at: shift + PersistentMap.step)
                )
            }
            return true
        }

        init() {}

        /// A node for what was in one slot, and an entry of another hash.
        private init(_ slot: Slot, of hash: UInt, beside entry: Entry, at shift: UInt) {
            taken = Self.bit(hash, shift)
            slots = [slot]
            _ = insert(entry, at: shift)
        }

        /// - Returns: whether it was there.
        mutating func remove(_ key: Key, hash: UInt, at shift: UInt) -> Bool {
            let bit = Self.bit(hash, shift)
            guard taken & bit != 0 else { return false }
            let index = index(bit)
            switch slots[index] {
            case .entry(let entry):
                guard entry.hash == hash && entry.key == key else { return false }
                slots.remove(at: index)
                taken &= ~bit
            case .node(var node):
                slots[index] = .node(Node())
                let isFound = node.remove(key, hash: hash, at: shift + PersistentMap.step)
                slots[index] = node.onlyLeaf ?? .node(node)
                return isFound
            case .bucket(var entries):
                guard let place = entries.firstIndex(where: { $0.hash == hash && $0.key == key }) else {
                    return false
                }
                entries.remove(at: place)
                slots[index] = entries.count == 1 ? .entry(entries[0]) : .bucket(entries)
            }
            return true
        }

        /// What can take the place of the node: a single slot that is no node itself.
        private var onlyLeaf: Slot? {
            guard slots.count == 1 else { return nil }
            if case .node = slots[0] { return nil }
            return slots[0]
        }

        func appendElements(to elements: inout [(key: Key, value: Value)]) {
            for slot in slots {
                switch slot {
                case .entry(let entry): elements.append((entry.key, entry.value))
                case .node(let node): node.appendElements(to: &elements)
                case .bucket(let entries): elements += entries.map { ($0.key, $0.value) }
                }
            }
        }
    }
}
