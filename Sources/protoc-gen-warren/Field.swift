/// What the generator has to know of one field.
struct Field {
    enum Shape {
        /// A scalar that is written unless it is zero.
        case plain
        /// A message, or a scalar declared `optional`: stored as an optional.
        case present
        case oneof(property: String, case: String)
        case list(isPacked: Bool)
        case map(keyType: String, keyCodec: String, valueType: String, valueCodec: String)
    }

    let number: Int32
    /// The Swift property.
    let name: String
    /// `has…`, `clear…`, `OneOf_…`.
    let upperName: String
    /// The Swift type of one value.
    let type: String
    let codec: String
    let wireTypes: [String]
    let defaultValue: String
    let shape: Shape
    /// Whether its value may hold the message that it is in, without a list between.
    let isIndirect: Bool
    /// Position in the declaration, where its comment is found.
    let index: Int

    init(
        _ field: FieldDescriptorProto, index: Int, of message: DescriptorProto, named fullName: String,
        _ types: TypeTable
    ) throws(GeneratorError) {
        let value = try ValueType(field, types)
        let isNumber = value.wireType != "lengthDelimited"
        let name = Names.property(field.name)

        if field.label == .repeated {
            if let entry = types.messages[field.typeName], entry.options.mapEntry {
                guard entry.field.count == 2 else {
                    throw GeneratorError("\(fullName): a map entry has two fields")
                }
                let key = try ValueType(entry.field[0], types)
                let element = try ValueType(entry.field[1], types)
                shape = .map(
                    keyType: key.name, keyCodec: key.codec, valueType: element.name, valueCodec: element.codec
                )
            } else {
                let isPacked = !field.options.hasPacked || field.options.packed
                shape = .list(isPacked: isNumber && isPacked)
            }
        } else if field.hasOneofIndex, !field.proto3Optional {
            let index = Int(field.oneofIndex)
            guard message.oneofDecl.indices.contains(index) else {
                throw GeneratorError("\(fullName).\(field.name): no such oneof")
            }
            shape = .oneof(property: Names.property(message.oneofDecl[index].name), case: name)
        } else if field.type == .message || field.proto3Optional {
            shape = .present
        } else {
            shape = .plain
        }

        number = field.number
        isIndirect =
            field.type == .message && field.label != .repeated && types.holds(field.typeName, fullName)
        self.name = name
        upperName = Names.upperCamel(field.name)
        type = value.name
        codec = value.codec
        defaultValue = value.defaultValue
        if case .list = shape, isNumber {
            wireTypes = [value.wireType, "lengthDelimited"]
        } else {
            wireTypes = [value.wireType]
        }
        self.index = index
    }
}

/// How one value of a declared type looks in Swift.
private struct ValueType {
    let name: String
    let codec: String
    let wireType: String
    let defaultValue: String

    init(_ field: FieldDescriptorProto, _ types: TypeTable) throws(GeneratorError) {
        func referenced() throws(GeneratorError) -> String {
            guard let name = types.swiftNames[field.typeName] else {
                throw GeneratorError("\(field.name): unknown type \(field.typeName)")
            }
            return name
        }

        switch field.type {
        case .message:
            name = try referenced()
            (codec, wireType, defaultValue) = (".message()", "lengthDelimited", "\(name)()")
        case .enum:
            name = try referenced()
            (codec, wireType, defaultValue) = (".enum()", "varint", "\(name)()")
        case .string: (name, codec, wireType, defaultValue) = ("String", ".string", "lengthDelimited", "\"\"")
        case .bytes: (name, codec, wireType, defaultValue) = ("[UInt8]", ".bytes", "lengthDelimited", "[]")
        case .bool: (name, codec, wireType, defaultValue) = ("Bool", ".bool", "varint", "false")
        case .double: (name, codec, wireType, defaultValue) = ("Double", ".double", "fixed64", "0")
        case .float: (name, codec, wireType, defaultValue) = ("Float", ".float", "fixed32", "0")
        case .int64: (name, codec, wireType, defaultValue) = ("Int64", ".int64", "varint", "0")
        case .uint64: (name, codec, wireType, defaultValue) = ("UInt64", ".uint64", "varint", "0")
        case .int32: (name, codec, wireType, defaultValue) = ("Int32", ".int32", "varint", "0")
        case .uint32: (name, codec, wireType, defaultValue) = ("UInt32", ".uint32", "varint", "0")
        case .sint32: (name, codec, wireType, defaultValue) = ("Int32", ".sint32", "varint", "0")
        case .sint64: (name, codec, wireType, defaultValue) = ("Int64", ".sint64", "varint", "0")
        case .fixed32: (name, codec, wireType, defaultValue) = ("UInt32", ".fixed32", "fixed32", "0")
        case .fixed64: (name, codec, wireType, defaultValue) = ("UInt64", ".fixed64", "fixed64", "0")
        case .sfixed32: (name, codec, wireType, defaultValue) = ("Int32", ".sfixed32", "fixed32", "0")
        case .sfixed64: (name, codec, wireType, defaultValue) = ("Int64", ".sfixed64", "fixed64", "0")
        case .group, .unspecified, .UNRECOGNIZED:
            throw GeneratorError("\(field.name): groups and unknown field types are not part of proto3")
        }
    }
}
