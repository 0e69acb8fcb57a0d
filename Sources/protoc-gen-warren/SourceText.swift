/// Generated source: lines with their indentation.
struct SourceText {
    private(set) var text = ""
    private var depth = 0

    mutating func line(_ content: String = "") {
        if !content.isEmpty { text += String(repeating: "    ", count: depth) + content }
        text += "\n"
    }

    /// `head {`, what `body` adds, `}`.
    mutating func block(
        _ head: String, _ body: (inout SourceText) throws(GeneratorError) -> Void
    ) throws(GeneratorError) {
        line(head + " {")
        depth += 1
        try body(&self)
        depth -= 1
        line("}")
    }

    /// `switch subject {`, the cases, `}`; cases stand below `switch`, not below its body.
    mutating func cases(of subject: String, _ cases: [String]) {
        line("switch \(subject) {")
        for text in cases { line(text) }
        line("}")
    }

    /// A comment of the .proto file as documentation.
    mutating func documentation(_ comment: String?) {
        guard let comment, !comment.isEmpty else { return }
        for part in comment.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            let words = part.drop { $0 == " " }
            line(words.isEmpty ? "///" : "/// \(words)")
        }
    }
}

/// Why the files cannot be generated; protoc shows it.
struct GeneratorError: Error {
    let message: String

    init(_ message: String) {
        self.message = message
    }
}
