import Discovery
import Linux

/// The files and sockets of a node, made while it is still root, for the user that it is going to be.
struct NodeDirectories {
    private let configuration: NodeConfiguration

    init(_ configuration: NodeConfiguration) {
        self.configuration = configuration
    }

    /// Makes the run directory (0755, root's), the node's own directory below it (0700, the daemon's: it will hold keys)
    /// and the state directory (0700, the daemon's).
    func make() throws(SystemCallError) {
        let owned = configuration.memoryDirectory
        for shared in [configuration.runDirectory, parentDirectory(of: owned)] {
            try makeDirectory(shared, mode: 0o755)
            // Whoever made it first: the daemon's user has to get through to what is its own.
            try changeMode(of: shared, to: 0o755)
        }
        try makeDirectory(owned, mode: 0o700)
        try own(owned)
        guard let state = configuration.stateDirectory else { return }
        try makeDirectory(state, mode: 0o700)
        try own(state)
    }

    private func own(_ path: String) throws(SystemCallError) {
        try changeOwner(of: path, uid: configuration.userID, gid: configuration.userID)
    }

    /// Whether the process, as the user that it is now, can keep files there.
    static func isWritable(_ directory: String) -> Bool {
        let probe = "\(directory)/.probe"
        guard (try? writeFileAtomically(probe, [])) != nil else { return false }
        try? removeFile(probe)
        return true
    }

    /// A text of which root can read the file and the daemon's user may not: its contents, until that is known.
    struct Borrowed {
        private let source: TextSource
        private let contents: [UInt8]?

        private static let limit = 1 << 20

        init(_ source: TextSource) {
            self.source = source
            if case .file(let path) = source {
                contents = try? readFile(path, limit: Self.limit)
            } else {
                contents = nil
            }
        }

        /// What to use from now on: the file itself when it can still be read, and will be read again when it is
        /// replaced; else a copy of the daemon's own.
        ///
        /// - Parameter name: of the copy.
        func settle(in directory: String, as name: String) throws(SystemCallError) -> TextSource {
            guard case .file(let path) = source, let contents,
                (try? readFile(path, limit: Self.limit)) == nil
            else { return source }
            let copy = "\(directory)/\(name)"
            try writeFileAtomically(copy, contents, mode: 0o600)
            return .file(copy)
        }
    }
}
