import Linux
import TLS

/// Where the control component is, and how a node proves itself to it.
public struct DiscoveryConfiguration: Sendable {
    public var node: NodeDescription
    /// `host:port` of xDS and CA.
    public var control: String
    /// What the server's certificate must name; nil for the host of `control`.
    public var serverName: String?
    /// What the server's certificate is verified against: read again for every connection.
    public var roots: TextSource
    /// A join token, or a Kubernetes service account's token: read again for every call.
    public var token: TextSource?
    public var trustDomain = "cluster.local"
    public var clusterID = "Kubernetes"
    /// Whether the token is exchanged for a client certificate at first. istiod knows no such thing: there the token goes
    /// with every call.
    public var usesNodeCertificate = true
    /// Whether the control component says which pods to capture; istiod does not.
    public var subscribesToLocalPods = true
    /// What is asked of the CA, which may grant less.
    public var certificateLife: Duration = .seconds(86_400)
    /// Where the node's own certificate is kept, for a join token expires; nil to keep it in memory only.
    public var stateDirectory: String?
    /// Who seals and opens TLS records behind the handshake.
    public var tlsRecords = RecordLayer.own

    public init(node: NodeDescription, control: String, roots: TextSource, token: TextSource? = nil) {
        self.node = node
        self.control = control
        self.roots = roots
        self.token = token
    }

    var types: [ResourceType] {
        switch node.kind {
        case .waypoint: [.addresses, .policies, .waypointServices]
        case .node: subscribesToLocalPods ? ResourceType.ofNode : [.addresses, .policies]
        }
    }
}

/// A text that lies in a file, or is the option's value itself, as ztunnel takes roots and tokens.
public enum TextSource: Sendable, Equatable {
    case file(String)
    case literal(String)

    /// - Throws: when the file cannot be read, is longer than 1 MiB, or holds something else than text.
    public func read() throws(TextSourceError) -> String {
        switch self {
        case .literal(let text): return text
        case .file(let path):
            let bytes: [UInt8]
            do throws(SystemCallError) {
                bytes = try readFile(path, limit: 1 << 20)
            } catch {
                throw TextSourceError(description: "\(error)")
            }
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw TextSourceError(description: "\(path): not UTF-8")
            }
            return text
        }
    }

    /// The text as a bearer token: without the line end that editors add, and fit for a header.
    public func readToken() throws(TextSourceError) -> String {
        var token = Substring(try read())
        while let last = token.last, last.isWhitespace { token.removeLast() }
        guard !token.isEmpty, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw TextSourceError(description: "the token is empty or holds characters that no header may")
        }
        return String(token)
    }
}

/// Why a file of roots or a token is not usable. Says nothing of what it holds.
public struct TextSourceError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
}
