import Address
import Linux
import Log
import Options

/// Where the control component listens: an address and port, or a socket that whoever started it opened (`fd:3`).
public enum ListenAddress: Hashable, Sendable, OptionValue, CustomStringConvertible {
    case address(SocketAddress)
    case inherited(Int32)

    public init?(option text: String) {
        if text.hasPrefix("fd:") {
            guard let number = Int32(text.dropFirst(3)), number > 2 else { return nil }
            self = .inherited(number)
        } else {
            guard let address = SocketAddress(text) else { return nil }
            self = .address(address)
        }
    }

    public static let expectation = "an address and port such as 0.0.0.0:15012, or fd:N"

    public var description: String {
        switch self {
        case .address(let address): "\(address)"
        case .inherited(let number): "fd:\(number)"
        }
    }
}

/// The command line of `warren-control`.
public enum ControlOptions {
    static let configuration = Option<String>.required(
        "config", environment: ["WARREN_CONFIG"], placeholder: "DIR",
        help: "The directory of manifests; watched.")
    static let state = Option<String?>.optional(
        "state", environment: ["WARREN_STATE"], placeholder: "DIR",
        help: "Where the root, the keys and the nodes' join tokens are kept. Needed but for --check.")
    static let listen = Option<[ListenAddress]>.list(
        "listen", environment: ["WARREN_LISTEN"], placeholder: "ADDR:PORT",
        help:
            "Where nodes are served, or fd:N for a socket that is passed. Without any: 0.0.0.0:15012."
    )
    static let serverNames = Option<[String]>.list(
        "server-name", environment: ["WARREN_SERVER_NAMES"], placeholder: "NAME",
        help: "A further DNS name or address by which nodes reach it.")
    static let trustDomain = Option<String>.defaulted(
        "trust-domain", to: "cluster.local", environment: ["WARREN_TRUST_DOMAIN", "TRUST_DOMAIN"],
        placeholder: "DOMAIN", help: "The trust domain of all identities.")
    static let clusterDomain = Option<String>.defaulted(
        "cluster-domain", to: "cluster.local", environment: ["WARREN_CLUSTER_DOMAIN", "CLUSTER_DOMAIN"],
        placeholder: "DOMAIN", help: "The DNS suffix of services.")
    static let cluster = Option<String>.defaulted(
        "cluster", to: "Kubernetes", environment: ["WARREN_CLUSTER", "CLUSTER_ID"], placeholder: "ID",
        help: "The name of this cluster in workloads' uids.")
    static let rootNamespace = Option<String>.defaulted(
        "root-namespace", to: "istio-system", environment: ["WARREN_ROOT_NAMESPACE"], placeholder: "NAME",
        help: "The namespace whose policies are the mesh's.")
    static let authority = Option<String?>.optional(
        "cacerts", environment: ["WARREN_CACERTS"], placeholder: "DIR",
        help:
            "A plugged-in authority: ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem. Without it: cacerts in the state directory, if there."
    )
    static let certificateLife = Option<Duration>.defaulted(
        "certificate-life", to: .seconds(86_400), environment: ["WARREN_CERTIFICATE_LIFE"],
        placeholder: "DURATION",
        help: "The longest life of the certificates of workloads and nodes.")
    static let runDirectory = Option<String>.defaulted(
        "run-directory", to: "/run/warren", environment: ["WARREN_RUN_DIRECTORY"], placeholder: "DIR",
        help: "Holds the admin socket, control.sock.")
    static let adminSocket = Option<String?>.optional(
        "admin-socket", environment: ["WARREN_ADMIN_SOCKET"], placeholder: "PATH",
        help: "The admin socket, where it is not control.sock of the run directory.")
    static let metrics = Option<ListenAddress?>.optional(
        "metrics", environment: ["WARREN_METRICS"], placeholder: "ADDR:PORT",
        help: "Serves /metrics and /healthz/ready over TCP as well; istiod's port is 15014.")
    static let logLevel = Option<LogFilter>.custom(
        "log-level", default: LogFilter(.info), environment: ["WARREN_LOG_LEVEL"], placeholder: "LEVEL",
        help: "What is logged.", expectation: "a level or levels by scope, such as info or xds=debug,info",
        parse: { LogFilter($0) })
    static let logFormat = Option<LogFormat>.choice(
        "log-format", default: .text, environment: ["WARREN_LOG_FORMAT"], placeholder: "FORMAT",
        help: "How it is logged.")
    static let check = Option<Bool>.flag(
        "check", help: "Only say what is wrong with the configuration, and end.")
    static let endsWithParent = Option<Bool>.flag(
        "end-with-parent", help: "End when the process that started it does.")

    public static let command = Command(
        "warren-control",
        summary: "Turns a directory of manifests into what nodes need, and certifies who is who.",
        options: [
            configuration.declaration, state.declaration, listen.declaration, serverNames.declaration,
            trustDomain.declaration, clusterDomain.declaration, cluster.declaration,
            rootNamespace.declaration,
            authority.declaration, certificateLife.declaration, runDirectory.declaration,
            adminSocket.declaration,
            metrics.declaration, logLevel.declaration, logFormat.declaration, check.declaration,
            endsWithParent.declaration,
        ],
        examples: [
            .init(
                "Serve the nodes of a mesh",
                "warren-control --config /etc/warren --listen 0.0.0.0:15012 --state /var/lib/warren"),
            .init("See whether a configuration is right", "warren-control --config /etc/warren --check"),
        ])
}
