/// The bytes of a message as they grow.
public struct Writer {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    @usableFromInline
    mutating func append(_ more: [UInt8]) {
        bytes += more
    }

    @usableFromInline
    mutating func writeTag(_ number: Int, _ wireType: WireType) {
        writeVarint(UInt64(truncatingIfNeeded: number) << 3 | UInt64(wireType.rawValue))
    }

    @usableFromInline
    mutating func writeVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    @usableFromInline
    mutating func writeFixed32(_ value: UInt32) {
        for shift in stride(from: 0, to: 32, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> UInt32(shift)))
        }
    }

    @usableFromInline
    mutating func writeFixed64(_ value: UInt64) {
        for shift in stride(from: 0, to: 64, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(shift)))
        }
    }

    @usableFromInline
    mutating func writeBytes(_ value: [UInt8]) {
        writeVarint(UInt64(value.count))
        bytes += value
    }

    @usableFromInline
    mutating func writeString(_ value: String) {
        writeVarint(UInt64(value.utf8.count))
        bytes += value.utf8
    }

    /// Writes what `body` writes, preceded by its length.
    ///
    /// One byte is kept free for the length, enough for most; a longer message is moved up. That costs a copy of what
    /// has just been written and spares a pass over every message to know its size beforehand.
    @inlinable
    mutating func writeNested(_ body: (inout Writer) -> Void) {
        let start = reserveLength()
        body(&self)
        fillLength(at: start)
    }

    @usableFromInline
    mutating func reserveLength() -> Int {
        bytes.append(0)
        return bytes.count
    }

    @usableFromInline
    mutating func fillLength(at start: Int) {
        var length = Writer()
        length.writeVarint(UInt64(bytes.count - start))
        bytes[start - 1] = length.bytes[0]
        bytes.insert(contentsOf: length.bytes.dropFirst(), at: start)
    }
}
