/// A position in the bytes of a message.
///
/// Sub-messages are read in place: their end becomes the reader's for as long as they last. Every access is checked,
/// and a reader that threw is not used again.
public struct Reader {
    @usableFromInline let bytes: [UInt8]
    @usableFromInline var position = 0
    /// Where the innermost message, or packed list, ends.
    @usableFromInline var end: Int
    @usableFromInline var depthLeft: Int
    @usableFromInline var messagesLeft: Int
    /// Where the tag of the current field begins, to keep the field when it is unknown.
    @usableFromInline var fieldStart = 0
    @usableFromInline var fieldNumber = 0

    init(_ bytes: [UInt8], options: BinaryDecodingOptions) throws(BinaryDecodingError) {
        guard bytes.count <= options.byteLimit else { throw .tooLarge(byteCount: bytes.count) }
        self.bytes = bytes
        end = bytes.count
        depthLeft = options.messageDepthLimit
        messagesLeft = options.messageCountLimit
    }

    /// The next field's tag; nil at the end of the message.
    @inlinable
    mutating func nextTag() throws(BinaryDecodingError) -> FieldTag? {
        guard position < end else { return nil }
        fieldStart = position
        let tag = try readTag()
        guard tag.wireType != .endGroup else { throw .unbalancedGroup(field: tag.number) }
        fieldNumber = tag.number
        return tag
    }

    @inlinable
    mutating func readTag() throws(BinaryDecodingError) -> FieldTag {
        let raw = try readVarint()
        guard raw <= UInt64(UInt32.max), raw >= 8, let type = WireType(rawValue: UInt8(raw & 7)) else {
            throw .malformedTag(raw)
        }
        return FieldTag(number: Int(raw >> 3), wireType: type)
    }

    @inlinable
    mutating func readVarint() throws(BinaryDecodingError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < end {
            let byte = bytes[position]
            position += 1
            // The tenth byte carries the 64th bit and nothing else.
            guard shift < 63 || byte <= 1 else { throw .malformedVarint }
            value |= UInt64(byte & 0x7f) << shift
            guard byte >= 0x80 else { return value }
            shift += 7
        }
        throw .truncated
    }

    @inlinable
    mutating func readFixed32() throws(BinaryDecodingError) -> UInt32 {
        UInt32(truncatingIfNeeded: try readLittleEndian(byteCount: 4))
    }

    @inlinable
    mutating func readFixed64() throws(BinaryDecodingError) -> UInt64 {
        try readLittleEndian(byteCount: 8)
    }

    @inlinable
    mutating func readLittleEndian(byteCount: Int) throws(BinaryDecodingError) -> UInt64 {
        guard end - position >= byteCount else { throw .truncated }
        var value: UInt64 = 0
        for offset in (0..<byteCount).reversed() {
            value = value << 8 | UInt64(bytes[position + offset])
        }
        position += byteCount
        return value
    }

    /// The range of a length-delimited value; the reader stands behind it then.
    @inlinable
    mutating func readDelimited() throws(BinaryDecodingError) -> Range<Int> {
        let length = try readVarint()
        guard length <= UInt64(end - position) else { throw .truncated }
        let start = position
        position += Int(length)
        return start..<position
    }

    @inlinable
    mutating func readBytes() throws(BinaryDecodingError) -> [UInt8] {
        Array(bytes[try readDelimited()])
    }

    @inlinable
    mutating func readString() throws(BinaryDecodingError) -> String {
        guard let text = String(validating: bytes[try readDelimited()], as: UTF8.self) else {
            throw .invalidUTF8(field: fieldNumber)
        }
        return text
    }

    /// Runs `body` with the reader confined to the length-delimited value that comes next, and counts it as a
    /// message.
    @inlinable
    mutating func readNested(
        _ body: (inout Reader) throws(BinaryDecodingError) -> Void
    ) throws(BinaryDecodingError) {
        let range = try readDelimited()
        guard depthLeft > 0 else { throw .messageDepthLimit }
        guard messagesLeft > 0 else { throw .messageCountLimit }
        let outerEnd = end
        position = range.lowerBound
        end = range.upperBound
        depthLeft -= 1
        messagesLeft -= 1
        try body(&self)
        depthLeft += 1
        end = outerEnd
    }

    /// Passes over a field and keeps it, tag included, in `storage`.
    public mutating func skip(
        _ tag: FieldTag, into storage: inout UnknownStorage
    ) throws(BinaryDecodingError) {
        let start = fieldStart
        try skip(tag)
        storage.data += bytes[start..<position]
    }

    @usableFromInline
    mutating func skip(_ tag: FieldTag) throws(BinaryDecodingError) {
        switch tag.wireType {
        case .varint: _ = try readVarint()
        case .fixed64: _ = try readFixed64()
        case .fixed32: _ = try readFixed32()
        case .lengthDelimited: _ = try readDelimited()
        case .startGroup: try skipGroup(tag.number)
        case .endGroup: throw .unbalancedGroup(field: tag.number)
        }
    }

    private mutating func skipGroup(_ number: Int) throws(BinaryDecodingError) {
        guard depthLeft > 0 else { throw .messageDepthLimit }
        depthLeft -= 1
        while true {
            let tag = try readTag()
            if tag.wireType == .endGroup {
                guard tag.number == number else { throw .unbalancedGroup(field: tag.number) }
                break
            }
            try skip(tag)
        }
        depthLeft += 1
    }
}
