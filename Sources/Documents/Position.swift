/// Where something stands in a document: what an editor can jump to.
public struct Position: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The file's path as the user knows it.
    public let file: String
    /// Counted from 1; 0 when the whole file is meant.
    public let line: Int
    /// In characters, counted from 1; 0 when the whole line or file is meant.
    public let column: Int

    public init(file: String, line: Int = 0, column: Int = 0) {
        self.file = file
        self.line = line
        self.column = column
    }

    /// `file:line:column`, without the parts that are not known.
    public var description: String {
        guard line > 0 else { return file }
        return column > 0 ? "\(file):\(line):\(column)" : "\(file):\(line)"
    }

    public static func < (a: Position, b: Position) -> Bool {
        (a.file, a.line, a.column) < (b.file, b.line, b.column)
    }
}

/// Something wrong, or worth saying, about a document.
public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Severity: String, Hashable, Sendable {
        /// The object cannot be used.
        case error
        /// The object is used, though perhaps not as its author thinks.
        case warning
    }

    public let severity: Severity
    public let position: Position
    /// The field in dotted form, such as `spec.rules[0].from`; empty for the document itself.
    public let path: String
    public let message: String

    public init(_ severity: Severity = .error, at position: Position, path: String = "", _ message: String) {
        self.severity = severity
        self.position = position
        self.path = path
        self.message = message
    }

    /// `file:line:column: spec.selector: expected a mapping, got a sequence`.
    public var description: String {
        let label = severity == .warning ? "warning: " : ""
        return path.isEmpty ? "\(position): \(label)\(message)" : "\(position): \(label)\(path): \(message)"
    }
}

/// The problems of one or several documents, in the order they were met.
///
/// A reference, for the readers of all levels of a document report into the same list.
public final class Problems {
    public private(set) var items: [Problem] = []
    /// Problems beyond the limit: counted, not kept.
    public private(set) var omitted = 0
    private let limit: Int

    /// - Parameter limit: how many problems are kept; a file of nonsense must not fill the memory.
    public init(limit: Int = 1_000) {
        self.limit = limit
    }

    /// Errors so far, those beyond the limit included.
    public private(set) var errorCount = 0

    public func report(_ problem: Problem) {
        if problem.severity == .error { errorCount += 1 }
        if items.count < limit { items.append(problem) } else { omitted += 1 }
    }
}
