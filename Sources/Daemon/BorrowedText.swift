import Discovery
import Linux

/// Whether the process, as the user that it is now, can keep files there.
package func isWritable(_ directory: String) -> Bool {
    let probe = "\(directory)/.probe"
    guard (try? writeFileAtomically(probe, [])) != nil else { return false }
    try? removeFile(probe)
    return true
}

/// A text of which root can read the file and the daemon's user may not: its contents, until that is known.
package struct BorrowedText {
    private let source: TextSource
    private let contents: [UInt8]?

    private static let limit = 1 << 20

    package init(_ source: TextSource) {
        self.source = source
        if case .file(let path) = source {
            contents = try? readFile(path, limit: Self.limit)
        } else {
            contents = nil
        }
    }

    /// Whether there is anything to use: no other user may read later what root could not.
    package var isMissing: Bool {
        if case .file = source { contents == nil } else { false }
    }

    /// What to use from now on: the file itself when it can still be read, and will be read again when it is
    /// replaced; else a copy of the daemon's own.
    ///
    /// - Parameter name: of the copy.
    package func settle(in directory: String, as name: String) throws(SystemCallError) -> TextSource {
        guard case .file(let path) = source, let contents,
            (try? readFile(path, limit: Self.limit)) == nil
        else { return source }
        let copy = "\(directory)/\(name)"
        try writeFileAtomically(copy, contents, mode: 0o600)
        return .file(copy)
    }
}
