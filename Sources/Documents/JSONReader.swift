import CJansson

extension Node {
    /// Reads one JSON text (RFC 8259); any value may stand at its top.
    ///
    /// - Throws: the first problem. Duplicate keys, integers beyond 64 bits and anything behind the value are
    ///   refused.
    public init(
        json bytes: [UInt8], file: String, limits: DocumentLimits = DocumentLimits()
    ) throws(Problem) {
        guard bytes.count <= limits.byteCount else {
            throw Problem(
                at: Position(file: file),
                "\(bytes.count) bytes are more than the \(limits.byteCount) read of a text")
        }
        var error = json_error_t()
        let flags = Int(JSON_REJECT_DUPLICATES) | Int(JSON_DECODE_ANY) | Int(JSON_ALLOW_NUL)
        let root = unsafe bytes.withUnsafeBytes {
            unsafe json_loadb(
                $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count, flags, &error)
        }
        guard let root = unsafe root else {
            let text = unsafe String(cString: warren_json_error_text(&error))
            let position = Position(
                file: file, line: max(0, Int(error.line)), column: max(0, Int(error.column)))
            throw Problem(at: position, text.isEmpty ? "this is not JSON" : text)
        }
        defer { unsafe warren_json_release(root) }
        var reader = JSONTree(positions: JSONPositions(bytes, file: file), limits: limits)
        self = try unsafe reader.node(root, depth: 0)
    }
}

/// Turns jansson's tree into nodes.
///
/// Jansson says what the text means but not where a value stands, so the positions come from a walk over the text in
/// step with the tree. The text is known to be JSON by then; the walk only counts.
private struct JSONTree {
    var positions: JSONPositions
    let limits: DocumentLimits
    var count = 0

    @unsafe mutating func node(_ value: UnsafeMutablePointer<json_t>, depth: Int) throws(Problem) -> Node {
        let position = positions.next()
        guard depth < limits.depth else {
            throw Problem(at: position, "nested more than \(limits.depth) levels deep")
        }
        count += 1
        guard count <= limits.nodeCount else {
            throw Problem(at: position, "more than \(limits.nodeCount) values")
        }
        switch unsafe json_type(UInt32(warren_json_type(value))) {
        case JSON_OBJECT:
            var entries: [Node.Entry] = []
            var iterator = unsafe json_object_iter(value)
            while let current = unsafe iterator {
                let key = unsafe text(json_object_iter_key(current), json_object_iter_key_len(current))
                let keyPosition = positions.next()
                guard let child = unsafe json_object_iter_value(current) else { break }
                entries.append(
                    Node.Entry(
                        key: key, keyPosition: keyPosition, value: try unsafe node(child, depth: depth + 1)))
                unsafe iterator = json_object_iter_next(value, current)
            }
            return Node(.mapping(entries), at: position)
        case JSON_ARRAY:
            var elements: [Node] = []
            for index in 0..<(unsafe json_array_size(value)) {
                guard let child = unsafe json_array_get(value, index) else { break }
                elements.append(try unsafe node(child, depth: depth + 1))
            }
            return Node(.sequence(elements), at: position)
        case JSON_STRING:
            return Node(
                .string(unsafe text(json_string_value(value), json_string_length(value))), at: position)
        case JSON_INTEGER: return Node(.integer(Int64(unsafe json_integer_value(value))), at: position)
        case JSON_REAL: return Node(.number(unsafe json_real_value(value)), at: position)
        case JSON_TRUE: return Node(.boolean(true), at: position)
        case JSON_FALSE: return Node(.boolean(false), at: position)
        default: return Node(.null, at: position)
        }
    }

    @unsafe private func text(_ start: UnsafePointer<CChar>?, _ byteCount: Int) -> String {
        guard let start = unsafe start else { return "" }
        return unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: byteCount), as: UTF8.self)
    }
}

/// The places of a valid JSON text's values and keys, one after the other.
private struct JSONPositions {
    private let bytes: [UInt8]
    private let file: String
    private var offset = 0
    private var line = 1
    private var column = 1

    init(_ bytes: [UInt8], file: String) {
        self.bytes = bytes
        self.file = file
    }

    mutating func next() -> Position {
        // White space and punctuation between values carry no value of their own.
        while let byte = current, isBetweenValues(byte) { advance() }
        let position = Position(file: file, line: line, column: column)
        switch current {
        case UInt8(ascii: "{"), UInt8(ascii: "["): advance()
        case UInt8(ascii: "\""):
            advance()
            while let byte = current, byte != UInt8(ascii: "\"") {
                advance()
                if byte == UInt8(ascii: "\\") { advance() }
            }
            advance()
        default:
            while let byte = current, !isBetweenValues(byte) { advance() }
        }
        return position
    }

    private var current: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private func isBetweenValues(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"), UInt8(ascii: ","),
            UInt8(ascii: ":"), UInt8(ascii: "]"), UInt8(ascii: "}"):
            true
        default: false
        }
    }

    private mutating func advance() {
        guard let byte = current else { return }
        offset += 1
        if byte == UInt8(ascii: "\n") {
            line += 1
            column = 1
        } else if byte & 0xc0 != 0x80 {
            // Columns are characters: the further bytes of one do not count.
            column += 1
        }
    }
}
