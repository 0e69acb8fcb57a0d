/// A text in a table's pool.
struct PooledText: Sendable {
    var start: Int
    var count: Int

    var range: Range<Int> { start..<start + count }
}

/// A StringMatch in compiled form; holds no reference, so that looking at it counts none.
enum Comparison: Sendable {
    case exact(PooledText)
    case prefix(PooledText)
    /// An index of the table's patterns.
    case regex(Int)
    case present
}

enum PathComparison: Sendable {
    case any
    case exact(PooledText)
    case prefix(PooledText)
    /// Without a slash at the end.
    case elementPrefix(PooledText)
    case regex(Int)
}

struct Condition: Sendable {
    var name: PooledText
    var value: Comparison
}

/// A RequestMatch in compiled form.
struct CompiledMatch: Sendable {
    /// Index of the table's entries.
    var entry: Int
    /// Which of the route's matches this is.
    var number: Int
    var path: PathComparison
    var ignoresPathCase: Bool
    var method: Comparison?
    var scheme: Comparison?
    var authority: Comparison?
    /// In the table's conditions.
    var headers: Range<Int>
    var withoutHeaders: Range<Int>
    var queryParameters: Range<Int>
    var port: UInt16?
    /// Indices of the table's origins.
    var origin: Int?
}

/// The first thing about a request that a match does not accept. Numbers are those of the table's conditions.
enum Mismatch: Hashable, Sendable {
    case path, method, scheme, authority, port, sourceNamespace
    case header(Int)
    case unwantedHeader(Int)
    case queryParameter(Int)
    case sourceLabels
}

/// What the matches of a table share.
struct MatchPool: Sendable {
    struct Origin: Sendable {
        var namespace: String?
        var labels: [(key: String, value: String)]
    }

    private(set) var bytes: [UInt8] = []
    private(set) var patterns: [Pattern] = []
    private(set) var conditions: [Condition] = []
    private(set) var origins: [Origin] = []
    private var patternNumbers: [String: Int] = [:]

    mutating func add(_ text: some Sequence<UInt8>) -> PooledText {
        let start = bytes.count
        bytes.append(contentsOf: text)
        return PooledText(start: start, count: bytes.count - start)
    }

    mutating func add(pattern text: String) throws(PatternError) -> Int {
        if let number = patternNumbers[text] { return number }
        patterns.append(try Pattern(text))
        patternNumbers[text] = patterns.count - 1
        return patterns.count - 1
    }

    mutating func compile(_ match: StringMatch) throws(PatternError) -> Comparison {
        switch match {
        case .exact(let text): .exact(add(text.utf8))
        case .prefix(let text): .prefix(add(text.utf8))
        case .regex(let text): .regex(try add(pattern: text))
        case .present: .present
        }
    }

    private mutating func compile(
        _ matches: [NamedMatch], lowercasesNames: Bool
    ) throws(PatternError) -> Range<Int> {
        let start = conditions.count
        for match in matches {
            let value = try compile(match.value)
            let name =
                lowercasesNames ? add(match.name.utf8.lazy.map(lowercased)) : add(match.name.utf8)
            conditions.append(Condition(name: name, value: value))
        }
        return start..<conditions.count
    }

    private mutating func compile(optional match: StringMatch?) throws(PatternError) -> Comparison? {
        guard let match else { return nil }
        return try compile(match)
    }

    mutating func compile(
        _ match: RequestMatch, entry: Int, number: Int
    ) throws(PatternError) -> CompiledMatch {
        let path: PathComparison
        switch match.path {
        case nil: path = .any
        case .exact(let text): path = .exact(add(text.utf8))
        case .prefix(let text): path = .prefix(add(text.utf8))
        case .elementPrefix(let text):
            path = .elementPrefix(
                add(text.utf8.last == UInt8(ascii: "/") ? text.utf8.dropLast() : text.utf8[...]))
        case .regex(let text): path = .regex(try add(pattern: text))
        }
        var origin: Int?
        if match.sourceNamespace != nil || !match.sourceLabels.isEmpty {
            origins.append(
                Origin(
                    namespace: match.sourceNamespace,
                    labels: match.sourceLabels.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }))
            origin = origins.count - 1
        }
        return CompiledMatch(
            entry: entry, number: number, path: path, ignoresPathCase: match.ignoresPathCase,
            method: try compile(optional: match.method), scheme: try compile(optional: match.scheme),
            authority: try compile(optional: match.authority),
            headers: try compile(match.headers, lowercasesNames: true),
            withoutHeaders: try compile(match.withoutHeaders, lowercasesNames: true),
            queryParameters: try compile(match.queryParameters, lowercasesNames: false), port: match.port,
            origin: origin)
    }
}

