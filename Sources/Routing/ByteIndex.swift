/// Finds, among many byte strings, those that a text begins with, in one pass over the text: its hash grows byte by
/// byte and is looked up at every length that a key has. Each key leads to numbers in ascending order.
struct ByteIndex: Sendable {
    private struct Slot {
        var hash: UInt64 = 0
        /// In `keys`.
        var start = 0
        /// -1 marks a free slot.
        var length = -1
        /// In `numbers`.
        var first = 0
        var count = 0
    }

    private var slots: [Slot] = []
    private var keys: [UInt8] = []
    private(set) var numbers: [Int] = []
    /// By length: whether a key has it.
    private var hasLength: [Bool] = []

    init() {}

    /// - Parameter entries: key and number, the numbers of a key in ascending order.
    init(_ entries: [(key: [UInt8], number: Int)]) {
        guard !entries.isEmpty else { return }
        let grouped = Dictionary(grouping: entries, by: \.key)
        var size = 8
        while size < grouped.count * 2 { size *= 2 }
        slots = Array(repeating: Slot(), count: size)
        hasLength = Array(repeating: false, count: (grouped.keys.map(\.count).max() ?? 0) + 1)
        for (key, entries) in grouped.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            let hash = key.reduce(Self.seed, Self.step)
            var place = Self.place(of: hash, in: size)
            while slots[place].length >= 0 { place = (place + 1) & (size - 1) }
            slots[place] = Slot(
                hash: hash, start: keys.count, length: key.count, first: numbers.count, count: entries.count)
            keys += key
            numbers += entries.map(\.number)
            hasLength[key.count] = true
        }
    }

    /// Calls `visit` for every key that the text begins with, the shortest first, with where in `numbers` its own stand.
    ///
    /// - Parameter byte: the text, by position.
    @inline(__always)
    func visitPrefixes(
        count: Int, byte: (Int) -> UInt8, _ visit: (_ range: Range<Int>) -> Void
    ) {
        guard !slots.isEmpty else { return }
        var hash = Self.seed
        let limit = min(count, hasLength.count - 1)
        var length = 0
        while true {
            if hasLength[length] {
                var place = Self.place(of: hash, in: slots.count)
                while slots[place].length >= 0 {
                    if slots[place].hash == hash, slots[place].length == length,
                        isKey(slots[place].start, length, byte)
                    {
                        let first = slots[place].first
                        visit(first..<first + slots[place].count)
                        break
                    }
                    place = (place + 1) & (slots.count - 1)
                }
            }
            guard length < limit else { return }
            hash = Self.step(hash, byte(length))
            length += 1
        }
    }

    /// The first number of the key that is the whole text.
    @inline(__always)
    func number(count: Int, byte: (Int) -> UInt8) -> Int? {
        guard count < hasLength.count, hasLength[count] else { return nil }
        var hash = Self.seed
        for position in 0..<count { hash = Self.step(hash, byte(position)) }
        var place = Self.place(of: hash, in: slots.count)
        while slots[place].length >= 0 {
            if slots[place].hash == hash, slots[place].length == count, isKey(slots[place].start, count, byte)
            {
                return numbers[slots[place].first]
            }
            place = (place + 1) & (slots.count - 1)
        }
        return nil
    }

    @inline(__always)
    private func isKey(_ start: Int, _ length: Int, _ byte: (Int) -> UInt8) -> Bool {
        for position in 0..<length where keys[start + position] != byte(position) { return false }
        return true
    }

    /// FNV-1a.
    private static let seed: UInt64 = 0xcbf2_9ce4_8422_2325

    @inline(__always)
    private static func step(_ hash: UInt64, _ byte: UInt8) -> UInt64 {
        (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }

    @inline(__always)
    private static func place(of hash: UInt64, in size: Int) -> Int {
        Int(truncatingIfNeeded: hash ^ (hash >> 32)) & (size - 1)
    }
}
