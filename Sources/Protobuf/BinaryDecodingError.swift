/// Why bytes are not a message of the expected type.
///
/// After an error nothing of the input may be used: a message that was partly read is thrown away.
public enum BinaryDecodingError: Error, Hashable, Sendable {
    /// The input, or the sub-message it is in, ends in the middle of a value.
    case truncated
    /// A varint of more than 64 bits.
    case malformedVarint
    /// A tag whose field number or wire type does not exist.
    case malformedTag(UInt64)
    /// A group that ends without having begun, or with another number than it began with.
    case unbalancedGroup(field: Int)
    /// A `string` field that holds something else than UTF-8.
    case invalidUTF8(field: Int)
    /// More bytes than `BinaryDecodingOptions.byteLimit`.
    case tooLarge(byteCount: Int)
    /// Messages or groups nested deeper than `BinaryDecodingOptions.messageDepthLimit`.
    case messageDepthLimit
    /// More sub-messages and map entries than `BinaryDecodingOptions.messageCountLimit`.
    case messageCountLimit
}

/// How much a message may make its reader hold.
public struct BinaryDecodingOptions: Sendable {
    /// How deep messages, and groups in unknown fields, may nest. A peer's nesting is our stack.
    public var messageDepthLimit = 100
    /// How many sub-messages and map entries one message may hold in all. Two bytes on the wire are enough for an
    /// empty sub-message that takes hundreds in memory, so that a limit on bytes alone does not bound memory.
    public var messageCountLimit = 1 << 20
    /// How many bytes the whole message may have.
    public var byteLimit = 256 << 20

    public init() {}
}
