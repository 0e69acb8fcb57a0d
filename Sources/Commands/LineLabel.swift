/// Cuts the output of a program into lines and puts its name before each.
struct LineLabel {
    /// A line that is longer is passed on in pieces: a program without line ends fills no memory.
    static let limit = 64 << 10

    private let prefix: [UInt8]
    private var pending: [UInt8] = []

    /// - Parameters:
    ///   - width: the names of all programs are padded to this.
    ///   - colour: an ANSI colour number; nil for plain text.
    init(_ name: String, width: Int, colour: Int? = nil) {
        let padded = name + String(repeating: " ", count: max(0, width - name.count)) + " |"
        prefix = Array((colour.map { "\u{1b}[\($0)m\(padded)\u{1b}[0m " } ?? "\(padded) ").utf8)
    }

    /// Takes bytes as they come; the whole lines in them, labelled.
    mutating func add(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var out: [UInt8] = []
        for byte in bytes {
            pending.append(byte)
            if byte == UInt8(ascii: "\n") || pending.count >= Self.limit { out += flush() }
        }
        return out
    }

    /// What is left at the end of the output, as a line.
    mutating func flush() -> [UInt8] {
        guard !pending.isEmpty else { return [] }
        defer { pending.removeAll(keepingCapacity: true) }
        return prefix + pending + (pending.last == UInt8(ascii: "\n") ? [] : [UInt8(ascii: "\n")])
    }

    /// A line of our own under this name.
    func line(_ text: String) -> [UInt8] { prefix + Array(text.utf8) + [UInt8(ascii: "\n")] }
}