extension MatchPool {
    /// What a match does not accept about a request; nil where it holds.
    ///
    /// - Parameter path: of the head, without the query.
    func mismatch(
        _ match: CompiledMatch, _ head: borrowing RequestHead, path: Range<Int>,
        _ origin: borrowing RequestOrigin
    ) -> Mismatch? {
        guard accepts(match.path, head, path, ignoringCase: match.ignoresPathCase) else { return .path }
        if let method = match.method, !accepts(method, head.bytes.span.extracting(head.method)) {
            return .method
        }
        if let port = match.port, port != origin.port { return .port }
        for number in match.headers where !acceptsHeader(conditions[number], head) { return .header(number) }
        for number in match.withoutHeaders where hasUnwantedHeader(conditions[number], head) {
            return .unwantedHeader(number)
        }
        if let authority = match.authority, !accepts(authority, head.bytes.span.extracting(head.authority)) {
            return .authority
        }
        if let scheme = match.scheme, !accepts(scheme, head.bytes.span.extracting(head.scheme)) {
            return .scheme
        }
        for number in match.queryParameters where !acceptsParameter(conditions[number], head) {
            return .queryParameter(number)
        }
        if let number = match.origin {
            if let namespace = origins[number].namespace, namespace != origin.namespace {
                return .sourceNamespace
            }
            for label in origins[number].labels where origin.labels[label.key] != label.value {
                return .sourceLabels
            }
        }
        return nil
    }

    private func accepts(
        _ comparison: PathComparison, _ head: borrowing RequestHead, _ path: Range<Int>, ignoringCase: Bool
    ) -> Bool {
        switch comparison {
        case .any: return true
        case .exact(let text):
            return text.count == path.count && begins(head, path, with: text, ignoringCase)
        case .prefix(let text): return begins(head, path, with: text, ignoringCase)
        case .elementPrefix(let text):
            guard begins(head, path, with: text, ignoringCase) else { return false }
            return text.count == path.count || head.bytes[path.lowerBound + text.count] == UInt8(ascii: "/")
        case .regex(let number): return patterns[number].matches(head.bytes.span.extracting(path))
        }
    }

    private func begins(
        _ head: borrowing RequestHead, _ path: Range<Int>, with text: PooledText, _ ignoringCase: Bool
    ) -> Bool {
        guard text.count <= path.count else { return false }
        for offset in 0..<text.count {
            let a = head.bytes[path.lowerBound + offset]
            let b = bytes[text.start + offset]
            guard a == b || ignoringCase && lowercased(a) == lowercased(b) else { return false }
        }
        return true
    }

    func accepts(_ comparison: Comparison, _ value: Span<UInt8>) -> Bool {
        switch comparison {
        case .exact(let text): text.count == value.count && begins(value, with: text)
        case .prefix(let text): begins(value, with: text)
        case .regex(let number): patterns[number].matches(value)
        case .present: true
        }
    }

    private func begins(_ value: Span<UInt8>, with text: PooledText) -> Bool {
        guard text.count <= value.count else { return false }
        for offset in 0..<text.count where value[offset] != bytes[text.start + offset] { return false }
        return true
    }

    // MARK: Headers

    private func acceptsHeader(_ condition: Condition, _ head: borrowing RequestHead) -> Bool {
        guard let first = field(condition.name, head, from: 0) else { return false }
        return accepts(condition.value, head, first, condition.name)
    }

    private func hasUnwantedHeader(_ condition: Condition, _ head: borrowing RequestHead) -> Bool {
        guard let first = field(condition.name, head, from: 0) else {
            if case .present = condition.value { return false }
            return accepts(condition.value, head.bytes.span.extracting(0..<0))
        }
        return accepts(condition.value, head, first, condition.name)
    }

    /// Of several fields of one name any will do, as with Envoy. Compared as one list, a second field would hide an
    /// unwanted first one.
    private func accepts(
        _ comparison: Comparison, _ head: borrowing RequestHead, _ first: Int, _ name: PooledText
    ) -> Bool {
        var index: Int? = first
        while let current = index {
            if accepts(comparison, head.bytes.span.extracting(head.fields[current].value)) { return true }
            index = field(name, head, from: current + 1)
        }
        return false
    }

    private func field(_ name: PooledText, _ head: borrowing RequestHead, from start: Int) -> Int? {
        var index = start
        while index < head.fields.count {
            let range = head.fields[index].name
            if range.count == name.count, begins(head.bytes.span.extracting(range), with: name) {
                return index
            }
            index += 1
        }
        return nil
    }

    // MARK: Query

    private func acceptsParameter(_ condition: Condition, _ head: borrowing RequestHead) -> Bool {
        let query = head.query
        var start = query.lowerBound
        while start < query.upperBound {
            var end = start
            var equals: Int?
            while end < query.upperBound, head.bytes[end] != UInt8(ascii: "&") {
                if equals == nil, head.bytes[end] == UInt8(ascii: "=") { equals = end }
                end += 1
            }
            let nameEnd = equals ?? end
            if nameEnd - start == condition.name.count,
                begins(head.bytes.span.extracting(start..<nameEnd), with: condition.name)
            {
                let value = equals.map { $0 + 1..<end } ?? end..<end
                return accepts(condition.value, head.bytes.span.extracting(value))
            }
            start = end + 1
        }
        return false
    }
}
