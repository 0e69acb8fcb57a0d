import Telemetry
import Testing

struct JSONWriterTests {
    private func write(pretty: Bool = false, _ body: (inout JSONWriter) -> Void) -> String {
        var writer = JSONWriter(pretty: pretty)
        body(&writer)
        return writer.text
    }

    @Test func `nests objects and arrays`() {
        let text = write { writer in
            writer.object { writer in
                writer.member("name", "a")
                writer.arrayMember("list", of: [1, 2]) { $0.number($1) }
                writer.objectMember("none") { _ in }
                writer.arrayMember("empty") { _ in }
                writer.member("yes", true)
                writer.nullMember("nothing")
                writer.member("least", Int64.min)
                writer.arrayMember("mixed") { writer in
                    writer.object { $0.member("x", 0) }
                    writer.array { $0.string("y") }
                    writer.null()
                    writer.boolean(false)
                }
            }
        }
        #expect(
            text == """
                {"name":"a","list":[1,2],"none":{},"empty":[],"yes":true,"nothing":null,\
                "least":-9223372036854775808,"mixed":[{"x":0},["y"],null,false]}
                """)
    }

    @Test func `indents for people`() {
        let text = write(pretty: true) { writer in
            writer.object { writer in
                writer.arrayMember("a", of: ["x", "y"])
                writer.objectMember("o") { _ in }
            }
        }
        #expect(text == "{\n  \"a\": [\n    \"x\",\n    \"y\"\n  ],\n  \"o\": {}\n}")
    }

    @Test func `escapes what would break out or disturb a terminal, and nothing else`() {
        let text = write { $0.string("a\"\\\n\r\t\0\u{1b}\u{7f}\u{2029}é漢😀") }
        #expect(text == #""a\"\\\n\r\t\u0000\u001b\u007f\u2029é漢😀""#)
    }
}
