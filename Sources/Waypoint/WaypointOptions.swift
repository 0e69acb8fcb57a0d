import Daemon
import Linux
import Log
import Options
import TLS
import Transport

/// The command line of `warren-waypoint`. Each flag has a variable of its own.
public enum WaypointOptions {
    static let name = Option<String>.required(
        "name", environment: ["WARREN_WAYPOINT", "GATEWAY_NAME"], placeholder: "NAME",
        help: "The waypoint's name: that of its Gateway.")
    static let namespace = Option<String>.required(
        "namespace", environment: ["WARREN_NAMESPACE", "POD_NAMESPACE"], placeholder: "NAMESPACE",
        help: "The namespace of the Gateway.")
    static let podName = Option<String?>.optional(
        "pod-name", environment: ["WARREN_POD_NAME", "POD_NAME"], placeholder: "NAME",
        help: "Which of the waypoint's pods this is; without it, the pod whose address is found here.")
    static let control = Option<ControlEndpoint>.required(
        "control", environment: ["WARREN_CONTROL", "XDS_ADDRESS"], placeholder: "HOST:PORT",
        help: "Where the control component serves.")
    static let serverName = Option<String?>.optional(
        "control-server-name", environment: ["WARREN_CONTROL_SERVER_NAME"], placeholder: "NAME",
        help: "The name in the control component's certificate, if not its host.")
    static let roots = Option<String>.required(
        "ca-root", environment: ["WARREN_CA_ROOT"], placeholder: "FILE",
        help: "Roots that the control component's certificate must lead to: a PEM file, or the PEM itself.")
    static let token = Option<String?>.optional(
        "token-file", environment: ["WARREN_TOKEN_FILE"], placeholder: "FILE",
        help: "The waypoint's join token; needless once it has its certificate.")
    static let state = Option<String?>.optional(
        "state", environment: ["WARREN_STATE"], placeholder: "DIR",
        help: "Where the waypoint's own certificate is kept over restarts.")
    static let runDirectory = Option<String>.defaulted(
        "run-directory", to: "/run/warren", environment: ["WARREN_RUN_DIRECTORY"], placeholder: "DIR",
        help: "Holds the admin socket.")
    static let adminSocket = Option<String?>.optional(
        "admin-socket", environment: ["WARREN_ADMIN_SOCKET"], placeholder: "PATH",
        help:
            "The admin socket, where it is not NAMESPACE_NAME.sock (or NAMESPACE_POD.sock) of the run directory."
    )
    static let addresses = Option<[String]>.list(
        "address", environment: ["WARREN_ADDRESS"], placeholder: "ADDRESS",
        help:
            "Where tunnels are accepted, at port 15008; without any: on every address of the namespace it is started in."
    )
    static let network = Option<String?>.optional(
        "network", environment: ["WARREN_NETWORK", "NETWORK"], placeholder: "ID",
        help: "The network that the waypoint is in.")
    static let cluster = Option<String>.defaulted(
        "cluster", to: "Kubernetes", environment: ["WARREN_CLUSTER", "CLUSTER_ID"], placeholder: "ID",
        help: "The cluster that the waypoint is in.")
    static let clusterDomain = Option<String>.defaulted(
        "cluster-domain", to: "cluster.local", environment: ["WARREN_CLUSTER_DOMAIN", "CLUSTER_DOMAIN"],
        placeholder: "DOMAIN", help: "The DNS suffix of services.")
    static let trustDomain = Option<String>.defaulted(
        "trust-domain", to: "cluster.local", environment: ["WARREN_TRUST_DOMAIN", "TRUST_DOMAIN"],
        placeholder: "DOMAIN", help: "The trust domain of the waypoint's certificates.")
    static let workers = Option<Int>.defaulted(
        "workers", to: 0, environment: ["WARREN_WORKERS"], placeholder: "N",
        help: "Threads that carry traffic; 0 for one on each processor.")
    static let userID = Option<UInt32>.defaulted(
        "uid", to: 13_371, environment: ["WARREN_UID"], placeholder: "N",
        help: "The user that a waypoint becomes when root starts it.")
    static let accessLog = Option<String>.defaulted(
        "access-log", to: "-", environment: ["WARREN_ACCESS_LOG"], placeholder: "FILE",
        help: "Where a line for each connection goes; \"-\" is standard output. Reopened on SIGHUP.")
    static let logLevel = Option<LogFilter>.custom(
        "log-level", default: LogFilter(), environment: ["WARREN_LOG_LEVEL"], placeholder: "LEVEL",
        help: "What is logged to standard error: a level, and others for single scopes.",
        expectation: "a level (error, warn, info, debug, trace) or scope=level, separated by commas",
        parse: readLogFilter)
    static let logFormat = Option<LogFormat>.choice(
        "log-format", default: .text, environment: ["WARREN_LOG_FORMAT"], placeholder: "FORMAT",
        help: "How logs and the access log look.")
    static let metricsListen = Option<String>.defaulted(
        "metrics-listen", to: "[::]:15020", environment: ["WARREN_METRICS_LISTEN"], placeholder: "ADDRESS",
        help: "Where metrics are served; \"none\" for nowhere.")
    static let readinessListen = Option<String>.defaulted(
        "readiness-listen", to: "[::]:15021", environment: ["WARREN_READINESS_LISTEN"],
        placeholder: "ADDRESS", help: "Where readiness is told; \"none\" for nowhere.")
    static let drainTime = Option<Duration>.defaulted(
        "drain-deadline", to: .seconds(5), environment: ["WARREN_DRAIN_DEADLINE"], placeholder: "DURATION",
        help: "How long connections may go on when the waypoint ends.")
    static let certificateLife = Option<Duration>.defaulted(
        "certificate-lifetime", to: .seconds(86_400), environment: ["WARREN_CERTIFICATE_LIFETIME"],
        placeholder: "DURATION", help: "The life that is asked for its certificates.")
    static let connectionLimit = Option<Int>.defaulted(
        "connections", to: 100_000, environment: ["WARREN_CONNECTIONS"], placeholder: "N",
        help: "Connections that it carries at most; half of them may be one client's.")
    static let tlsRecords = Option<RecordLayer>.choice(
        "tls-records", default: .own, environment: ["WARREN_TLS_RECORDS"], placeholder: "WHOSE",
        help: "Who seals and opens TLS records behind the handshake: the daemon itself, or libssl.")
    static let streamsPerTunnel = Option<Int>.defaulted(
        "streams-per-tunnel", to: 100, environment: ["WARREN_STREAMS_PER_TUNNEL"], placeholder: "N",
        help: "Connections that share one tunnel; with 1 each has a tunnel to itself.")
    static let tunnelIdle = Option<Duration>.defaulted(
        "tunnel-idle", to: .seconds(300), environment: ["WARREN_TUNNEL_IDLE"], placeholder: "DURATION",
        help: "How long a tunnel without connections is kept; with 0s it ends with its last one.")
    static let tunnelCongestion = Option<CongestionChoice>.custom(
        "tunnel-congestion", default: .auto, environment: ["WARREN_TUNNEL_CONGESTION"],
        placeholder: "auto|system|NAME",
        help:
            "By which TCP congestion control tunnels send: the system's, the one named, or the system's but for BBR over less than 1 ms.",
        expectation: "auto, system, or a name as in net.ipv4.tcp_available_congestion_control",
        parse: { CongestionChoice($0) })
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
        "warren-waypoint",
        summary:
            "A waypoint of the mesh: takes the connections to the services that use it, and carries them on.",
        options: [
            name.declaration, namespace.declaration, podName.declaration, control.declaration,
            serverName.declaration, roots.declaration, token.declaration, state.declaration,
            runDirectory.declaration, adminSocket.declaration, addresses.declaration, network.declaration,
            cluster.declaration, clusterDomain.declaration, trustDomain.declaration, workers.declaration,
            userID.declaration, accessLog.declaration, logLevel.declaration, logFormat.declaration,
            metricsListen.declaration, readinessListen.declaration, drainTime.declaration,
            certificateLife.declaration, connectionLimit.declaration, streamsPerTunnel.declaration,
            tunnelIdle.declaration, metricsIdle.declaration, aes.declaration, tlsRecords.declaration,
            tunnelCongestion.declaration, endWithParent.declaration,
        ],
        examples: [
            Command.Example(
                "The waypoint of Gateway shop/waypoint, on the machine that holds its pod's address.",
                "warren-waypoint --name waypoint --namespace shop --control 10.0.0.1:15012 --ca-root root-cert.pem --token-file token"
            )
        ])
}
