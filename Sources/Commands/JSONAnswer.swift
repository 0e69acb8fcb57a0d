import Documents

/// A page that a daemon answered. Fields that are missing, or of another kind, read as nil: an older or newer daemon
/// says less or more, and a report of the rest is better than none.
struct JSONAnswer: Hashable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }

    init(_ bytes: [UInt8], from socket: String) throws(CommandError) {
        do { value = Value(try Node(json: bytes, file: socket)) } catch {
            throw .malformed(socket: socket, error.description)
        }
    }

    subscript(key: String) -> JSONAnswer? { value[key].map { JSONAnswer($0) } }

    func text(_ key: String) -> String? {
        switch value[key] {
        case .string(let text)?: text
        case .integer(let number)?: String(number)
        default: nil
        }
    }

    func count(_ key: String) -> Int? {
        guard case .integer(let number)? = value[key] else { return nil }
        return Int(exactly: number)
    }

    func flag(_ key: String) -> Bool? {
        guard case .boolean(let flag)? = value[key] else { return nil }
        return flag
    }

    func list(_ key: String) -> [JSONAnswer] {
        guard case .list(let elements)? = value[key] else { return [] }
        return elements.map { JSONAnswer($0) }
    }

    func texts(_ key: String) -> [String] {
        guard case .list(let elements)? = value[key] else { return [] }
        return elements.compactMap { if case .string(let text) = $0 { text } else { nil } }
    }
}
