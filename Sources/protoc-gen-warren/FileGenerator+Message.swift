extension FileGenerator {
    func generate(
        _ message: DescriptorProto, fullName: String, path: [Int32], _ source: inout SourceText
    ) throws(GeneratorError) {
        var fields: [Field] = []
        for (index, field) in message.field.enumerated() {
            fields.append(try Field(field, index: index, of: message, named: fullName, types))
        }
        let byNumber = fields.sorted { $0.number < $1.number }

        source.documentation(comment(path))
        try source.block("public struct \(try localName(fullName)): Message") {
            (source) throws(GeneratorError) in
            source.line("public static var protoMessageName: String { \"\(fullName.dropFirst())\" }")
            for field in fields { try declare(field, path: path, &source) }
            try declareOneofs(of: message, fields, path: path, &source)
            source.line()
            source.line("public var unknownFields = UnknownStorage()")
            source.line()
            source.line("public init() {}")
            try generateNested(of: message, fullName: fullName, path: path, &source)
            source.line()
            try generateDecoder(byNumber, &source)
            source.line()
            try generateEncoder(byNumber, &source)
            generateStorage(fields, &source)
        }
    }

    private func declare(
        _ field: Field, path: [Int32], _ source: inout SourceText
    ) throws(GeneratorError) {
        source.line()
        source.documentation(comment(path + [2, Int32(field.index)]))
        switch field.shape {
        case .plain:
            source.line("public var \(field.name): \(field.type) = \(field.defaultValue)")
        case .list:
            source.line("public var \(field.name): [\(field.type)] = []")
        case .map(let keyType, _, let valueType, _):
            source.line("public var \(field.name): [\(keyType): \(valueType)] = [:]")
        case .present:
            let storage = "storageOf\(field.upperName)"
            try source.block("public var \(field.name): \(field.type)") { source in
                source.line("get { \(storage)\(field.isIndirect ? "?.value" : "") ?? \(field.defaultValue) }")
                source.line("set { \(storage) = \(field.isIndirect ? "Indirect(newValue)" : "newValue") }")
            }
            source.line("public var has\(field.upperName): Bool { \(storage) != nil }")
            source.line("public mutating func clear\(field.upperName)() { \(storage) = nil }")
        case .oneof(let property, let name):
            try source.block("public var \(field.name): \(field.type)") { source in
                source.line(
                    "get { if case \(Names.reference(name))(let value)? = \(property) { value } else { \(field.defaultValue) } }"
                )
                source.line("set { \(property) = \(Names.reference(name))(newValue) }")
            }
        }
    }

    private func declareOneofs(
        of message: DescriptorProto, _ fields: [Field], path: [Int32], _ source: inout SourceText
    ) throws(GeneratorError) {
        for (index, oneof) in message.oneofDecl.enumerated() {
            let property = Names.property(oneof.name)
            let members = fields.filter {
                if case .oneof(property, _) = $0.shape { true } else { false }
            }
            // The oneof that protoc makes of an `optional` field has no members here.
            guard !members.isEmpty else { continue }
            let typeName = "OneOf_" + Names.upperCamel(oneof.name)
            source.line()
            source.documentation(comment(path + [8, Int32(index)]))
            source.line("public var \(property): \(typeName)?")
            source.line()
            let isIndirect = members.contains(where: \.isIndirect)
            let kind = isIndirect ? "indirect enum" : "enum"
            try source.block("public \(kind) \(typeName): Equatable, Sendable") { source in
                for member in members { source.line("case \(member.name)(\(member.type))") }
            }
        }
    }

    private func generateNested(
        of message: DescriptorProto, fullName: String, path: [Int32], _ source: inout SourceText
    ) throws(GeneratorError) {
        for (index, declaration) in message.enumType.enumerated() {
            source.line()
            let name = fullName + "." + declaration.name
            try generate(declaration, fullName: name, path: path + [4, Int32(index)], &source)
        }
        for (index, nested) in message.nestedType.enumerated() where !nested.options.mapEntry {
            source.line()
            let name = fullName + "." + nested.name
            try generate(nested, fullName: name, path: path + [3, Int32(index)], &source)
        }
    }

    private func generateDecoder(_ fields: [Field], _ source: inout SourceText) throws(GeneratorError) {
        let signature = "public mutating func decodeField(_ tag: FieldTag, from reader: inout Reader)"
        try source.block("\(signature) throws(BinaryDecodingError)") { (source) throws(GeneratorError) in
            guard !fields.isEmpty else {
                source.line("try reader.skip(tag, into: &unknownFields)")
                return
            }
            let cases = fields.map { field in
                let patterns = field.wireTypes.map { "(\(field.number), .\($0))" }.joined(separator: ", ")
                let call =
                    switch field.shape {
                    case .plain, .present, .oneof: "read(into: &\(field.name), \(field.codec))"
                    case .list: "append(to: &\(field.name), tag, \(field.codec))"
                    case .map(_, let key, _, let value):
                        "insert(into: &\(field.name), key: \(key), value: \(value))"
                    }
                return "case \(patterns): try reader.\(call)"
            }
            source.cases(
                of: "(tag.number, tag.wireType)",
                cases + ["default: try reader.skip(tag, into: &unknownFields)"])
        }
    }

    private func generateEncoder(_ fields: [Field], _ source: inout SourceText) throws(GeneratorError) {
        try source.block("public func encodeFields(to writer: inout Writer)") { source in
            for field in fields {
                let number = field.number
                switch field.shape {
                case .plain: source.line("writer.write(\(number), \(field.name), \(field.codec))")
                case .present:
                    let value = "storageOf\(field.upperName)\(field.isIndirect ? "?.value" : "")"
                    source.line("writer.writeOptional(\(number), \(value), \(field.codec))")
                case .oneof(let property, let name):
                    source.line(
                        "if case \(Names.reference(name))(let value)? = \(property) { "
                            + "writer.writePresent(\(number), value, \(field.codec)) }")
                case .list(let isPacked):
                    let call = isPacked ? "writePacked" : "writeRepeated"
                    source.line("writer.\(call)(\(number), \(field.name), \(field.codec))")
                case .map(_, let key, _, let value):
                    source.line("writer.writeMap(\(number), \(field.name), key: \(key), value: \(value))")
                }
            }
        }
    }

    private func generateStorage(_ fields: [Field], _ source: inout SourceText) {
        var isFirst = true
        for field in fields {
            guard case .present = field.shape else { continue }
            if isFirst { source.line() }
            isFirst = false
            let type = field.isIndirect ? "Indirect<\(field.type)>" : field.type
            source.line("private var storageOf\(field.upperName): \(type)?")
        }
    }
}
