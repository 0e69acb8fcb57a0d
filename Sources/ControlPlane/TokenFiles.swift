import Linux
import Log
import Synchronization
import TLS

/// Makes join tokens, and keeps the files of those that nodes and waypoints on this machine read.
public final class TokenFiles: Sendable {
    /// Seconds for which a token in a file is good; it is replaced well before.
    public static let fileLife: Int64 = 3_600
    public static let refreshInterval = Duration.seconds(1_200)
    /// Seconds for which a token may be good at most.
    public static let longestLife: Int64 = 7 * 86_400

    private let state: StateDirectory
    private let key: [UInt8]
    /// The generation whose files are there: an older one, whose thread was slower, does not replace them.
    private let written = Mutex(0)
    private static let logger = Logger(scope: "tokens")

    public init(_ state: StateDirectory, key: [UInt8]) {
        self.state = state
        self.key = key
    }

    /// A new token, with an audit line of its number.
    ///
    /// - Parameter life: seconds, capped.
    public func make(for caller: Caller, life: Int64, now: UnixTime = .now) throws(TLSError) -> String {
        let id = randomBytes(8).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let expiry = now + min(max(1, life), Self.longestLife)
        let text = try JoinToken(caller, expiry: expiry, id: id).signed(with: key)
        Logger(scope: "audit").info(
            "join token issued", ["caller": caller, "token": id, "expires": expiry])
        return text
    }

    /// Writes fresh tokens for `callers`, and removes the files of others. Blocks for the disk.
    public func write(_ callers: Set<Caller>, generation: Int) throws(StateError) {
        var tokens: [String: String] = [:]
        for caller in callers { tokens[caller.tokenFile] = try token(for: caller) }
        try written.withLock { (written) throws(StateError) in
            guard generation >= written else { return }
            written = generation
            try state.writeTokens(tokens)
        }
    }

    /// The same on a thread of its own; a failure is logged, and the next refresh tries again.
    public func writeInBackground(_ callers: Set<Caller>, generation: Int) {
        do throws(SystemCallError) {
            _ = try Thread.start(name: "tokens") { [self] in
                do throws(StateError) {
                    try write(callers, generation: generation)
                } catch { Self.logger.error("cannot write join tokens", ["error": error]) }
            }
        } catch { Self.logger.error("cannot write join tokens", ["error": error]) }
    }

    private func token(for caller: Caller) throws(StateError) -> String {
        do throws(TLSError) { return try make(for: caller, life: Self.fileLife) } catch {
            throw .tls(file: "tokens/\(caller.tokenFile)", error)
        }
    }
}
