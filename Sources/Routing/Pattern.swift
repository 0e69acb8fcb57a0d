import CRE2

/// What is wrong with a regular expression or with what it is replaced by.
public enum PatternError: Error, Hashable, Sendable, CustomStringConvertible {
    /// RE2's own words.
    case syntax(String)
    case tooLong(byteCount: Int)
    case tooLarge(instructionCount: Int)
    case replacement

    public var description: String {
        switch self {
        case .syntax(let text): "not a regular expression of RE2: \(text)"
        case .tooLong(let count):
            "a regular expression has at most \(Pattern.maximumLength) bytes, this one has \(count)"
        case .tooLarge(let count):
            "the regular expression is too costly: \(count) instructions, where \(Pattern.maximumProgramSize) are the limit"
        case .replacement:
            "the replacement names a group that the regular expression does not have, or ends in '\\'"
        }
    }
}

/// A regular expression of RE2, compiled once: matching takes time linear in the text, whatever the expression.
@safe public final class Pattern: Sendable {
    /// Istio's limit, in bytes.
    public static let maximumLength = 1_024
    /// In RE2's instructions. `[a-z]{1,1000}` does not fit; anything a person writes for a path does.
    public static let maximumProgramSize = 10_000
    /// For the program, and for the automaton that RE2 keeps of it: with it full, matching is slower and stays linear.
    private static let maximumMemory: Int64 = 2 << 20

    public let text: String
    /// RE2 locks what it changes while it matches.
    nonisolated(unsafe) private let handle: OpaquePointer

    public init(_ text: String) throws(PatternError) {
        guard text.utf8.count <= Self.maximumLength else { throw .tooLong(byteCount: text.utf8.count) }
        self.text = text
        var copy = text
        unsafe handle = copy.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe warren_re2_new($0.baseAddress, $0.count, Self.maximumMemory)
            }
        }
        if let message = unsafe warren_re2_error(handle) {
            throw .syntax(unsafe String(cString: message))
        }
        let size = Int(unsafe warren_re2_program_size(handle))
        guard size <= Self.maximumProgramSize else { throw .tooLarge(instructionCount: size) }
    }

    deinit { unsafe warren_re2_free(handle) }

    /// Whether the whole of `text` matches.
    public func matches(_ text: Span<UInt8>) -> Bool {
        unsafe text.withUnsafeBytes { bytes in
            let start = unsafe bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            return unsafe warren_re2_matches(handle, start, bytes.count)
        }
    }

    /// Fails where `replacement` names a group (`\1`) that is not there.
    public func check(replacement: String) throws(PatternError) {
        var copy = replacement
        let isRight = copy.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe warren_re2_accepts_replacement(handle, $0.baseAddress, $0.count)
            }
        }
        guard isRight else { throw .replacement }
    }

    /// `text` with every match replaced; `\1` to `\9` stand for groups, `\0` for the match.
    public func replace(in text: Span<UInt8>, with replacement: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        unsafe withUnsafeMutablePointer(to: &result) { result in
            unsafe text.withUnsafeBytes { text in
                unsafe replacement.withUnsafeBytes { replacement in
                    unsafe warren_re2_replace(
                        handle, text.baseAddress?.assumingMemoryBound(to: CChar.self), text.count,
                        replacement.baseAddress?.assumingMemoryBound(to: CChar.self), replacement.count,
                        result
                    ) { context, bytes, length in
                        unsafe context?.assumingMemoryBound(to: [UInt8].self).pointee.append(
                            contentsOf: UnsafeRawBufferPointer(start: bytes, count: length))
                    }
                }
            }
        }
        return result
    }
}
