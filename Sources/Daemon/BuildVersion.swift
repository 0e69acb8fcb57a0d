import Options

/// Which build this is, in the members that ztunnel's dump has for it.
package struct BuildVersion: Sendable {
    package static let current = BuildVersion(version: Version.current)

    package let version: String

    package init(version: String) { self.version = version }

    package var members: [(name: String, value: String)] {
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
