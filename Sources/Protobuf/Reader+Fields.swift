// What generated code calls, one call a field.
extension Reader {
    /// Reads a singular field: a scalar replaces the value, a message is merged into it.
    @inlinable
    public mutating func read<Codec: FieldCodec>(
        into value: inout Codec.Value, _ codec: Codec
    ) throws(BinaryDecodingError) {
        try codec.merge(into: &value, from: &self)
    }

    /// Reads an element of a repeated field, or, of numbers, a whole packed list: a reader takes either form,
    /// whatever the declaration says.
    @inlinable
    public mutating func append<Codec: FieldCodec>(
        to list: inout [Codec.Value], _ tag: FieldTag, _ codec: Codec
    ) throws(BinaryDecodingError) {
        guard tag.wireType == .lengthDelimited, codec.wireType != .lengthDelimited else {
            list.append(try readValue(codec))
            return
        }
        let range = try readDelimited()
        let outerEnd = end
        position = range.lowerBound
        end = range.upperBound
        while position < end {
            list.append(try readValue(codec))
        }
        end = outerEnd
    }

    /// Reads one entry of a map. A key that comes twice keeps its last value; a missing key or value is its default.
    @inlinable
    public mutating func insert<Key: FieldCodec, Value: FieldCodec>(
        into map: inout [Key.Value: Value.Value], key keyCodec: Key, value valueCodec: Value
    ) throws(BinaryDecodingError) where Key.Value: Hashable {
        var key = keyCodec.defaultValue
        var value = valueCodec.defaultValue
        try readNested { (reader) throws(BinaryDecodingError) in
            while let tag = try reader.nextTag() {
                switch tag.number {
                case 1 where tag.wireType == keyCodec.wireType: try keyCodec.merge(into: &key, from: &reader)
                case 2 where tag.wireType == valueCodec.wireType:
                    try valueCodec.merge(into: &value, from: &reader)
                default: try reader.skip(tag)
                }
            }
        }
        map[key] = value
    }

    @inlinable
    mutating func readValue<Codec: FieldCodec>(_ codec: Codec) throws(BinaryDecodingError) -> Codec.Value {
        var value = codec.defaultValue
        try codec.merge(into: &value, from: &self)
        return value
    }
}
