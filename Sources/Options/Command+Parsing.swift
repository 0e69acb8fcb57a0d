import Linux

extension Command {
    /// Understands a command line. Flags win over the environment, that over the file, that over defaults.
    ///
    /// - Parameters:
    ///   - words: without the program's own name.
    ///   - environment: looks a variable up; an empty one counts as not set.
    ///   - readFile: the contents of a configuration file.
    public func parse(
        _ words: [String], environment: (String) -> String? = environmentVariable,
        readFile: (String) throws(SystemCallError) -> [UInt8] = { path throws(SystemCallError) in
            try Linux.readFile(path, limit: 1 << 20)
        }
    ) -> CommandOutcome {
        var parsing = Parsing(options: options)
        var command = self
        var trail = [name]
        var index = 0
        var onlyArguments = false
        while index < words.count {
            let word = words[index]
            index += 1
            if onlyArguments || !word.hasPrefix("-") || word == "-" {
                if let next = command.subcommands.first(where: { $0.name == word }) {
                    command = next
                    trail.append(next.name)
                    parsing.invocation.path.append(next.name)
                    parsing.add(next.options)
                } else if command.subcommands.isEmpty {
                    parsing.invocation.arguments.append(word)
                } else {
                    let known = command.subcommands.map(\.name)
                    parsing.report(word, "no such command\(suggestion(for: word, among: known))")
                    break
                }
            } else if word == "--" {
                onlyArguments = true
            } else if word == "--help" || word == "-h" {
                return .answer(command.helpText(trail, options: parsing.options))
            } else if word == "--version", trail.count == 1 {
                return .answer("\(name) \(Version.current)\n")
            } else {
                parsing.readFlag(word, words, &index)
            }
        }
        if !command.subcommands.isEmpty, parsing.problems.isEmpty {
            if words.isEmpty { return .answer(command.helpText(trail, options: parsing.options)) }
            parsing.report(trail.joined(separator: " "), "a command is missing; see --help")
        }
        parsing.readEnvironment(environment)
        if let fileOption { parsing.readFile(named: fileOption, readFile) }
        parsing.checkRequired()
        command.check(parsing.invocation.arguments, &parsing)
        return parsing.problems.isEmpty ? .run(parsing.invocation) : .invalid(parsing.problems)
    }

    private func check(_ given: [String], _ parsing: inout Parsing) {
        let required = arguments.count { $0.isRequired }
        if given.count < required { parsing.report(arguments[given.count].name, "missing") }
        if given.count > arguments.count, arguments.last?.isRepeated != true {
            for word in given[arguments.count...] where subcommands.isEmpty {
                parsing.report(word, "unexpected argument")
            }
        }
    }
}

/// A command line on its way to be understood.
private struct Parsing {
    private(set) var options: [OptionDeclaration] = []
    var invocation = Invocation()
    private(set) var problems: [OptionProblem] = []

    init(options: [OptionDeclaration]) {
        add(options)
    }

    mutating func add(_ more: [OptionDeclaration]) {
        options += more
        invocation.declared.formUnion(more.map(\.name))
    }

    mutating func report(_ place: String, _ message: String) {
        problems.append(OptionProblem(place: place, message: message))
    }

    mutating func readFlag(_ word: String, _ words: [String], _ index: inout Int) {
        let body = word.drop { $0 == "-" }
        let isLong = word.hasPrefix("--")
        // What stands behind the letter of a short option, or behind the `=` of a long one, is its value.
        let parts =
            isLong
            ? body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            : [body.prefix(1), body.dropFirst()].filter { !$0.isEmpty }
        let name = parts.first.map(String.init) ?? ""
        let option = options.first { isLong ? $0.name == name : $0.short.map(String.init) == name }
        guard let option else {
            return report(
                word, "no such option\(suggestion(for: name, among: options.map(\.name), prefix: "--"))")
        }
        var text: String
        if parts.count == 2 {
            text = String(parts[1])
        } else if option.kind == .flag {
            text = "true"
        } else if index < words.count {
            text = words[index]
            index += 1
        } else {
            return report("--\(option.name)", "a value is missing: --\(option.name) \(option.placeholder)")
        }
        accept(option, [text], .flag, place: "--\(option.name)")
    }

