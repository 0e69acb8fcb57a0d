import Documents
import Testing

struct CursorTests {
    static func decode(_ text: String, _ body: (Fields) -> Void) throws -> [String] {
        let problems = Problems()
        for node in try Node.documents(yaml: Array(text.utf8), file: "a.yaml") {
            if let fields = Cursor(node, problems: problems).fields() { body(fields) }
        }
        return problems.items.map(\.description)
    }

    enum Action: String, CaseIterable { case allow = "ALLOW", deny = "DENY" }

    @Test func `says where, which field, what was expected and what is there`() throws {
        let text = """
            spec:
              selector:
                matchLabels: [app]
              enabled: sure
              port: 70000
              ratio: 1.5
              action: DENI
              version: 1.10
              switch: on
              actoin: ALLOW
            """
        let messages = try Self.decode(text) { top in
            guard let spec = top["spec"]?.fields() else { return }
            _ = spec["selector"]?.fields()?["matchLabels"]?.stringMap()
            _ = spec["enabled"]?.boolean()
            _ = spec["port"]?.port()
            _ = spec["ratio"]?.integer()
            _ = spec["action"]?.choice(of: Action.self)
            _ = spec["version"]?.string()
            _ = spec["switch"]?.string()
            spec.close()
            top.close()
        }
        #expect(
            messages == [
                "a.yaml:3:18: spec.selector.matchLabels: expected a mapping of strings, got a sequence",
                "a.yaml:4:12: spec.enabled: expected true or false, got the string \"sure\"",
                "a.yaml:5:9: spec.port: 70000 is not between 1 and 65535",
                "a.yaml:6:10: spec.ratio: expected a whole number, got the number 1.5",
                "a.yaml:7:11: spec.action: \"DENI\" is none of ALLOW, DENY; did you mean DENY?",
                "a.yaml:8:12: spec.version: expected a string, got the number 1.10: put it in quotes",
                "a.yaml:9:11: spec.switch: expected a string, got the boolean true (written on): put it in quotes",
                "a.yaml:10:3: spec: unknown field \"actoin\"; did you mean action?",
            ])
    }

    @Test func `null is absent`() throws {
        let messages = try Self.decode("spec:\nname: ~\nlist: [~]\nlabels: {a: ~, b.c/d: 1}") { top in
            #expect(top["spec"] == nil)
            #expect(top.required("name") == nil)
            #expect(top["list"]?.strings() == [])
            #expect(top["labels"]?.stringMap() == ["a": ""])
        }
        #expect(
            messages == [
                "a.yaml:1:1: name is missing",
                "a.yaml:3:8: list[0]: a list has no place for an empty element",
                "a.yaml:4:23: labels[\"b.c/d\"]: expected a string, got the number 1: put it in quotes",
            ])
    }

    @Test func `problems beyond the limit are counted`() {
        let problems = Problems(limit: 2)
        for line in 1...5 { problems.report(Problem(at: Position(file: "a", line: line), "bad")) }
        #expect(problems.items.count == 2)
        #expect(problems.omitted == 3)
    }
    @Test func `base64 may have line breaks and blanks`() {
        #expect(bytes(ofBase64: "aGVs\n bG8=") == Array("hello".utf8))
        #expect(bytes(ofBase64: "aGVs\u{b}bG8=") == nil && bytes(ofBase64: "aGVsbG8") == nil)
    }
}
