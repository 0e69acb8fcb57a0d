// What generated code calls, one call a field.
extension Writer {
    /// Writes a field without presence: nothing when it holds its default.
    @inlinable
    public mutating func write<Codec: FieldCodec>(_ number: Int, _ value: Codec.Value, _ codec: Codec) {
        guard !codec.isDefault(value) else { return }
        writePresent(number, value, codec)
    }

    /// Writes a field with presence: nothing when it is nil.
    @inlinable
    public mutating func writeOptional<Codec: FieldCodec>(
        _ number: Int, _ value: Codec.Value?, _ codec: Codec
    ) {
        guard let value else { return }
        writePresent(number, value, codec)
    }

    /// Writes a field that is set, default or not: a member of a oneof.
    @inlinable
    public mutating func writePresent<Codec: FieldCodec>(
        _ number: Int, _ value: Codec.Value, _ codec: Codec
    ) {
        writeTag(number, codec.wireType)
        codec.write(value, to: &self)
    }

    /// Writes every element with a tag of its own: strings, bytes, messages, and numbers declared `packed = false`.
    @inlinable
    public mutating func writeRepeated<Codec: FieldCodec>(
        _ number: Int, _ list: [Codec.Value], _ codec: Codec
    ) {
        for value in list { writePresent(number, value, codec) }
    }

    /// Writes numbers behind one tag.
    @inlinable
    public mutating func writePacked<Codec: FieldCodec>(
        _ number: Int, _ list: [Codec.Value], _ codec: Codec
    ) {
        guard !list.isEmpty else { return }
        writeTag(number, .lengthDelimited)
        writeNested { writer in
            for value in list { codec.write(value, to: &writer) }
        }
    }

    /// Writes a map, ordered by key: a dictionary has no order of its own, and equal messages give equal bytes.
    @inlinable
    public mutating func writeMap<Key: FieldCodec, Value: FieldCodec>(
        _ number: Int, _ map: [Key.Value: Value.Value], key keyCodec: Key, value valueCodec: Value
    ) where Key.Value: Hashable {
        for (key, value) in map.sorted(by: { keyCodec.precedes($0.key, $1.key) }) {
            writeTag(number, .lengthDelimited)
            writeNested { writer in
                writer.writePresent(1, key, keyCodec)
                writer.writePresent(2, value, valueCodec)
            }
        }
    }
}
