import Glibc
import Linux

extension Command {
    /// The help text of a command.
    ///
    /// - Parameters:
    ///   - trail: the names that lead to it, the program's first.
    ///   - options: its own and those of the commands around it.
    func helpText(_ trail: [String], options: [OptionDeclaration]) -> String {
        var usage = "Usage: \(trail.joined(separator: " "))"
        if !options.isEmpty { usage += " [options]" }
        if !subcommands.isEmpty { usage += " COMMAND" }
        for argument in arguments {
            let name = argument.name + (argument.isRepeated ? "..." : "")
            usage += argument.isRequired ? " \(name)" : " [\(name)]"
        }
        var sections = [summary, usage]
        func section(_ title: String, _ rows: [(String, String)]) {
            guard !rows.isEmpty else { return }
            let width = min(34, rows.map(\.0.count).max() ?? 0)
            let lines = rows.map { name, text in
                let gap = name.count > width ? "\n" + String(repeating: " ", count: width) : ""
                let padding = String(repeating: " ", count: max(0, width - name.count))
                return "  \(name)\(padding)\(gap.isEmpty ? "" : gap + "  ")  \(text)"
            }
            sections.append("\(title):\n" + lines.joined(separator: "\n"))
        }
        section("Commands", subcommands.map { ($0.name, $0.summary) })
        section("Arguments", arguments.map { ($0.name, $0.help) })
        var always = [("--help", "Show this text.")]
        if trail.count == 1 { always.append(("--version", "Show the version.")) }
        section("Options", options.map { ($0.spelling, $0.details) } + always)
        section("Examples", examples.map { ($0.command, $0.text) })
        return sections.joined(separator: "\n\n") + "\n"
    }

    /// Understands the process's own command line, or ends the process: with 0 after showing help or the version, with 2 after telling
    /// everything that is wrong.
    public func parseOrExit(_ words: [String]) -> Invocation {
        switch parse(words) {
        case .run(let invocation):
            return invocation
        case .answer(let text):
            try? OutputFile.standardOutput().write(text)
            exit(0)
        case .invalid(let problems):
            let lines = problems.map { "\(name): \($0)\n" }.joined()
            try? OutputFile.standardError().write(lines + "See \(name) --help.\n")
            exit(2)
        }
    }
}

extension OptionDeclaration {
    /// How it is written on the command line: `-f, --file DIR`.
    fileprivate var spelling: String {
        (short.map { "-\($0), " } ?? "") + "--\(name)" + (kind == .flag ? "" : " \(placeholder)")
    }

    /// The help text with what it is read from and its default.
    fileprivate var details: String {
        var notes: [String] = []
        if !choices.isEmpty { notes.append("one of \(choices.joined(separator: ", "))") }
        if kind == .list { notes.append("may be repeated") }
        if let defaultText { notes.append("default \(defaultText)") }
        if isRequired { notes.append("required") }
        if !environment.isEmpty { notes.append("environment \(environment.joined(separator: ", "))") }
        return notes.isEmpty ? help : "\(help) (\(notes.joined(separator: "; ")))"
    }
}
