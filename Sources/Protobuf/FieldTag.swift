/// How the value that follows a tag is delimited (protobuf encoding, "Message Structure").
public enum WireType: UInt8, Sendable {
    case varint = 0
    case fixed64 = 1
    case lengthDelimited = 2
    case startGroup = 3
    case endGroup = 4
    case fixed32 = 5
}

/// What precedes a value: the number of its field, and how it is delimited.
public struct FieldTag: Hashable, Sendable {
    /// 1 ... 2^29 - 1.
    public let number: Int
    public let wireType: WireType

    @inlinable
    public init(number: Int, wireType: WireType) {
        self.number = number
        self.wireType = wireType
    }
}
