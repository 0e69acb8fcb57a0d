import Options

/// Which build this is, in the members that ztunnel's dump has for it.
struct BuildVersion: Sendable {
    static let current = BuildVersion(version: Version.current)

    let version: String

    var members: [(name: String, value: String)] {
        [
            ("version", version), ("gitRevision", "unknown"), ("rustVersion", "none; Swift 6"),
            ("buildProfile", buildProfile), ("buildStatus", "unknown"), ("istioVersion", "unknown"),
            ("cryptoProvider", "openssl"),
        ]
    }

    private var buildProfile: String {
        #if DEBUG
            "debug"
        #else
            "release"
        #endif
    }
}
