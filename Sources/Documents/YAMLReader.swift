import CYAML

extension Node {
    /// Reads every document of a YAML file; documents without content are left out.
    ///
    /// - Throws: the first problem. Anything but well-formed YAML within the limits is refused, and so are duplicate
    ///   keys, keys that are no scalars, unknown tags, and aliases that contain themselves.
    public static func documents(
        yaml bytes: [UInt8], file: String, limits: DocumentLimits = DocumentLimits()
    ) throws(Problem) -> [Node] {
        var nodes: [Node] = []
        try read(yaml: bytes, file: file, limits: limits, into: &nodes)
        return nodes
    }

    /// The same, but what is wrong is reported, and the documents before that are there: their own problems can then be
    /// told in one go.
    public static func documents(
        yaml bytes: [UInt8], file: String, limits: DocumentLimits = DocumentLimits(), problems: Problems
    ) -> [Node] {
        var nodes: [Node] = []
        do throws(Problem) {
            try read(yaml: bytes, file: file, limits: limits, into: &nodes)
        } catch { problems.report(error) }
        return nodes
    }

    private static func read(
        yaml bytes: [UInt8], file: String, limits: DocumentLimits, into nodes: inout [Node]
    ) throws(Problem) {
        guard bytes.count <= limits.byteCount else {
            throw Problem(
                at: Position(file: file),
                "\(bytes.count) bytes are more than the \(limits.byteCount) read of a file")
        }
        var reader = try YAMLReader(bytes, file: file, limits: limits)
        try reader.read(into: &nodes)
    }
}

/// Builds nodes from libyaml's events.
@safe private struct YAMLReader: ~Copyable {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    /// What libyaml reads from: it keeps a pointer, so the bytes live here as long as the parser does.
    private let input: UnsafeMutableBufferPointer<UInt8>
    private let file: String
    private let limits: DocumentLimits
    /// Values that may still be made.
    private var remaining: Int
    /// The anchors of the current document, each with the number of values below it.
    private var anchors: [String: (node: Node, count: Int)] = [:]

    init(_ bytes: [UInt8], file: String, limits: DocumentLimits) throws(Problem) {
        self.file = file
        self.limits = limits
        remaining = limits.nodeCount
        unsafe input = .allocate(capacity: bytes.count)
        _ = unsafe input.initialize(from: bytes)
        unsafe parser = .allocate(capacity: 1)
        guard unsafe yaml_parser_initialize(parser) == 1 else {
            unsafe parser.initialize(to: yaml_parser_t())
            throw Problem(at: Position(file: file), "no memory to read it")
        }
        unsafe yaml_parser_set_input_string(parser, input.baseAddress, input.count)
    }

    deinit {
        unsafe yaml_parser_delete(parser)
        unsafe parser.deallocate()
        unsafe input.deallocate()
    }

    mutating func read(into result: inout [Node]) throws(Problem) {
        while true {
            let event = try next()
            switch event.kind {
            case .streamEnd: return
            case .streamStart, .documentEnd: continue
            case .documentStart: anchors.removeAll()
            default:
                let node = try node(event, depth: 0).node
                if node.content != .null { result.append(node) }
            }
        }
    }

    /// The value that starts with `event`, and how many values it holds, itself included.
    private mutating func node(_ event: Event, depth: Int) throws(Problem) -> (node: Node, count: Int) {
        guard depth < limits.depth else {
            throw Problem(at: event.position, "nested more than \(limits.depth) levels deep")
        }
        let result: (node: Node, count: Int)
        switch event.kind {
        case .alias(let name):
            guard let target = anchors[name] else {
                throw Problem(at: event.position, "*\(name) refers to nothing before it (or to itself)")
            }
            try spend(target.count, at: event.position)
            return target
        case .scalar(let text, let isPlain):
            try spend(1, at: event.position)
            result = (try scalar(text, isPlain: isPlain, event), 1)
        case .sequenceStart:
            try spend(1, at: event.position)
            try expect(event, tag: "seq")
            var elements: [Node] = []
            var count = 1
            while true {
                let next = try next()
                if case .sequenceEnd = next.kind { break }
                let element = try node(next, depth: depth + 1)
                elements.append(element.node)
                count += element.count
            }
            result = (Node(.sequence(elements), at: event.position), count)
        case .mappingStart:
            try spend(1, at: event.position)
            try expect(event, tag: "map")
            result = try mapping(event, depth: depth)
        default:
            throw Problem(at: event.position, "a value was expected here")
        }
        if let anchor = event.anchor { anchors[anchor] = result }
        return result
    }

