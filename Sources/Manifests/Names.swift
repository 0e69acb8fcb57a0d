/// The forms that Kubernetes gives names (its "object names and IDs" page; RFC 1123 §2.1, RFC 1035 §2.3.1).
///
/// Each rule answers nil for a good name, and otherwise what would be right.
public enum Names {
    /// RFC 1123 label: namespaces, and most short names.
    public static func problem(label text: String) -> String? {
        guard (1...63).contains(text.utf8.count),
            text.utf8.allSatisfy({ isLowerAlphanumeric($0) || $0 == dash }),
            edges(of: text, satisfy: isLowerAlphanumeric)
        else {
            return
                "a name of 1 to 63 lower-case letters, digits and '-', that begins and ends with a letter or digit, is needed"
        }
        return nil
    }

    /// RFC 1035 label: services.
    public static func problem(serviceName text: String) -> String? {
        if let first = text.utf8.first, isDigit(first) { return "a service's name begins with a letter" }
        return problem(label: text)
    }

    /// RFC 1123 subdomain: every other object.
    public static func problem(subdomain text: String) -> String? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let isRight =
            text.utf8.count <= 253
            && parts.allSatisfy { part in
                !part.isEmpty && part.utf8.allSatisfy { isLowerAlphanumeric($0) || $0 == dash }
                    && edges(of: part, satisfy: isLowerAlphanumeric)
            }
        return isRight
            ? nil
            : "a name of at most 253 lower-case letters, digits, '-' and '.', with no part empty, is needed"
    }

    /// The name of a container's or service's port: at most 15 letters, digits and '-', at least one of them a letter.
    public static func problem(portName text: String) -> String? {
        guard (1...15).contains(text.utf8.count),
            text.utf8.allSatisfy({ isLowerAlphanumeric($0) || $0 == dash }),
            text.utf8.contains(where: isLowerLetter), edges(of: text, satisfy: isLowerAlphanumeric),
            !text.contains("--")
        else {
            return
                "a port name of 1 to 15 lower-case letters, digits and '-', with at least one letter, is needed"
        }
        return nil
    }

    /// A label's or annotation's key: `[prefix/]name`.
    public static func problem(labelKey text: String) -> String? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        if parts.count == 2, problem(subdomain: String(parts[0])) != nil {
            return "the part before '/' has to be a domain name"
        }
        guard let name = parts.last, parts.count <= 2, isLabelWord(name), !name.isEmpty else {
            return "a key is [domain/]name; the name has 1 to 63 letters, digits, '-', '_' and '.'"
        }
        return nil
    }

    public static func problem(labelValue text: String) -> String? {
        isLabelWord(text[...])
            ? nil
            : "a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"
    }

    private static func isLabelWord(_ text: Substring) -> Bool {
        text.utf8.count <= 63
            && text.utf8.allSatisfy {
                isAlphanumeric($0) || $0 == dash || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".")
            } && edges(of: text, satisfy: isAlphanumeric)
    }

    private static let dash = UInt8(ascii: "-")

    private static func edges(of text: some StringProtocol, satisfy rule: (UInt8) -> Bool) -> Bool {
        guard let first = text.utf8.first, let last = text.utf8.reversed().first else { return true }
        return rule(first) && rule(last)
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
    private static func isLowerLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
    }
    private static func isLowerAlphanumeric(_ byte: UInt8) -> Bool { isLowerLetter(byte) || isDigit(byte) }
    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        isLowerAlphanumeric(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
    }
}
