import Documents
import Testing

struct JSONTests {
    static func problem(_ text: String) -> String {
        do { return "no problem: \(try Node(json: Array(text.utf8), file: "a.json"))" } catch {
            return "\(error)"
        }
    }

    @Test func `reads values with their positions`() throws {
        let text = "{\n  \"a\": [1, true, null, 2.5],\n  \"é\\\"\": {\"b\": \"x\"}, \"c\": -1\n}"
        let node = try Node(json: Array(text.utf8), file: "a.json")
        guard case .sequence(let elements) = node["a"]?.content else {
            Issue.record("no sequence")
            return
        }
        #expect(elements.map(\.content) == [.integer(1), .boolean(true), .null, .number(2.5)])
        #expect(elements.map(\.position.column) == [9, 12, 18, 24])
        #expect(node["é\""]?["b"]?.position == Position(file: "a.json", line: 3, column: 16))
        #expect(node["c"]?.position == Position(file: "a.json", line: 3, column: 27))
    }

    static let refused: [(String, String)] = [
        ("{\"a\":1,\"a\":2}", "duplicate"), ("[1,]", "a.json:1"), ("", "a.json"), ("{} x", "a.json:1"),
        ("9223372036854775808", "too big"), ("{a: 1}", "a.json:1"), ("\"\\ud800\"", "a.json:1"),
        (String(repeating: "[", count: 65) + String(repeating: "]", count: 65), "nested more than 64"),
        (String(repeating: "[", count: 100_000), "a.json:1"),
    ]

    @Test(arguments: refused)
    func `refuses`(row: (text: String, message: String)) {
        #expect(Self.problem(row.text).contains(row.message), "\(Self.problem(row.text))")
    }

    @Test func `a text of every scalar is read back from what is written`() throws {
        let value: Value = [
            "text": "tab\t, quote \", back\\slash, line\n, bell \u{7}, é, \u{1F600}", "empty": "", "n": nil,
            "list": [1, -2.5, true, [], ["deep"], [:]], "object": ["k": "v"],
        ]
        for pretty in [false, true] {
            let node = try Node(json: Array(value.json(pretty: pretty).utf8), file: "v")
            #expect(Value(node) == value)
        }
        let documents = try Node.documents(yaml: Array(value.yaml().utf8), file: "v")
        #expect(documents.map { Value($0) } == [value], "\(value.yaml())")
    }

    @Test func `JSON is compact or indented`() {
        let value: Value = ["a": [1, 2], "b": [:], "c": 0.5]
        #expect(value.json() == #"{"a":[1,2],"b":{},"c":0.5}"#)
        #expect(
            value.json(pretty: true) == "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {},\n  \"c\": 0.5\n}")
    }

    @Test func `YAML quotes whatever could be taken for something else`() {
        let value: Value = [
            "on": "yes", "port": "8080", "date": "2026-11-24", "path": "/a: b", "star": "*.example.com",
            "plain": "reviews-v1", "list": [["a": 1, "b": []], "x"], "empty": "", "dash": "-",
        ]
        #expect(
            value.yaml() == """
                "on": "yes"
                port: "8080"
                date: 2026-11-24
                path: "/a: b"
                star: "*.example.com"
                plain: reviews-v1
                list:
                - a: 1
                  b: []
                - x
                empty: ""
                dash: "-"

                """)
    }

    @Test func `random values survive both writers`() throws {
        var random = SplitMix64(state: 0x5eed)
        for _ in 0..<300 {
            let value = random.value(depth: 4)
            guard value != .null else { continue }
            #expect(try Value(Node(json: Array(value.json().utf8), file: "v")) == value)
            let documents = try Node.documents(yaml: Array(value.yaml().utf8), file: "v")
            #expect(documents.map { Value($0) } == [value], "\(value.yaml())")
        }
    }
}

private struct SplitMix64 {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func text() -> String {
        let letters = Array("ab 01:#-{}[],&*!|>'\"%@`\n\t\\.~é<=?yn".unicodeScalars)
        var result = ""
        for _ in 0..<(next() % 9) {
            result.unicodeScalars.append(letters[Int(next() % UInt64(letters.count))])
        }
        return result
    }

    mutating func value(depth: Int) -> Value {
        switch next() % (depth > 0 ? 8 : 6) {
        case 0: .null
        case 1: .boolean(next() % 2 == 0)
        case 2: .integer(Int64(bitPattern: next()))
        case 3, 4, 5: .string(text())
        case 6: .list((0..<(next() % 4)).map { _ in value(depth: depth - 1) })
        default:
            .object(
                Set((0..<(next() % 4)).map { _ in text() }).sorted().map {
                    Value.Member($0, value(depth: depth - 1))
                })
        }
    }
}
