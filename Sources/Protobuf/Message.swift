/// A message of the protobuf language, as `protoc-gen-warren` generates it.
///
/// The names are those of Apple's SwiftProtobuf, for readers who know it.
public protocol Message: Equatable, Sendable {
    /// The full name in the language, such as `istio.workload.Workload`.
    static var protoMessageName: String { get }

    /// Fields that came over the wire and that this version does not know, kept as they were and written again.
    var unknownFields: UnknownStorage { get set }

    /// A message with every field at its default.
    init()

    /// Reads the value of the field whose tag was just read, or keeps it as unknown.
    mutating func decodeField(_ tag: FieldTag, from reader: inout Reader) throws(BinaryDecodingError)

    /// Writes the known fields that are set, in the order of their numbers.
    func encodeFields(to writer: inout Writer)
}

extension Message {
    /// Reads a message.
    ///
    /// - Throws: when `bytes` are not well-formed protobuf or exceed a limit. Unknown fields are no error.
    public init(
        serializedBytes bytes: some Sequence<UInt8>, options: BinaryDecodingOptions = .init()
    ) throws(BinaryDecodingError) {
        self.init()
        try merge(serializedBytes: bytes, options: options)
    }

    /// Merges what `bytes` hold: scalars are replaced, lists appended to, sub-messages merged.
    ///
    /// When it throws, the message is partly merged and not to be used.
    public mutating func merge(
        serializedBytes bytes: some Sequence<UInt8>, options: BinaryDecodingOptions = .init()
    ) throws(BinaryDecodingError) {
        var reader = try Reader(Array(bytes), options: options)
        try decode(from: &reader)
    }

    /// The message on the wire: known fields by number, maps by key, then the unknown fields. The same message
    /// always gives the same bytes, so that they can be compared and hashed.
    public func serializedBytes() -> [UInt8] {
        var writer = Writer()
        encode(to: &writer)
        return writer.bytes
    }

    @inlinable
    mutating func decode(from reader: inout Reader) throws(BinaryDecodingError) {
        while let tag = try reader.nextTag() {
            try decodeField(tag, from: &reader)
        }
    }

    @inlinable
    func encode(to writer: inout Writer) {
        encodeFields(to: &writer)
        writer.append(unknownFields.data)
    }
}

/// An enum of the language. Enums are open: a number without a name is kept in `UNRECOGNIZED`.
public protocol Enum: RawRepresentable<Int>, Hashable, Sendable, CaseIterable {
    /// The default: the value whose number is 0.
    init()
    init(rawValue: Int)
}

/// Fields of a message that its reader does not know, byte for byte.
public struct UnknownStorage: Hashable, Sendable {
    /// Whole fields, tags included, in the order in which they came.
    public var data: [UInt8] = []

    public init() {}
}

/// Puts a message that contains itself on the heap, for a struct cannot hold its own type.
public indirect enum Indirect<Value: Message>: Equatable, Sendable {
    case value(Value)

    public init(_ value: Value) {
        self = .value(value)
    }

    public var value: Value {
        switch self {
        case .value(let value): value
        }
    }
}