    private mutating func mapping(_ start: Event, depth: Int) throws(Problem) -> (node: Node, count: Int) {
        var entries: [Node.Entry] = []
        var merged: [Node.Entry] = []
        var seen: Set<String> = []
        var count = 1
        while true {
            let event = try next()
            if case .mappingEnd = event.kind { break }
            let isMerge = event.kind == .scalar("<<", isPlain: true)
            let (keyNode, keyCount) = try node(event, depth: depth + 1)
            let (value, valueCount) = try node(try next(), depth: depth + 1)
            count += keyCount + valueCount
            if isMerge {
                merged += try mergeEntries(value)
                continue
            }
            guard let key = keyNode.keyText else {
                throw Problem(
                    at: keyNode.position, "a key has to be a scalar, not \(keyNode.kindDescription)")
            }
            guard seen.insert(key).inserted else {
                throw Problem(at: keyNode.position, "the key \(quoted(key)) is already in this mapping")
            }
            entries.append(Entry(key: key, keyPosition: keyNode.position, value: value))
        }
        // What is written here wins over what is merged in, and an earlier merge over a later one.
        for entry in merged where seen.insert(entry.key).inserted { entries.append(entry) }
        return (Node(.mapping(entries), at: start.position), count)
    }

    private typealias Entry = Node.Entry

    private func mergeEntries(_ value: Node) throws(Problem) -> [Node.Entry] {
        switch value.content {
        case .mapping(let entries): return entries
        case .sequence(let elements):
            var result: [Node.Entry] = []
            for element in elements {
                guard case .mapping(let entries) = element.content else {
                    throw Problem(at: element.position, "<< merges mappings, not \(element.kindDescription)")
                }
                result += entries
            }
            return result
        default: throw Problem(at: value.position, "<< merges mappings, not \(value.kindDescription)")
        }
    }

    private func scalar(_ text: String, isPlain: Bool, _ event: Event) throws(Problem) -> Node {
        guard let tag = event.tag else {
            guard isPlain else { return Node(.string(text), at: event.position) }
            let content = YAMLScalar.resolve(text)
            if case .string = content { return Node(content, at: event.position) }
            return Node(content, at: event.position, spelling: text)
        }
        let content: Node.Content? =
            switch tag {
            case "!", "tag:yaml.org,2002:str": .string(text)
            case "tag:yaml.org,2002:null": YAMLScalar.resolve(text) == .null ? .null : nil
            case "tag:yaml.org,2002:bool":
                if case .boolean(let value) = YAMLScalar.resolve(text) { .boolean(value) } else { nil }
            case "tag:yaml.org,2002:int": YAMLScalar.integer(text.filter { $0 != "_" }).map { .integer($0) }
            case "tag:yaml.org,2002:float": YAMLScalar.number(text)
            case "tag:yaml.org,2002:binary":
                bytes(ofBase64: text).map { .string(String(decoding: $0, as: UTF8.self)) }
            default: throw Problem(at: event.position, "the tag \(quoted(tag)) has no meaning in a manifest")
            }
        guard let content else {
            throw Problem(at: event.position, "\(quoted(text)) is not what its tag \(quoted(tag)) says")
        }
        return Node(content, at: event.position, spelling: text)
    }

