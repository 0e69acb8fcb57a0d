// The number types. Each differs from its neighbours in one expression a direction.

/// `int32`: a varint of the value's 64-bit two's complement.
public struct Int32Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: Int32 { 0 }
    @inlinable public func isDefault(_ value: Int32) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout Int32, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Int32(truncatingIfNeeded: try reader.readVarint())
    }
    @inlinable public func write(_ value: Int32, to writer: inout Writer) {
        writer.writeVarint(UInt64(bitPattern: Int64(value)))
    }
}

/// `int64`: a varint of the value's two's complement.
public struct Int64Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: Int64 { 0 }
    @inlinable public func isDefault(_ value: Int64) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout Int64, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Int64(bitPattern: try reader.readVarint())
    }
    @inlinable public func write(_ value: Int64, to writer: inout Writer) {
        writer.writeVarint(UInt64(bitPattern: value))
    }
}

/// `uint32`: a varint.
public struct UInt32Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: UInt32 { 0 }
    @inlinable public func isDefault(_ value: UInt32) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout UInt32, from reader: inout Reader) throws(BinaryDecodingError) {
        value = UInt32(truncatingIfNeeded: try reader.readVarint())
    }
    @inlinable public func write(_ value: UInt32, to writer: inout Writer) {
        writer.writeVarint(UInt64(value))
    }
}

/// `uint64`: a varint.
public struct UInt64Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: UInt64 { 0 }
    @inlinable public func isDefault(_ value: UInt64) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout UInt64, from reader: inout Reader) throws(BinaryDecodingError) {
        value = try reader.readVarint()
    }
    @inlinable public func write(_ value: UInt64, to writer: inout Writer) { writer.writeVarint(value) }
}

/// `sint32`: a varint, small for small negative numbers too (ZigZag).
public struct SInt32Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: Int32 { 0 }
    @inlinable public func isDefault(_ value: Int32) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout Int32, from reader: inout Reader) throws(BinaryDecodingError) {
        // The bits beyond the 32nd go first, or they would come back in through the shift.
        let raw = UInt32(truncatingIfNeeded: try reader.readVarint())
        value = Int32(truncatingIfNeeded: zigZagDecoded(UInt64(raw)))
    }
    @inlinable public func write(_ value: Int32, to writer: inout Writer) {
        writer.writeVarint(zigZagEncoded(Int64(value)))
    }
}

/// `sint64`: a varint, small for small negative numbers too (ZigZag).
public struct SInt64Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: Int64 { 0 }
    @inlinable public func isDefault(_ value: Int64) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout Int64, from reader: inout Reader) throws(BinaryDecodingError) {
        value = zigZagDecoded(try reader.readVarint())
    }
    @inlinable public func write(_ value: Int64, to writer: inout Writer) {
        writer.writeVarint(zigZagEncoded(value))
    }
}

/// `fixed32`: four bytes, little-endian.
public struct Fixed32Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .fixed32 }
    @inlinable public var defaultValue: UInt32 { 0 }
    @inlinable public func isDefault(_ value: UInt32) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout UInt32, from reader: inout Reader) throws(BinaryDecodingError) {
        value = try reader.readFixed32()
    }
    @inlinable public func write(_ value: UInt32, to writer: inout Writer) { writer.writeFixed32(value) }
}

/// `fixed64`: eight bytes, little-endian.
public struct Fixed64Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .fixed64 }
    @inlinable public var defaultValue: UInt64 { 0 }
    @inlinable public func isDefault(_ value: UInt64) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout UInt64, from reader: inout Reader) throws(BinaryDecodingError) {
        value = try reader.readFixed64()
    }
    @inlinable public func write(_ value: UInt64, to writer: inout Writer) { writer.writeFixed64(value) }
}

/// `sfixed32`: four bytes, little-endian.
public struct SFixed32Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .fixed32 }
    @inlinable public var defaultValue: Int32 { 0 }
    @inlinable public func isDefault(_ value: Int32) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout Int32, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Int32(bitPattern: try reader.readFixed32())
    }
    @inlinable public func write(_ value: Int32, to writer: inout Writer) {
        writer.writeFixed32(UInt32(bitPattern: value))
    }
}

/// `sfixed64`: eight bytes, little-endian.
public struct SFixed64Codec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .fixed64 }
    @inlinable public var defaultValue: Int64 { 0 }
    @inlinable public func isDefault(_ value: Int64) -> Bool { value == 0 }
    @inlinable
    public func merge(into value: inout Int64, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Int64(bitPattern: try reader.readFixed64())
    }
    @inlinable public func write(_ value: Int64, to writer: inout Writer) {
        writer.writeFixed64(UInt64(bitPattern: value))
    }
}

/// `float`: IEEE 754, four bytes.
public struct FloatCodec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .fixed32 }
    @inlinable public var defaultValue: Float { 0 }
    @inlinable public func isDefault(_ value: Float) -> Bool { value.bitPattern == 0 }
    @inlinable
    public func merge(into value: inout Float, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Float(bitPattern: try reader.readFixed32())
    }
    @inlinable public func write(_ value: Float, to writer: inout Writer) {
        writer.writeFixed32(value.bitPattern)
    }
}

/// `double`: IEEE 754, eight bytes.
public struct DoubleCodec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .fixed64 }
    @inlinable public var defaultValue: Double { 0 }
    @inlinable public func isDefault(_ value: Double) -> Bool { value.bitPattern == 0 }
    @inlinable
    public func merge(into value: inout Double, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Double(bitPattern: try reader.readFixed64())
    }
    @inlinable public func write(_ value: Double, to writer: inout Writer) {
        writer.writeFixed64(value.bitPattern)
    }
}

/// ZigZag: 0, -1, 1, -2, … travel as 0, 1, 2, 3, …
@inlinable
func zigZagDecoded(_ raw: UInt64) -> Int64 {
    Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
}

@inlinable
func zigZagEncoded(_ value: Int64) -> UInt64 {
    UInt64(bitPattern: value << 1 ^ value >> 63)
}
