/// How the values of one type of the language travel. Codecs are empty structs: the compiler makes plain calls of them.
public protocol FieldCodec<Value>: Sendable {
    associatedtype Value: Sendable

    var wireType: WireType { get }
    var defaultValue: Value { get }

    /// Whether a field without presence that holds this value is left out.
    func isDefault(_ value: Value) -> Bool

    /// Reads a value: a scalar replaces `value`, a message is merged into it.
    func merge(into value: inout Value, from reader: inout Reader) throws(BinaryDecodingError)

    /// Writes a value, its length included, without a tag.
    func write(_ value: Value, to writer: inout Writer)

    /// The order of map keys.
    func precedes(_ first: Value, _ second: Value) -> Bool
}

extension FieldCodec {
    /// Only the types that the language allows as keys have an order.
    @inlinable public func precedes(_ first: Value, _ second: Value) -> Bool { false }
}

extension FieldCodec where Value: Comparable {
    @inlinable public func precedes(_ first: Value, _ second: Value) -> Bool { first < second }
}

/// `bool`: a varint; anything but 0 is true.
public struct BoolCodec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: Bool { false }
    @inlinable public func isDefault(_ value: Bool) -> Bool { !value }
    @inlinable
    public func merge(into value: inout Bool, from reader: inout Reader) throws(BinaryDecodingError) {
        value = try reader.readVarint() != 0
    }
    @inlinable public func write(_ value: Bool, to writer: inout Writer) { writer.writeVarint(value ? 1 : 0) }
    @inlinable public func precedes(_ first: Bool, _ second: Bool) -> Bool { !first && second }
}

/// `string`: UTF-8, checked.
public struct StringCodec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .lengthDelimited }
    @inlinable public var defaultValue: String { "" }
    @inlinable public func isDefault(_ value: String) -> Bool { value.isEmpty }
    @inlinable
    public func merge(into value: inout String, from reader: inout Reader) throws(BinaryDecodingError) {
        value = try reader.readString()
    }
    @inlinable public func write(_ value: String, to writer: inout Writer) { writer.writeString(value) }
    /// By bytes, as other implementations order them; `<` of strings follows Unicode's equivalences.
    @inlinable
    public func precedes(_ first: String, _ second: String) -> Bool {
        first.utf8.lexicographicallyPrecedes(second.utf8)
    }
}

/// `bytes`.
public struct BytesCodec: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .lengthDelimited }
    @inlinable public var defaultValue: [UInt8] { [] }
    @inlinable public func isDefault(_ value: [UInt8]) -> Bool { value.isEmpty }
    @inlinable
    public func merge(into value: inout [UInt8], from reader: inout Reader) throws(BinaryDecodingError) {
        value = try reader.readBytes()
    }
    @inlinable public func write(_ value: [UInt8], to writer: inout Writer) { writer.writeBytes(value) }
}

/// An enum: an `int32` on the wire. Numbers without a name are kept.
public struct EnumCodec<Value: Enum>: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .varint }
    @inlinable public var defaultValue: Value { Value() }
    @inlinable public func isDefault(_ value: Value) -> Bool { value.rawValue == 0 }
    @inlinable
    public func merge(into value: inout Value, from reader: inout Reader) throws(BinaryDecodingError) {
        value = Value(rawValue: Int(Int32(truncatingIfNeeded: try reader.readVarint())))
    }
    @inlinable
    public func write(_ value: Value, to writer: inout Writer) {
        writer.writeVarint(UInt64(bitPattern: Int64(value.rawValue)))
    }
}

/// A sub-message.
public struct MessageCodec<Value: Message>: FieldCodec {
    @inlinable public init() {}
    @inlinable public var wireType: WireType { .lengthDelimited }
    @inlinable public var defaultValue: Value { Value() }
    /// A message field always has presence.
    @inlinable public func isDefault(_ value: Value) -> Bool { false }
    @inlinable
    public func merge(into value: inout Value, from reader: inout Reader) throws(BinaryDecodingError) {
        try reader.readNested { (reader) throws(BinaryDecodingError) in try value.decode(from: &reader) }
    }
    @inlinable
    public func write(_ value: Value, to writer: inout Writer) {
        writer.writeNested { value.encode(to: &$0) }
    }
}

extension FieldCodec {
    @inlinable
    public static func `enum`<E: Enum>(_: E.Type = E.self) -> Self where Self == EnumCodec<E> { Self() }
    @inlinable
    public static func message<M: Message>(_: M.Type = M.self) -> Self where Self == MessageCodec<M> {
        Self()
    }
}

// So that a codec reads as a word of the language where it is used: `reader.read(into: &name, .string)`.
extension FieldCodec where Self == Int32Codec {
    @inlinable public static var int32: Self { Self() }
}
extension FieldCodec where Self == Int64Codec {
    @inlinable public static var int64: Self { Self() }
}
extension FieldCodec where Self == UInt32Codec {
    @inlinable public static var uint32: Self { Self() }
}
extension FieldCodec where Self == UInt64Codec {
    @inlinable public static var uint64: Self { Self() }
}
extension FieldCodec where Self == SInt32Codec {
    @inlinable public static var sint32: Self { Self() }
}
extension FieldCodec where Self == SInt64Codec {
    @inlinable public static var sint64: Self { Self() }
}
extension FieldCodec where Self == Fixed32Codec {
    @inlinable public static var fixed32: Self { Self() }
}
extension FieldCodec where Self == Fixed64Codec {
    @inlinable public static var fixed64: Self { Self() }
}
extension FieldCodec where Self == SFixed32Codec {
    @inlinable public static var sfixed32: Self { Self() }
}
extension FieldCodec where Self == SFixed64Codec {
    @inlinable public static var sfixed64: Self { Self() }
}
extension FieldCodec where Self == FloatCodec {
    @inlinable public static var float: Self { Self() }
}
extension FieldCodec where Self == DoubleCodec {
    @inlinable public static var double: Self { Self() }
}
extension FieldCodec where Self == BoolCodec {
    @inlinable public static var bool: Self { Self() }
}
extension FieldCodec where Self == StringCodec {
    @inlinable public static var string: Self { Self() }
}
extension FieldCodec where Self == BytesCodec {
    @inlinable public static var bytes: Self { Self() }
}
