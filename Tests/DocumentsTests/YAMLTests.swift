import Documents
import Testing

struct YAMLTests {
    static func read(_ text: String, limits: DocumentLimits = DocumentLimits()) throws(Problem) -> [Node] {
        try Node.documents(yaml: Array(text.utf8), file: "a.yaml", limits: limits)
    }

    static func problem(_ text: String, limits: DocumentLimits = DocumentLimits()) -> String {
        do {
            let nodes = try read(text, limits: limits)
            return "no problem: \(nodes)"
        } catch { return "\(error)" }
    }

    static func scalar(_ text: String) throws -> Node.Content? {
        try read("v: \(text)").first?["v"]?.content
    }

    // What `kubectl` makes of a plain scalar; each row was a surprise to somebody.
    static let scalars: [(String, Node.Content)] = [
        ("", .null), ("~", .null), ("null", .null), ("Null", .null), ("nULL", .string("nULL")),
        ("true", .boolean(true)), ("True", .boolean(true)), ("yes", .boolean(true)), ("on", .boolean(true)),
        ("y", .boolean(true)), ("off", .boolean(false)), ("NO", .boolean(false)), ("n", .boolean(false)),
        ("tRue", .string("tRue")), ("\"on\"", .string("on")), ("'no'", .string("no")),
        ("onto", .string("onto")),
        ("12", .integer(12)), ("-3", .integer(-3)), ("+3", .integer(3)), ("1_000", .integer(1000)),
        ("0x1F", .integer(31)), ("0o17", .integer(15)), ("0777", .integer(511)), ("0b101", .integer(5)),
        ("0899", .number(899)), ("--3", .string("--3")), ("0x", .string("0x")), ("0x-1", .string("0x-1")),
        ("9223372036854775807", .integer(.max)), ("9223372036854775808", .number(9_223_372_036_854_775_808)),
        ("1.10", .number(1.1)), ("1e3", .number(1000)), (".5", .number(0.5)), ("5.", .number(5)),
        (".inf", .number(.infinity)), ("1.2.3", .string("1.2.3")), ("10.0.0.1", .string("10.0.0.1")),
        ("0x1p4", .string("0x1p4")), ("infinity", .string("infinity")), ("12:30:45", .string("12:30:45")),
        ("2026-11-24", .string("2026-11-24")), ("-", .string("-")), (".", .string(".")), ("+", .string("+")),
        ("!!str 12", .string("12")), ("! 12", .string("12")), ("!!int \"12\"", .integer(12)),
        ("!!float 3", .integer(3)), ("!!binary aGk=", .string("hi")),
    ]

    @Test(arguments: scalars)
    func `resolves scalars as Kubernetes' tools do`(row: (text: String, content: Node.Content)) throws {
        if row.text == "-" {
            // A lone dash is a sequence indicator in YAML.
            #expect(Self.problem("v: -") != "")
        } else {
            #expect(try Self.scalar(row.text) == row.content, "\(row.text)")
        }
    }

    @Test func `keys become strings`() throws {
        let node = try #require(try Self.read("9000: a\ntrue: b\n1.5: c\n\"x\": d").first)
        #expect(node["9000"]?.content == .string("a"))
        #expect(node["true"]?.content == .string("b"))
        #expect(node["1.5"]?.content == .string("c"))
        #expect(node["x"]?.content == .string("d"))
    }

    @Test func `reads several documents and leaves empty ones out`() throws {
        let nodes = try Self.read("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n")
        #expect(nodes.count == 2)
        #expect(nodes.last?["b"]?.position == Position(file: "a.yaml", line: 6, column: 4))
    }

    @Test func `an empty file holds no documents`() throws {
        #expect(try Self.read("").isEmpty)
        #expect(try Self.read("# only a comment\n").isEmpty)
    }

    @Test func `aliases repeat and merges yield to what is written`() throws {
        let node = try #require(
            try Self.read("base: &b {a: 1, c: 3}\nuse: *b\nown: {<<: *b, a: 2}\nboth: {<<: [{a: 7}, *b]}")
                .first)
        #expect(node["use"]?["a"]?.content == .integer(1))
        #expect(node["own"]?["a"]?.content == .integer(2))
        #expect(node["own"]?["c"]?.content == .integer(3))
        #expect(node["both"]?["a"]?.content == .integer(7))
    }

    @Test func `a quoted merge key is an ordinary key`() throws {
        #expect(try Self.read("'<<': {a: 1}").first?["<<"]?["a"]?.content == .integer(1))
    }

    static let refused: [(String, String, String)] = [
        ("a duplicate key", "a: 1\nb: 2\na: 3", "a.yaml:3:1: the key \"a\" is already in this mapping"),
        ("a duplicate key by another spelling", "1: a\n0x1: b", "a.yaml:2:1: the key \"1\" is already"),
        ("a key that is a sequence", "[a]: 1", "a.yaml:1:1: a key has to be a scalar, not a sequence"),
        ("an alias to nothing", "a: *x", "a.yaml:1:4: *x refers to nothing"),
        ("an alias to itself", "a: &x [*x]", "a.yaml:1:8: *x refers to nothing"),
        ("an anchor of another document", "a: &x 1\n---\nb: *x", "a.yaml:3:4: *x refers to nothing"),
        ("a foreign tag", "a: !!python/object:os.system {}", "has no meaning in a manifest"),
        ("a tag that does not fit", "a: !!int twelve", "a.yaml:1:4: \"twelve\" is not what its tag"),
        ("a merge of a scalar", "a: {<<: 1}", "a.yaml:1:9: << merges mappings, not the number 1"),
        ("a syntax error", "a: [1, 2", "(while parsing a flow sequence that begins at line 1)"),
        ("a tab for indentation", "a:\n\tb: 1", "a.yaml:2:1"),
        ("a control character", "a: \u{1}", "a.yaml:1"),
    ]

    @Test(arguments: refused)
    func `refuses`(row: (title: String, text: String, message: String)) {
        #expect(Self.problem(row.text).contains(row.message), "\(row.title): \(Self.problem(row.text))")
    }

    @Test func `bad UTF-8 is refused with its line`() {
        do {
            _ = try Node.documents(yaml: Array("a: 1\nb: ".utf8) + [0xff, 0xfe, 0x0a], file: "a.yaml")
            Issue.record("taken")
        } catch { #expect("\(error)".hasPrefix("a.yaml:2: ")) }
    }

    @Test func `a billion laughs end at the limit`() {
        var text = "a0: &a0 lol\n"
        for level in 1..<30 {
            let alias = "*a\(level - 1)"
            text += "a\(level): &a\(level) [\(Array(repeating: alias, count: 10).joined(separator: ", "))]\n"
        }
        #expect(Self.problem(text).contains("more than 2000000 values (aliases counted each time)"))
    }

    @Test func `depth is bounded`() {
        let deep = String(repeating: "[", count: 65) + String(repeating: "]", count: 65)
        #expect(Self.problem(deep).contains("nested more than 64 levels deep"))
        let bottomless = String(repeating: "[", count: 200_000)
        #expect(!Self.problem(bottomless).hasPrefix("no problem"))
    }

    @Test func `size is bounded`() {
        #expect(
            Self.problem("a: 1", limits: DocumentLimits(byteCount: 3)).contains("4 bytes are more than the 3")
        )
        #expect(Self.problem("[1, 2]", limits: DocumentLimits(nodeCount: 2)).contains("more than 2 values"))
    }
}
