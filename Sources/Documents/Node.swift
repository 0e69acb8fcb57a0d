/// A value of a YAML or JSON document, with the place it was written at.
///
/// Tags are resolved: what a scalar *is* follows from its content by the rules that Kubernetes' tools apply to YAML,
/// so that a manifest means here what it means to `kubectl`.
public struct Node: Hashable, Sendable {
    public enum Content: Hashable, Sendable {
        case null
        case boolean(Bool)
        case integer(Int64)
        /// Also integers that do not fit in 64 bits.
        case number(Double)
        case string(String)
        case sequence([Node])
        /// In the order of the document; keys are unique.
        case mapping([Entry])
    }

    public struct Entry: Hashable, Sendable {
        public let key: String
        public let keyPosition: Position
        public let value: Node

        public init(key: String, keyPosition: Position, value: Node) {
            self.key = key
            self.keyPosition = keyPosition
            self.value = value
        }
    }

    public let content: Content
    public let position: Position
    /// How a scalar other than a string was spelled (`yes`, `0x1F`): an error can then say what to quote.
    public let spelling: String

    public init(_ content: Content, at position: Position, spelling: String = "") {
        self.content = content
        self.position = position
        self.spelling = spelling
    }

    /// The value of a mapping's key; nil when there is none or this is no mapping.
    public subscript(key: String) -> Node? {
        guard case .mapping(let entries) = content else { return nil }
        return entries.first { $0.key == key }?.value
    }

    /// What this is, in the words of an error message.
    public var kindDescription: String {
        switch content {
        case .null: "nothing"
        case .boolean(let value):
            spelling == "\(value)" || spelling.isEmpty
                ? "the boolean \(value)" : "the boolean \(value) (written \(spelling))"
        case .integer(let value): "the number \(spelling.isEmpty ? "\(value)" : spelling)"
        case .number(let value): "the number \(spelling.isEmpty ? "\(value)" : spelling)"
        case .string(let text): "the string \(quoted(text))"
        case .sequence: "a sequence"
        case .mapping: "a mapping"
        }
    }
}

/// `text` in double quotes, shortened and without control characters: fit for one line of a message.
public func quoted(_ text: String) -> String {
    var result = "\""
    for (count, scalar) in text.unicodeScalars.enumerated() {
        if count == 80 {
            result += "…"
            break
        }
        switch scalar {
        case "\"", "\\": result += "\\\(scalar)"
        case "\n": result += "\\n"
        case "\t": result += "\\t"
        case _ where scalar.properties.generalCategory == .control:
            result += "\\u{\(String(scalar.value, radix: 16))}"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// How much of a document is read before it is refused.
public struct DocumentLimits: Sendable {
    /// Bytes of one file.
    public var byteCount: Int
    /// Sequences and mappings inside one another.
    public var depth: Int
    /// Values of one file, those that aliases repeat counted every time: what bounds the "billion laughs".
    public var nodeCount: Int

    public init(byteCount: Int = 16 << 20, depth: Int = 64, nodeCount: Int = 2_000_000) {
        self.byteCount = byteCount
        self.depth = depth
        self.nodeCount = nodeCount
    }
}