    mutating func readEnvironment(_ environment: (String) -> String?) {
        for option in options where invocation.values[option.name] == nil {
            for variable in option.environment {
                guard let text = environment(variable), !text.isEmpty else { continue }
                accept(option, option.texts(in: text), .environment(variable), place: variable)
                break
            }
        }
    }

    /// Lines `name = value`; blank ones and those that begin with `#` are skipped.
    mutating func readFile(named option: String, _ read: (String) throws(SystemCallError) -> [UInt8]) {
        guard let path = invocation.values[option]?.texts.last else { return }
        let contents: [UInt8]
        do throws(SystemCallError) { contents = try read(path) } catch {
            return report(path, errorText(error.number))
        }
        let lines = contents.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        var seen: Set<String> = []
        for (number, bytes) in lines.enumerated() {
            let line = String(decoding: bytes, as: UTF8.self).trimmed
            let place = "\(path):\(number + 1)"
            if line.isEmpty || line.hasPrefix("#") { continue }
            guard let equals = line.firstIndex(of: "=") else {
                report(place, "not of the form name = value")
                continue
            }
            let name = String(line[..<equals]).trimmed
            guard let option = options.first(where: { $0.name == name }) else {
                report(place, "no such option\(suggestion(for: name, among: options.map(\.name)))")
                continue
            }
            if !seen.insert(name).inserted { report(place, "\(name) is set twice") }
            guard invocation.values[name] == nil || option.kind == .list else { continue }
            if case .some((_, .flag)) = invocation.values[name] { continue }
            if case .some((_, .environment)) = invocation.values[name] { continue }
            let value = String(line[line.index(after: equals)...]).trimmed
            accept(option, option.texts(in: value), .file(path, line: number + 1), place: place)
        }
    }

    mutating func checkRequired() {
        for option in options where option.isRequired && invocation.values[option.name] == nil {
            // One that was given wrongly is reported already.
            if problems.contains(where: {
                $0.place == "--\(option.name)" || option.environment.contains($0.place)
            }) {
                continue
            }
            let variables =
                option.environment.isEmpty ? "" : " (or \(option.environment.joined(separator: ", ")))"
            report("--\(option.name)", "missing\(variables): \(option.help)")
        }
    }

    private mutating func accept(
        _ option: OptionDeclaration, _ texts: [String], _ source: Invocation.Source, place: String
    ) {
        let wrong = texts.compactMap { option.problem($0) }
        guard wrong.isEmpty else {
            for message in wrong { report(place, message) }
            return
        }
        if source == .flag, let known = invocation.values[option.name] {
            guard option.kind == .list else { return report(place, "given twice") }
            invocation.values[option.name] = (known.texts + texts, source)
        } else {
            invocation.values[option.name] = (texts, source)
        }
    }
}

extension OptionDeclaration {
    fileprivate func texts(in text: String) -> [String] {
        kind == .list ? text.split(separator: ",").map { String($0).trimmed } : [text]
    }
}

extension String {
    fileprivate var trimmed: String {
        let isBlank = { (character: Character) in character == " " || character == "\t" || character == "\r" }
        return String(
            drop(while: isBlank).reversed().drop(while: isBlank).reversed())
    }
}

/// `; did you mean --node?` when a known name is near.
private func suggestion(for name: String, among known: [String], prefix: String = "") -> String {
    let nearest = known.map { (name: $0, distance: distance(Array(name.utf8), Array($0.utf8))) }
        .min { $0.distance < $1.distance }
    guard let nearest, nearest.distance <= max(1, nearest.name.count / 3) else { return "" }
    return "; did you mean \(prefix)\(nearest.name)?"
}

/// How many letters must be changed, added or taken away to come from one word to another (Levenshtein).
private func distance(_ from: [UInt8], _ to: [UInt8]) -> Int {
    // Nobody mistypes a word of this length into a known one; a long argument must not cost its square.
    guard from.count <= 64 else { return .max }
    var row = Array(0...to.count)
    for (index, letter) in from.enumerated() {
        var diagonal = row[0]
        row[0] = index + 1
        for column in to.indices {
            let cost = diagonal + (letter == to[column] ? 0 : 1)
            diagonal = row[column + 1]
            row[column + 1] = min(cost, min(row[column], row[column + 1]) + 1)
        }
    }
    return row[to.count]
}
