import Documents
import Encodings
import Manifests
import Mesh
import TLS

/// What a node or a waypoint proves itself with before it has a certificate: names one of them, expires, and is
/// authenticated by a key that only the control component has. Self-contained, so that nothing is stored for it.
///
/// `warren1.<node>.<expiry>.<id>.<code>`: the node's name in Base64, seconds since the epoch, 16 hexadecimal digits that
/// tell tokens apart in the audit log, and the HMAC-SHA256 of everything before. A waypoint's begins with `warren1w`, and has
/// `<namespace>/<name>` in the node's place. A token is a secret: never log it.
public struct JoinToken: Sendable, Equatable {
    public let caller: Caller
    /// Seconds since the epoch.
    public let expiry: UnixTime
    /// For the audit log, instead of the token.
    public let id: String

    public init(_ caller: Caller, expiry: UnixTime, id: String) {
        self.caller = caller
        self.expiry = expiry
        self.id = id
    }

    public enum Refusal: Error, Equatable, CustomStringConvertible {
        /// Not of the form above, or not made by this control component.
        case notOurs
        /// Genuine, but too old.
        case expired(id: String, Caller)

        public var description: String {
            switch self {
            case .notOurs: "the token was not issued here"
            case .expired(let id, let caller): "the token \(id) of \(caller) has expired"
            }
        }
    }

    private static let nodePrefix = "warren1"
    private static let waypointPrefix = "warren1w"
    /// Longer texts are no tokens: a node's name has at most 253 bytes.
    private static let byteLimit = 1_024

    /// The token itself.
    public func signed(with key: [UInt8]) throws(TLSError) -> String {
        let (prefix, name) =
            switch caller {
            case .node(let name): (Self.nodePrefix, name)
            case .waypoint(let name): (Self.waypointPrefix, name.description)
            }
        let contents = "\(prefix).\(Base64.encode(name.utf8, .url, isPadded: false)).\(expiry).\(id)"
        let code = try MessageAuthentication.code(for: Array(contents.utf8), key: key)
        return "\(contents).\(Base64.encode(code, .url, isPadded: false))"
    }

    /// Takes a token apart. The code is checked before anything that it covers is looked at.
    public init(verifying text: String, key: [UInt8], now: UnixTime) throws(Refusal) {
        guard text.utf8.count <= Self.byteLimit, let dot = text.utf8.lastIndex(of: UInt8(ascii: ".")) else {
            throw .notOurs
        }
        let contents = String(text[..<dot])
        guard let code = Base64.decode(text[text.utf8.index(after: dot)...].utf8, .url, padding: .none),
            let expected = try? MessageAuthentication.code(for: Array(contents.utf8), key: key),
            MessageAuthentication.areEqual(code, expected)
        else { throw .notOurs }
        let parts = contents.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, let name = Base64.decode(parts[1].utf8, .url, padding: .none),
            let caller = Self.caller(parts[0], String(decoding: name, as: UTF8.self)),
            let expiry = UnixTime(parts[2])
        else { throw .notOurs }
        self.init(caller, expiry: expiry, id: String(parts[3]))
        guard now < expiry else { throw .expired(id: id, caller) }
    }

    private static func caller(_ prefix: Substring, _ name: String) -> Caller? {
        switch String(prefix) {
        case nodePrefix: .node(name)
        case waypointPrefix: NamespacedName(name).map(Caller.waypoint)
        default: nil
        }
    }
}
