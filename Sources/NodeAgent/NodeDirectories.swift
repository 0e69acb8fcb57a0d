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
}
