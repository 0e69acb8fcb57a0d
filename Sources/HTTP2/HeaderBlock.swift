/// One field of a header block.
public struct Header: Hashable, Sendable {
    /// In lower case, as HTTP/2 has it; pseudo-headers begin with a colon.
    public var name: String
    public var value: String
    /// Its value is of this message alone. It is kept out of the compression tables, where it would push out what comes
    /// again and cost both sides its upkeep (RFC 7541 §6.2.3).
    public var isUnique: Bool

    public init(_ name: String, _ value: String, isUnique: Bool = false) {
        self.name = name
        self.value = value
        self.isUnique = isUnique
    }
}

/// The fields of a request, a response or trailers, in order (RFC 9113 §8.2, §8.3).
///
/// All bytes stand in one array, so that a block is two allocations whatever its number of fields. Values are bytes: as
/// `String` they are shown with U+FFFD where they are not UTF-8; `bytes(of:)` has them as they came.
public struct HeaderBlock: Hashable, Sendable, ExpressibleByArrayLiteral {
    struct Field: Hashable {
        var start: Int32
        var nameLength: Int32
        var valueLength: Int32
        var isUnique = false

        var name: Range<Int> { Int(start)..<Int(start + nameLength) }
        var value: Range<Int> { Int(start + nameLength)..<Int(start + nameLength + valueLength) }
    }

    private(set) var storage: [UInt8] = []
    private(set) var fields: [Field] = []

    public init() {}

    public init(arrayLiteral elements: Header...) {
        self.init(elements)
    }

    public init(_ headers: [Header]) {
        reserve(fieldCount: headers.count, byteCount: headers.count * 32)
        for header in headers { append(header) }
    }

    /// A request in the order that §8.3 demands.
    public init(method: String, scheme: String, authority: String, path: String) {
        reserve(fieldCount: 12, byteCount: 320)
        append(":method", method)
        append(":scheme", scheme)
        append(":authority", authority)
        append(":path", path)
    }

    /// A CONNECT request, which has neither scheme nor path (§8.5).
    public init(connect authority: String) {
        reserve(fieldCount: 6, byteCount: 256)
        append(":method", "CONNECT")
        append(":authority", authority)
    }

    /// A response (§8.3.2).
    public init(status: Int) {
        reserve(fieldCount: 6, byteCount: 128)
        append(":status", String(status))
    }

    public var count: Int { fields.count }
    public var isEmpty: Bool { fields.isEmpty }

    /// Adds a field. Capitals of the name become small letters; it is the caller's care that name and value are legal.
    public mutating func append(_ name: String, _ value: String) {
        let start = storage.count
        for byte in name.utf8 { storage.append((0x41...0x5a).contains(byte) ? byte | 0x20 : byte) }
        let nameLength = storage.count - start
        storage.append(contentsOf: value.utf8)
        addField(start: start, nameLength: nameLength)
    }

    public mutating func append(_ header: Header) {
        append(header.name, header.value)
        fields[fields.count - 1].isUnique = header.isUnique
    }

    /// Adds a field whose value is any bytes.
    public mutating func append(_ name: String, bytes value: some Sequence<UInt8>) {
        let start = storage.count
        for byte in name.utf8 { storage.append((0x41...0x5a).contains(byte) ? byte | 0x20 : byte) }
        let nameLength = storage.count - start
        storage.append(contentsOf: value)
        addField(start: start, nameLength: nameLength)
    }

    /// Adds a field of which both are any bytes, the name in lower case.
    public mutating func append(nameBytes name: some Sequence<UInt8>, bytes value: some Sequence<UInt8>) {
        let start = storage.count
        storage.append(contentsOf: name)
        let nameLength = storage.count - start
        storage.append(contentsOf: value)
        addField(start: start, nameLength: nameLength)
    }

    mutating func append(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) {
        let start = storage.count
        unsafe storage.append(contentsOf: name)
        unsafe storage.append(contentsOf: value)
        addField(start: start, nameLength: name.count)
    }

    mutating func reserve(fieldCount: Int, byteCount: Int) {
        fields.reserveCapacity(fieldCount)
        storage.reserveCapacity(byteCount)
    }

    private mutating func addField(start: Int, nameLength: Int) {
        fields.append(
            Field(
                start: Int32(clamping: start), nameLength: Int32(clamping: nameLength),
                valueLength: Int32(clamping: storage.count - start - nameLength)))
    }

    /// The first value of a field, or nil. `name` is in lower case.
    public subscript(name: String) -> String? {
        index(of: name).map { String(decoding: storage[fields[$0].value], as: UTF8.self) }
    }

    /// The first value of a field as the bytes that came.
    public func bytes(of name: String) -> ArraySlice<UInt8>? {
        index(of: name).map { storage[fields[$0].value] }
    }

    /// A field's name and value as the bytes that came, without making strings of them.
    public func nameBytes(at index: Int) -> ArraySlice<UInt8> { storage[fields[index].name] }
    public func valueBytes(at index: Int) -> ArraySlice<UInt8> { storage[fields[index].value] }

    /// Every value of a field, in order.
    public func values(of name: String) -> [String] {
        fields.indices.filter { self.name($0, is: name) }
            .map { String(decoding: storage[fields[$0].value], as: UTF8.self) }
    }

    public var method: String? { self[":method"] }
    public var scheme: String? { self[":scheme"] }
    public var authority: String? { self[":authority"] }
    public var path: String? { self[":path"] }

    /// The response's status, nil when there is none.
    public var status: Int? { self[":status"].flatMap { Int($0) } }

    /// The size that SETTINGS_MAX_HEADER_LIST_SIZE counts: 32 bytes for each field beside its own (§6.5.2).
    public var listSize: Int { storage.count + 32 * fields.count }

    /// Keeps these fields, in this order.
    mutating func keep(_ indices: [Int]) { fields = indices.map { fields[$0] } }

    private func index(of name: String) -> Int? {
        fields.indices.first { self.name($0, is: name) }
    }

    func name(_ index: Int, is name: String) -> Bool {
        let field = fields[index]
        return Int(field.nameLength) == name.utf8.count && storage[field.name].elementsEqual(name.utf8)
    }
}

extension HeaderBlock: RandomAccessCollection {
    public var startIndex: Int { 0 }
    public var endIndex: Int { fields.count }

    public subscript(index: Int) -> Header {
        let field = fields[index]
        return Header(
            String(decoding: storage[field.name], as: UTF8.self),
            String(decoding: storage[field.value], as: UTF8.self))
    }
}