    private func expect(_ event: Event, tag name: String) throws(Problem) {
        guard let tag = event.tag, tag != "!", tag != "tag:yaml.org,2002:" + name else { return }
        throw Problem(at: event.position, "the tag \(quoted(tag)) has no meaning in a manifest")
    }

    private mutating func spend(_ count: Int, at position: Position) throws(Problem) {
        guard count <= remaining else {
            throw Problem(at: position, "more than \(limits.nodeCount) values (aliases counted each time)")
        }
        remaining -= count
    }

    // MARK: libyaml

    private struct Event {
        enum Kind: Equatable {
            case streamStart, streamEnd, documentStart, documentEnd
            case alias(String)
            case scalar(String, isPlain: Bool)
            case sequenceStart, sequenceEnd, mappingStart, mappingEnd
        }
        let kind: Kind
        let anchor: String?
        let tag: String?
        let position: Position
    }

    private mutating func next() throws(Problem) -> Event {
        var event = unsafe yaml_event_t()
        guard unsafe yaml_parser_parse(parser, &event) == 1 else { throw syntaxProblem() }
        defer { unsafe yaml_event_delete(&event) }
        let kind: Event.Kind
        switch unsafe event.type {
        case YAML_STREAM_START_EVENT: kind = .streamStart
        case YAML_STREAM_END_EVENT, YAML_NO_EVENT: kind = .streamEnd
        case YAML_DOCUMENT_START_EVENT: kind = .documentStart
        case YAML_DOCUMENT_END_EVENT: kind = .documentEnd
        case YAML_ALIAS_EVENT: kind = .alias(unsafe text(warren_yaml_alias(&event)) ?? "")
        case YAML_SCALAR_EVENT:
            let bytes = unsafe UnsafeBufferPointer(
                start: warren_yaml_scalar(&event), count: warren_yaml_scalar_length(&event))
            let isPlain = unsafe warren_yaml_scalar_is_plain(&event) != 0
            kind = .scalar(unsafe String(decoding: bytes, as: UTF8.self), isPlain: isPlain)
        case YAML_SEQUENCE_START_EVENT: kind = .sequenceStart
        case YAML_SEQUENCE_END_EVENT: kind = .sequenceEnd
        case YAML_MAPPING_START_EVENT: kind = .mappingStart
        default: kind = .mappingEnd
        }
        return unsafe Event(
            kind: kind, anchor: text(warren_yaml_anchor(&event)), tag: text(warren_yaml_tag(&event)),
            position: position(event.start_mark))
    }

    private func syntaxProblem() -> Problem {
        let problem = unsafe parser.pointee
        let text = unsafe problem.problem.map { unsafe String(cString: $0) } ?? "this is not YAML"
        // A reader's error (bad UTF-8, control character) has an offset and no mark.
        if unsafe problem.error == YAML_READER_ERROR {
            let consumed = unsafe input.prefix(min(problem.problem_offset, input.count))
            let line = unsafe consumed.reduce(1) { $0 + ($1 == UInt8(ascii: "\n") ? 1 : 0) }
            return Problem(at: Position(file: file, line: line), text)
        }
        let context = unsafe problem.context.map {
            unsafe " (\(String(cString: $0)) that begins at line \(problem.context_mark.line + 1))"
        }
        return Problem(at: unsafe position(problem.problem_mark), text + (context ?? ""))
    }

    private func position(_ mark: yaml_mark_t) -> Position {
        Position(file: file, line: mark.line + 1, column: mark.column + 1)
    }

    private func text(_ pointer: UnsafePointer<UInt8>?) -> String? {
        unsafe pointer.map { unsafe String(cString: $0) }
    }
}

extension Node {
    /// A scalar as the key of a mapping: Kubernetes' tools turn `9000:` and `true:` into the strings.
    fileprivate var keyText: String? {
        switch content {
        case .string(let text): text
        case .integer(let value): "\(value)"
        case .boolean(let value): "\(value)"
        case .number(let value):
            value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
        case .null: "null"
        case .sequence, .mapping: nil
        }
    }
}
