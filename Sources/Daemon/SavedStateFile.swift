import Linux

/// What a restart goes on from: configuration and certificates, in one file that only the daemon can read, on a tmpfs.
package struct SavedStateFile {
    private let path: String

    /// The largest mesh that is kept.
    private static let limit = 1 << 30

    package init(directory: String) {
        path = "\(directory)/state"
    }

    /// Nil when there is none.
    package func load() -> [UInt8]? { try? readFile(path, limit: Self.limit) }

    package func store(_ bytes: [UInt8]) throws(SystemCallError) {
        try writeFileAtomically(path, bytes, mode: 0o600)
    }
}
