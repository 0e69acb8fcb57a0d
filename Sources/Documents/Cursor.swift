import Glibc  // links libm, which the rounding of numbers is made of

/// A place in a document while it is decoded: the value, the path that led there, and where problems go.
///
/// Every accessor reports what is wrong and answers nil (or nothing), so that one pass finds all problems of a file.
/// A null counts as absent everywhere, as it does in the Kubernetes API.
public struct Cursor {
    public let node: Node
    /// `spec.rules[0].from`; empty at the top.
    public let path: String
    public let problems: Problems

    public init(_ node: Node, path: String = "", problems: Problems) {
        self.node = node
        self.path = path
        self.problems = problems
    }

    public func error(_ message: String) {
        problems.report(Problem(at: node.position, path: path, message))
    }

    public func warn(_ message: String) {
        problems.report(Problem(.warning, at: node.position, path: path, message))
    }

    private func mismatch(_ expected: String) {
        error("expected \(expected), got \(node.kindDescription)")
    }

    // MARK: Scalars

    public func string() -> String? {
        if case .string(let text) = node.content { return text }
        switch node.content {
        case .boolean, .integer, .number:
            error("expected a string, got \(node.kindDescription): put it in quotes")
        default: mismatch("a string")
        }
        return nil
    }

    public func nonEmptyString() -> String? {
        guard let text = string() else { return nil }
        guard !text.isEmpty else {
            error("must not be empty")
            return nil
        }
        return text
    }

    public func boolean() -> Bool? {
        if case .boolean(let value) = node.content { return value }
        mismatch("true or false")
        return nil
    }

    /// A whole number within `range`.
    public func integer(in range: ClosedRange<Int64> = .min ... .max) -> Int64? {
        let value: Int64
        switch node.content {
        case .integer(let whole): value = whole
        case .number(let number) where Int64(exactly: number) != nil: value = Int64(exactly: number) ?? 0
        default:
            mismatch("a whole number")
            return nil
        }
        guard range.contains(value) else {
            error("\(value) is not between \(range.lowerBound) and \(range.upperBound)")
            return nil
        }
        return value
    }

    public func port() -> UInt16? {
        integer(in: 1...65_535).map { UInt16(truncatingIfNeeded: $0) }
    }

    /// One of the names of an enumeration, as written there.
    public func choice<T: RawRepresentable & CaseIterable>(of: T.Type = T.self) -> T?
    where T.RawValue == String {
        guard let text = string() else { return nil }
        if let value = T(rawValue: text) { return value }
        let names = T.allCases.map(\.rawValue)
        error(
            "\(quoted(text)) is none of \(names.joined(separator: ", "))"
                + Self.suggestion(for: text, among: names))
        return nil
    }

    // MARK: Collections

    /// The elements of a sequence; empty (and a problem) when this is none.
    public func elements() -> [Cursor] {
        guard case .sequence(let nodes) = node.content else {
            mismatch("a sequence")
            return []
        }
        return nodes.enumerated().compactMap { index, node in
            let cursor = Cursor(node, path: "\(path)[\(index)]", problems: problems)
            guard node.content == .null else { return cursor }
            cursor.error("a list has no place for an empty element")
            return nil
        }
    }

    public func strings() -> [String] {
        elements().compactMap { $0.string() }
    }

    public func list<T>(_ decode: (Cursor) -> T?) -> [T] {
        elements().compactMap(decode)
    }

    /// The entries of a mapping with free keys, each key with a cursor on its value.
    public func entries(_ expectation: String = "a mapping") -> [(
        key: String, keyPosition: Position, value: Cursor
    )] {
        guard case .mapping(let entries) = node.content else {
            mismatch(expectation)
            return []
        }
        return entries.map { entry in
            let needsQuotes = entry.key.contains { $0 == "." || $0 == "/" || $0 == "[" }
            let step = needsQuotes ? "[\(quoted(entry.key))]" : path.isEmpty ? entry.key : ".\(entry.key)"
            return (
                entry.key, entry.keyPosition, Cursor(entry.value, path: path + step, problems: problems)
            )
        }
    }

    public func stringMap() -> [String: String] {
        var result: [String: String] = [:]
        for (key, _, value) in entries("a mapping of strings") {
            // An annotation without a value is an empty string, as the API server stores it.
            result[key] = value.node.content == .null ? "" : value.string()
        }
        return result
    }

    /// The fields of a mapping with known keys.
    public func fields() -> Fields? {
        guard case .mapping(let entries) = node.content else {
            mismatch("a mapping")
            return nil
        }
        return Fields(self, entries)
    }

    static func suggestion(for text: String, among names: some Sequence<String>) -> String {
        let nearest = names.map { (name: $0, distance: editDistance(text.lowercased(), $0.lowercased())) }
            .min { $0.distance < $1.distance }
        guard let nearest, nearest.distance <= max(1, text.count / 3) else { return "" }
        return "; did you mean \(nearest.name)?"
    }
}

/// The fields of one mapping. Remembers which were asked for, and reports the others when `close` is called.
public final class Fields {
    public let cursor: Cursor
    private let entries: [String: Node.Entry]
    private var known: [String] = []

    init(_ cursor: Cursor, _ entries: [Node.Entry]) {
        self.cursor = cursor
        self.entries = Dictionary(entries.map { ($0.key, $0) }) { first, _ in first }
    }

    /// The value of a field; nil when it is absent or null.
    public subscript(name: String) -> Cursor? {
        known.append(name)
        guard let entry = entries[name], entry.value.content != .null else { return nil }
        return child(name, entry.value)
    }

    /// Like the subscript, but an absent field is a problem.
    public func required(_ name: String) -> Cursor? {
        if let cursor = self[name] { return cursor }
        cursor.error("\(name) is missing")
        return nil
    }

    /// Names fields that are right and mean nothing here.
    public func ignore(_ names: String...) { known += names }

    /// Reports every field that nobody asked for.
    public func close(as severity: Problem.Severity = .error) {
        let names = Set(known)
        for entry in entries.values.sorted(by: { $0.keyPosition < $1.keyPosition })
        where !names.contains(entry.key) {
            let hint = Cursor.suggestion(for: entry.key, among: names.sorted())
            cursor.problems.report(
                Problem(
                    severity, at: entry.keyPosition, path: cursor.path,
                    "unknown field \(quoted(entry.key))\(hint)")
            )
        }
    }

    private func child(_ name: String, _ node: Node) -> Cursor {
        Cursor(node, path: cursor.path.isEmpty ? name : "\(cursor.path).\(name)", problems: cursor.problems)
    }
}

/// How many letters have to change to make one word of the other. Long words are not worth it.
private func editDistance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a.unicodeScalars), Array(b.unicodeScalars))
    guard a.count <= 64, b.count <= 64 else { return .max }
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            let substituted = diagonal + (x == y ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[b.count]
}
