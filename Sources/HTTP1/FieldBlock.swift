/// The fields of a head or of trailers in order, as the bytes that came: names in lower case, values without the white
/// space around them.
///
/// All bytes stand in one array, so that a block is two allocations whatever its number of fields.
public struct FieldBlock: Hashable, Sendable {
    private struct Field: Hashable {
        var start: Int32
        var nameLength: Int32
        var valueLength: Int32

        var name: Range<Int> { Int(start)..<Int(start) + Int(nameLength) }
        var value: Range<Int> { name.upperBound..<name.upperBound + Int(valueLength) }
    }

    private var storage: [UInt8] = []
    private var fields: [Field] = []

    public init() {}

    public var count: Int { fields.count }
    public var isEmpty: Bool { fields.isEmpty }

    public func name(at index: Int) -> ArraySlice<UInt8> { storage[fields[index].name] }
    public func value(at index: Int) -> ArraySlice<UInt8> { storage[fields[index].value] }

    /// Adds a field. Capitals of the name become small letters. Whether both are legal is checked where they are sent.
    public mutating func append(_ name: some Sequence<UInt8>, _ value: some Sequence<UInt8>) {
        if fields.isEmpty {
            fields.reserveCapacity(16)
            storage.reserveCapacity(512)
        }
        let start = storage.count
        for byte in name { storage.append(lowercased(byte)) }
        let nameLength = storage.count - start
        storage.append(contentsOf: value)
        fields.append(
            Field(
                start: Int32(clamping: start), nameLength: Int32(clamping: nameLength),
                valueLength: Int32(clamping: storage.count - start - nameLength)))
    }

    public mutating func append(_ name: String, _ value: String) { append(name.utf8, value.utf8) }

    /// The first value of a field. `name` is in lower case.
    public subscript(_ name: StaticString) -> ArraySlice<UInt8>? {
        fields.indices.first { self.name(at: $0, is: name) }.map { value(at: $0) }
    }

    public func count(of name: StaticString) -> Int {
        fields.indices.reduce(0) { self.name(at: $1, is: name) ? $0 + 1 : $0 }
    }

    public func name(at index: Int, is name: StaticString) -> Bool { equal(self.name(at: index), name) }

    /// Takes out the fields for which `condition`, given an index of the block as it was, is true.
    public mutating func removeAll(where condition: (Int) -> Bool) {
        guard let first = fields.indices.first(where: condition) else { return }
        var kept = Array(fields[..<first])
        for index in fields.indices[(first + 1)...] where !condition(index) { kept.append(fields[index]) }
        let old = self
        self = FieldBlock()
        for field in kept { append(old.storage[field.name], old.storage[field.value]) }
    }

    /// Calls `body` with each member of the comma-separated lists that a field's values are (RFC 9110 §5.6.1). Empty
    /// members are passed over.
    func forEachMember(of name: StaticString, _ body: (ArraySlice<UInt8>) throws(HTTP1Error) -> Void)
        throws(HTTP1Error)
    {
        for index in fields.indices where self.name(at: index, is: name) {
            var rest = value(at: index)
            while !rest.isEmpty {
                let end = rest.firstIndex(of: 0x2c) ?? rest.endIndex
                let member = trimmed(rest[..<end])
                if !member.isEmpty { try body(member) }
                rest = rest[min(end + 1, rest.endIndex)...]
            }
        }
    }
}
