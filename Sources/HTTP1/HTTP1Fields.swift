/// The fields of a message in order. Names are compared without regard to case (RFC 9110 §5.1).
public struct HTTP1Fields: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    public struct Field: Hashable, Sendable {
        /// In lower case.
        public var name: String
        public var value: String
    }

    public private(set) var all: [Field] = []

    public init() {}

    init(_ block: FieldBlock) {
        for index in 0..<block.count {
            append(
                String(decoding: block.name(at: index), as: UTF8.self),
                String(decoding: block.value(at: index), as: UTF8.self))
        }
    }

    public init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { append(name, value) }
    }

    public mutating func append(_ name: String, _ value: String) {
        all.append(Field(name: name.lowercased(), value: value))
    }

    /// The first value of a field. `name` is in lower case.
    public subscript(name: String) -> String? { all.first { $0.name == name }?.value }

    public func values(of name: String) -> [String] { all.lazy.filter { $0.name == name }.map(\.value) }
}
