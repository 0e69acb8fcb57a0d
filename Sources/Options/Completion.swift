/// A shell that completes what is typed.
public enum Shell: String, Sendable, CaseIterable {
    case bash, zsh, fish
}

extension Command {
    /// A script that makes a shell complete this program's commands and options, to be sourced or installed.
    public func completionScript(_ shell: Shell) -> String {
        switch shell {
        case .bash: bashScript
        case .zsh: zshScript
        case .fish: fishScript
        }
    }

    /// Every command with the names that lead to it, and the options that it takes there.
    private func walk(
        _ trail: [String] = [], _ inherited: [OptionDeclaration] = []
    ) -> [(trail: [String], command: Command, options: [OptionDeclaration])] {
        let all = inherited + options
        return [(trail, self, all)] + subcommands.flatMap { $0.walk(trail + [$0.name], all) }
    }

    private var function: String { "_" + name.map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined() }

    private var bashScript: String {
        var cases = ""
        for (trail, command, options) in walk() {
            let words =
                command.subcommands.map(\.name) + options.map { "--\($0.name)" } + ["--help"]
                + (trail.isEmpty ? ["--version"] : [])
            cases += "    '\(trail.joined(separator: " "))') words='\(words.joined(separator: " "))' ;;\n"
        }
        var values = ""
        for option in unique(walk().flatMap(\.options)) where !option.choices.isEmpty {
            values +=
                "    \(option.flags)) COMPREPLY=($(compgen -W '\(option.choices.joined(separator: " "))' -- \"$current\")); return ;;\n"
        }
        let taking = unique(walk().flatMap(\.options)).filter { $0.kind != .flag && $0.choices.isEmpty }
        if !taking.isEmpty {
            let names = taking.map(\.flags).joined(separator: "|")
            values += "    \(names)) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n"
        }
        return """
            \(function)() {
              local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" trail='' words='' word
              case "$previous" in
            \(values)  esac
              for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
                case "$word" in -*) ;; *) trail="${trail:+$trail }$word" ;; esac
              done
              case "$trail" in
            \(cases)  esac
              COMPREPLY=($(compgen -W "$words" -- "$current"))
            }
            complete -o default -F \(function) \(name)

            """
    }

    private var zshScript: String {
        // zsh runs bash's completion functions.
        "#compdef \(name)\nautoload -U +X bashcompinit && bashcompinit\n\(bashScript)"
    }

    private var fishScript: String {
        var lines: [String] = []
        for (trail, command, _) in walk() {
            let condition =
                trail.isEmpty
                ? "__fish_use_subcommand" : "__fish_seen_subcommand_from \(trail.last ?? "")"
            let guardText = subcommands.isEmpty ? "" : " -n '\(condition)'"
            for subcommand in command.subcommands {
                lines.append(
                    "complete -c \(name)\(guardText) -f -a \(subcommand.name) -d \(quoted(subcommand.summary))"
                )
            }
            for option in command.options {
                let isEverywhere = trail.isEmpty
                var line =
                    "complete -c \(name)\(isEverywhere ? "" : guardText) -l \(option.name) -d \(quoted(option.help))"
                if let short = option.short { line += " -s \(short)" }
                if option.kind != .flag { line += " -r" }
                if !option.choices.isEmpty { line += " -f -a '\(option.choices.joined(separator: " "))'" }
                lines.append(line)
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func unique(_ options: [OptionDeclaration]) -> [OptionDeclaration] {
        var seen: Set<String> = []
        return options.filter { seen.insert($0.name).inserted }
    }

    private func quoted(_ text: String) -> String {
        "'" + text.map { $0 == "'" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "'"
    }
}

extension OptionDeclaration {
    /// Both of its flags, as a pattern of the shell.
    fileprivate var flags: String { (short.map { "-\($0)|" } ?? "") + "--\(name)" }
}
