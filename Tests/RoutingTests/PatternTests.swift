import Routing
import TestSupport
import Testing

@Suite("Regular expressions")
struct PatternTests {
    @Test("the whole text has to match, as Istio's StringMatch has it (E.1)")
    func wholeText() throws {
        let pattern = try Pattern("/api/v[12]")
        #expect(matches(pattern, "/api/v1"))
        #expect(!matches(pattern, "/api/v1/x"))
        #expect(!matches(pattern, "x/api/v1"))
        #expect(matches(try Pattern(""), ""))
    }

    @Test("an error says what is wrong")
    func errors() {
        #expect(throws: PatternError.syntax("missing ): (a")) { try Pattern("(a") }
        #expect(throws: PatternError.syntax("invalid perl operator: (?=")) { try Pattern("(?=a)") }
        #expect(throws: PatternError.tooLong(byteCount: 1_025)) {
            try Pattern(String(repeating: "a", count: 1_025))
        }
    }

    @Test("a program is bounded in size")
    func size() {
        #expect(throws: PatternError.self) { try Pattern("(([a-z0-9]{1,100}){1,10}x){1,100}") }
        #expect(throws: PatternError.self) { try Pattern("[^/]{1,1000}(\\pL|\\pN){1,900}") }
    }

    @Test("what takes other engines exponential time takes linear time")
    func linear() throws {
        let pattern = try Pattern("(a*)*b")
        #expect(!matches(pattern, String(repeating: "a", count: 1 << 20)))
    }

    @Test("replacements name groups, and only those that are there")
    func replacement() throws {
        let pattern = try Pattern("/service/([^/]+)(/.*)")
        try pattern.check(replacement: "\\2/instance/\\1")
        #expect(throws: PatternError.replacement) { try pattern.check(replacement: "\\3") }
        #expect(replaced(pattern, "/service/foo/v1/api", "\\2/instance/\\1") == "/v1/api/instance/foo")
        #expect(replaced(try Pattern("a"), "banana", "<\\0>") == "b<a>n<a>n<a>")
    }

    private func matches(_ pattern: Pattern, _ text: String) -> Bool {
        pattern.matches(Array(text.utf8).span)
    }

    private func replaced(_ pattern: Pattern, _ text: String, _ replacement: String) -> String {
        String(
            decoding: pattern.replace(in: Array(text.utf8).span, with: Array(replacement.utf8)), as: UTF8.self
        )
    }
}
