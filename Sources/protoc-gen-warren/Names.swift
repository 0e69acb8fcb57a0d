/// How names of the protobuf language become Swift's, by the rules of Apple's generator.
enum Names {
    /// `istio.workload` → `Istio_Workload_`; no package, no prefix.
    static func prefix(package: String) -> String {
        guard !package.isEmpty else { return "" }
        return package.split(separator: ".").map { upperCamel(String($0)) + "_" }.joined()
    }

    static func property(_ name: String) -> String {
        escape(lowerCamel(name))
    }

    /// `HBONE` of `TunnelProtocol` → `hbone`; a value that repeats its enum's name loses it.
    static func enumCase(_ value: String, of enumName: String) -> String {
        let name = lowerCamel(value.lowercased())
        let prefix = lowerCamel(snake(enumName))
        let rest = name.dropFirst(prefix.count)
        guard name.hasPrefix(prefix), let first = rest.first, first.isLetter else { return escape(name) }
        // The rest begins a word, `captureStateRefused` → `refused`, or the prefix was only a coincidence.
        guard first.isUppercase else { return escape(name) }
        return enumCase(String(value.dropFirst(snake(enumName).count + 1)))
    }

    private static func enumCase(_ value: String) -> String {
        escape(lowerCamel(value.lowercased()))
    }

    /// A type whose name Swift keeps for itself takes its kind as a suffix.
    static func type(_ name: String, suffix: String) -> String {
        ["Type", "Protocol", "Self", "Any", "Extension"].contains(name) ? name + suffix : name
    }

    static func upperCamel(_ name: String) -> String {
        name.split(separator: "_").map { capitalized(String($0)) }.joined()
    }

    static func lowerCamel(_ name: String) -> String {
        let words = name.split(separator: "_").map(String.init)
        guard let first = words.first else { return name }
        return first.prefix(1).lowercased() + first.dropFirst() + words.dropFirst().map(capitalized).joined()
    }

    private static func capitalized(_ word: String) -> String {
        if ["id", "url", "http", "https"].contains(word) { return word.uppercased() }
        return word.prefix(1).uppercased() + word.dropFirst()
    }

    /// `CaptureState` → `capture_state`.
    private static func snake(_ name: String) -> String {
        var result = ""
        var previous: Character?
        for character in name {
            if character.isUppercase, let previous, !previous.isUppercase, previous != "_" { result += "_" }
            result += character.lowercased()
            previous = character
        }
        return result
    }

    /// A case behind its dot, where a keyword needs no quotes.
    static func reference(_ enumCase: String) -> String {
        "." + enumCase.filter { $0 != "`" }
    }

    private static func escape(_ name: String) -> String {
        if taken.contains(name) { return name + "_p" }
        return keywords.contains(name) ? "`\(name)`" : name
    }

    /// Names that members of every message have already.
    private static let taken: Set<String> = ["init", "self", "unknownFields", "protoMessageName", "rawValue"]

    private static let keywords: Set<String> = [
        "as", "associatedtype", "break", "case", "catch", "class", "continue", "default", "defer", "deinit",
        "do",
        "else", "enum", "extension", "fallthrough", "false", "fileprivate", "for", "func", "guard", "if",
        "import",
        "in", "inout", "internal", "is", "let", "nil", "operator", "precedencegroup", "private", "protocol",
        "public", "repeat", "rethrows", "return", "static", "struct", "subscript", "super", "switch", "throw",
        "throws", "true", "try", "typealias", "var", "where", "while",
    ]
}
