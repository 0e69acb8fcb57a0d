/// The fields of a message in order. Names are compared without regard to case (RFC 9110 §5.1).
public struct HTTP1Fields: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    public struct Field: Hashable, Sendable {
        /// In lower case.
        public var name: String
        public var value: String
    }

    public private(set) var all: [Field] = []

    public init() {}

    public init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { append(name, value) }
    }

    public mutating func append(_ name: String, _ value: String) {
        all.append(Field(name: name.lowercased(), value: value))
    }

    /// The first value of a field. `name` is in lower case.
    public subscript(name: String) -> String? { all.first { $0.name == name }?.value }

    public func values(of name: String) -> [String] { all.lazy.filter { $0.name == name }.map(\.value) }

    /// Whether a field that is a list of tokens, as `Connection` is, has this one (in lower case).
    func lists(_ token: String, in name: String) -> Bool {
        values(of: name).contains { value in
            value.split(separator: ",").contains { trimmed($0).lowercased() == token }
        }
    }

    private func trimmed(_ text: Substring) -> Substring {
        let front = text.drop { $0 == " " || $0 == "\t" }
        return front.lastIndex { $0 != " " && $0 != "\t" }.map { front[...$0] } ?? ""
    }
}
