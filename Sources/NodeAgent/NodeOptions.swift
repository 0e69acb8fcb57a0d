import Address
import Daemon
import Discovery
import Linux
import Log
import Options
import TLS
import Telemetry
import Transport

/// The command line of `warren-node`. Each flag has a variable of its own, and understands ztunnel's where that has one
/// (ztunnel.md §8.2), so that its chart can start this program.
public enum NodeOptions {
    static let node = Option<String>.required(
        "node", environment: ["WARREN_NODE", "NODE_NAME"], placeholder: "NAME",
        help: "The node whose pods are captured.")
    static let control = Option<ControlEndpoint>.required(
        "control", environment: ["WARREN_CONTROL", "XDS_ADDRESS"], placeholder: "HOST:PORT",
        help: "Where the control component serves.")
    static let serverName = Option<String?>.optional(
        "control-server-name", environment: ["WARREN_CONTROL_SERVER_NAME", "ALT_XDS_HOSTNAME"],
        placeholder: "NAME", help: "The name in the control component's certificate, if not its host.")
    static let roots = Option<String>.defaulted(
        "ca-root", to: "./var/run/secrets/istio/root-cert.pem",
        environment: ["WARREN_CA_ROOT", "CA_ROOT_CA", "XDS_ROOT_CA"], placeholder: "FILE",
        help: "Roots that the control component's certificate must lead to: a PEM file, or the PEM itself.")
    static let token = Option<String?>.optional(
        "token-file", environment: ["WARREN_TOKEN_FILE", "AUTH_TOKEN"], placeholder: "FILE",
        help: "The node's join token or service account token; needless once the node has its certificate.")
    static let state = Option<String?>.optional(
        "state", environment: ["WARREN_STATE"], placeholder: "DIR",
        help: "Where the node's own certificate is kept over restarts of the machine.")
    static let runDirectory = Option<String>.defaulted(
        "run-directory", to: "/run/warren", environment: ["WARREN_RUN_DIRECTORY"], placeholder: "DIR",
        help: "Holds the admin socket and what a restart goes on from; should be a tmpfs.")
    static let network = Option<String?>.optional(
        "network", environment: ["WARREN_NETWORK", "NETWORK"], placeholder: "ID",
        help: "The network that this node is in.")
    static let cluster = Option<String>.defaulted(
        "cluster", to: "Kubernetes", environment: ["WARREN_CLUSTER", "ISTIO_META_CLUSTER_ID", "CLUSTER_ID"],
        placeholder: "ID", help: "The cluster that this node is in.")
    static let clusterDomain = Option<String>.defaulted(
        "cluster-domain", to: "cluster.local", environment: ["WARREN_CLUSTER_DOMAIN", "CLUSTER_DOMAIN"],
        placeholder: "DOMAIN", help: "The DNS suffix of services.")
    static let trustDomain = Option<String>.defaulted(
        "trust-domain", to: "cluster.local", environment: ["WARREN_TRUST_DOMAIN", "TRUST_DOMAIN"],
        placeholder: "DOMAIN", help: "The trust domain of the node's own certificate.")
    static let noNodeCertificate = Option<Bool>.flag(
        "no-node-certificate", environment: ["WARREN_NO_NODE_CERTIFICATE"],
        help: "Send the token with every call, as istiod wants it, not a certificate of the node's own.")
    static let podName = Option<String?>.optional(
        "pod-name", environment: ["WARREN_POD_NAME", "POD_NAME"], placeholder: "NAME",
        help: "The pod that the daemon runs in, on Kubernetes.")
    static let podNamespace = Option<String>.defaulted(
        "pod-namespace", to: "warren-system", environment: ["WARREN_POD_NAMESPACE", "POD_NAMESPACE"],
        placeholder: "NAMESPACE", help: "The namespace of that pod.")
    static let instanceAddress = Option<String?>.optional(
        "instance-ip", environment: ["WARREN_INSTANCE_IP", "INSTANCE_IP"], placeholder: "ADDRESS",
        help: "The address of that pod.")
    static let workers = Option<String?>.optional(
        "workers", environment: ["WARREN_WORKERS", "ZTUNNEL_WORKER_THREADS"], placeholder: "N|N%",
        help: "Threads that carry traffic: a number, a share of the processors, or 0 for all of them.")
    static let cores = Option<String?>.optional(
        "cpu-count", environment: ["WARREN_CPU_COUNT", "ZTUNNEL_CPU_LIMIT"], placeholder: "N",
        help: "The processors that shares are of.")
    static let resourceLimit = Option<String?>.optional(
        "cpu-limit", environment: ["WARREN_CPU_LIMIT", "ZTUNNEL_RESOURCE_CPU_LIMIT"],
        placeholder: "QUANTITY", help: "The container's processor limit.")
    static let resourceRequest = Option<String?>.optional(
        "cpu-request", environment: ["WARREN_CPU_REQUEST", "ZTUNNEL_RESOURCE_CPU_REQUEST"],
        placeholder: "QUANTITY", help: "The container's processor request.")
    static let userID = Option<UInt32>.defaulted(
        "uid", to: NodeConfiguration.defaultUserID, environment: ["WARREN_UID"], placeholder: "N",
        help:
            "The user that the daemon becomes. Nothing else may run under it: it tells our sockets from others."
    )
    static let accessLog = Option<String>.defaulted(
        "access-log", to: "-", environment: ["WARREN_ACCESS_LOG"], placeholder: "FILE",
        help: "Where a line for each connection goes; \"-\" is standard output. Reopened on SIGHUP.")
    static let logLevel = Option<LogFilter>.custom(
        "log-level", default: LogFilter(), environment: ["WARREN_LOG_LEVEL", "RUST_LOG"],
        placeholder: "LEVEL",
        help: "What is logged to standard error: a level, and others for single scopes.",
        expectation: "a level (error, warn, info, debug, trace) or scope=level, separated by commas",
        parse: readLogFilter)
    static let logFormat = Option<LogFormat>.choice(
        "log-format", default: .text, environment: ["WARREN_LOG_FORMAT", "LOG_FORMAT"], placeholder: "FORMAT",
        help: "How logs and the access log look.")
    static let adminListen = Option<String>.defaulted(
        "admin-listen", to: "127.0.0.1:15000,[::1]:15000", environment: ["WARREN_ADMIN_LISTEN"],
        placeholder: "ADDRESS,…", help: "Where the read-only admin pages are served; \"none\" for nowhere.")
    static let metricsListen = Option<String>.defaulted(
        "metrics-listen", to: "[::]:15020", environment: ["WARREN_METRICS_LISTEN"], placeholder: "ADDRESS",
        help: "Where metrics are served; \"none\" for nowhere.")
    static let readinessListen = Option<String>.defaulted(
        "readiness-listen", to: "[::]:15021", environment: ["WARREN_READINESS_LISTEN"],
        placeholder: "ADDRESS",
        help: "Where readiness is told; \"none\" for nowhere.")
    static let adminChanges = Option<Bool>.flag(
        "admin-changes-over-tcp", environment: ["WARREN_ADMIN_CHANGES_OVER_TCP"],
        help: "Serve the pages that change something on TCP too, not on the Unix socket alone.")
    static let drainTime = Option<Duration?>.optional(
        "drain-deadline", environment: ["WARREN_DRAIN_DEADLINE", "CONNECTION_TERMINATION_DEADLINE"],
        placeholder: "DURATION", help: "How long connections may go on when the daemon ends (5s if unset).")
    static let gracePeriod = Option<Int?>.optional(
        "grace-period-seconds",
        environment: ["WARREN_GRACE_PERIOD_SECONDS", "TERMINATION_GRACE_PERIOD_SECONDS"],
        placeholder: "N", help: "What is granted before the daemon is killed; the drain takes a little less.")
    static let certificateLife = Option<Duration>.defaulted(
        "certificate-lifetime", to: .seconds(86_400),
        environment: ["WARREN_CERTIFICATE_LIFETIME", "SECRET_TTL"],
        placeholder: "DURATION", help: "The life that is asked for workload certificates.")
    static let connectionLimit = Option<Int>.defaulted(
        "connections-per-pod", to: 50_000, environment: ["WARREN_CONNECTIONS_PER_POD"], placeholder: "N",
        help: "Connections that one pod may have, in both directions together.")
    static let responseBaggage = Option<Bool>.custom(
        "response-baggage", default: true,
        environment: ["WARREN_RESPONSE_BAGGAGE", "ENABLE_RESPONSE_BAGGAGE"],
        placeholder: "BOOL", help: "Tell clients who their destination is, for their telemetry.",
        expectation: Bool.expectation, parse: { Bool(option: $0) })
    static let encryptSameNode = Option<Bool>.flag(
        "encrypt-same-node", environment: ["WARREN_ENCRYPT_SAME_NODE"],
        help:
            "Encrypt between pods of this node too, as the label warren.dev/same-node: encrypt does for some."
    )
    static let tlsRecords = Option<RecordLayer>.choice(
        "tls-records", default: .own, environment: ["WARREN_TLS_RECORDS"], placeholder: "WHOSE",
        help: "Who seals and opens TLS records behind the handshake: the daemon itself, or libssl.")
    static let streamsPerTunnel = Option<Int>.defaulted(
        "streams-per-tunnel", to: 100,
        environment: ["WARREN_STREAMS_PER_TUNNEL", "POOL_MAX_STREAMS_PER_CONNECTION"], placeholder: "N",
        help: "Connections that share one tunnel; with 1 each has a tunnel to itself.")
    static let tunnelIdle = Option<Duration>.defaulted(
        "tunnel-idle", to: .seconds(300),
        environment: ["WARREN_TUNNEL_IDLE", "POOL_UNUSED_RELEASE_TIMEOUT"], placeholder: "DURATION",
        help: "How long a tunnel without connections is kept; with 0s it ends with its last one.")
    static let tunnelCongestion = Option<CongestionChoice>.custom(
        "tunnel-congestion", default: .auto, environment: ["WARREN_TUNNEL_CONGESTION"],
        placeholder: "auto|system|NAME",
        help:
            "By which TCP congestion control tunnels send: the system's, the one named, or the system's but for BBR over less than 1 ms.",
        expectation: "auto, system, or a name as in net.ipv4.tcp_available_congestion_control",
        parse: { CongestionChoice($0) })
    static let capture = Option<CaptureChoice>.choice(
        "capture", default: .auto, environment: ["WARREN_CAPTURE"], placeholder: "HOW",
        help:
            "How pods' connections come to the daemon: auto, which does without connection tracking where the kernel can, or tracked."
    )
    static let metricsIdle = Option<Duration>.defaulted(
        "metrics-idle", to: .seconds(3_600), environment: ["WARREN_METRICS_IDLE"], placeholder: "DURATION",
        help: "How long the metrics of a pair without traffic are shown.")
    static let aes = Option<AES.Choice>.choice(
        "aes", default: .auto, environment: ["WARREN_AES"], placeholder: "CHOICE",
        help:
            "Whose AES seals tunnels: libipsec-mb's where the processor is made for it, or libcrypto's always."
    )
    static let endWithParent = Option<Bool>.flag(
        "end-with-parent", help: "End when the process that started this one ends.")

    public static let command = Command(
        "warren-node",
        summary:
            "The node daemon of the mesh: captures the TCP connections of this node's pods and carries them.",
        options: [
            node.declaration, control.declaration, serverName.declaration, roots.declaration,
            token.declaration, state.declaration, runDirectory.declaration, network.declaration,
            cluster.declaration, clusterDomain.declaration, trustDomain.declaration,
            noNodeCertificate.declaration, podName.declaration,
            podNamespace.declaration, instanceAddress.declaration, workers.declaration, cores.declaration,
            resourceLimit.declaration, resourceRequest.declaration, userID.declaration,
            accessLog.declaration, logLevel.declaration, logFormat.declaration, adminListen.declaration,
            metricsListen.declaration, readinessListen.declaration, adminChanges.declaration,
            drainTime.declaration, gracePeriod.declaration, certificateLife.declaration,
            connectionLimit.declaration, responseBaggage.declaration, encryptSameNode.declaration,
            streamsPerTunnel.declaration, tunnelIdle.declaration, metricsIdle.declaration, aes.declaration,
            tlsRecords.declaration, tunnelCongestion.declaration, capture.declaration,
            endWithParent.declaration,
        ],
        // `ztunnel proxy` is how the chart starts it; words are no matter.
        arguments: [
            Command.Argument("proxy", help: "Understood and ignored.", isRequired: false, isRepeated: true)
        ],
        examples: [
            Command.Example(
                "A node of a stand-alone mesh.",
                "warren-node --node node-a --control 10.0.0.1:15012 --ca-root root-cert.pem --token-file token"
            )
        ])
}
