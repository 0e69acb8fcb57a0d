import Address
import HTTP1
import Log

/// What a request to the admin pages asks for (ztunnel.md §7.4, and pages of our own).
enum AdminPage: Equatable {
    case index
    case configDump
    case status
    case version
    case ready
    case explain(namespace: String, name: String, to: SocketAddress)
    case showLogging
    case changeLogging(LogFilter)
    case resetLogging
    case drain
    /// - Parameter removesCapture: the rules go too: the node leaves for good.
    case quit(removesCapture: Bool)

    /// Who asks: pages that change something are for root alone, unless the configuration says otherwise.
    enum Access {
        case readOnly
        case full
    }
}

/// Why there is no such page.
struct PageRefusal: Error, Equatable {
    let status: Int
    let text: String

    var response: HTTP1Response { HTTP1Response(status: status, text: text + "\n") }
}

extension AdminPage {
    init(_ request: HTTP1Request, _ access: Access) throws(PageRefusal) {
        switch request.path {
        case "/": try self.init(.index, request)
        case "/config_dump": try self.init(.configDump, request)
        case "/status": try self.init(.status, request)
        case "/version": try self.init(.version, request)
        case "/healthz/ready": try self.init(.ready, request)
        case "/explain": self = try Self.explanation(request)
        case "/logging": self = try Self.logging(request, access)
        case "/drain":
            try Self.requireChange(request, access)
            self = .drain
        case "/quitquitquit":
            try Self.requireChange(request, access)
            switch request.queryValues("capture") {
            case []: self = .quit(removesCapture: false)
            case ["remove"]: self = .quit(removesCapture: true)
            default: throw PageRefusal(status: 400, text: "capture can only be \"remove\"")
            }
        default: throw PageRefusal(status: 404, text: "no such page")
        }
    }

    /// A page that is only looked at.
    private init(_ page: AdminPage, _ request: HTTP1Request) throws(PageRefusal) {
        guard request.method == "GET" || request.method == "HEAD" else {
            throw PageRefusal(status: 405, text: "use GET")
        }
        self = page
    }

    private static func requireChange(_ request: HTTP1Request, _ access: Access) throws(PageRefusal) {
        guard request.method == "POST" else { throw PageRefusal(status: 405, text: "use POST") }
        guard access == .full else {
            throw PageRefusal(status: 403, text: "this page changes the daemon: use its Unix socket")
        }
    }

    private static func explanation(_ request: HTTP1Request) throws(PageRefusal) -> AdminPage {
        guard request.method == "GET" else { throw PageRefusal(status: 405, text: "use GET") }
        let source = request.queryValues("source").first?.split(separator: "/").map(String.init)
        let namespace = source?.first ?? request.queryValues("namespace").first
        let name = source?.dropFirst().first ?? request.queryValues("pod").first
        guard source == nil || source?.count == 2, let namespace, let name else {
            throw PageRefusal(status: 400, text: "say who connects: source=NAMESPACE/POD")
        }
        guard let destination = request.queryValues("destination").first.flatMap(SocketAddress.init) else {
            throw PageRefusal(status: 400, text: "say where to: destination=ADDRESS:PORT")
        }
        return .explain(namespace: namespace, name: name, to: destination)
    }

    private static func logging(
        _ request: HTTP1Request, _ access: Access
    ) throws(PageRefusal) -> AdminPage {
        guard request.method == "POST" || request.method == "GET" else {
            throw PageRefusal(status: 405, text: "use POST")
        }
        guard let query = request.query, !query.isEmpty else { return .showLogging }
        try requireChange(request, access)
        if let text = request.queryValues("level").first, !text.isEmpty {
            guard let filter = LogFilter(text) else {
                throw PageRefusal(
                    status: 400, text: "level is error, warn, info, debug or trace, or scope=level,…")
            }
            return .changeLogging(filter)
        }
        guard !request.queryValues("reset").isEmpty else {
            throw PageRefusal(status: 400, text: "unknown option: use level= or reset")
        }
        return .resetLogging
    }

    /// The page at `/`: what there is, for people.
    static let indexText = """
        <!doctype html>
        <html><head><meta charset="utf-8"><title>warren-node</title></head>
        <body><h1>warren-node</h1>
        <ul>
        <li><a href="config_dump">/config_dump</a>: configuration, certificates and connections</li>
        <li><a href="status">/status</a>: the state of this node</li>
        <li>/explain?source=NAMESPACE/POD&amp;destination=ADDRESS:PORT: what would become of a connection</li>
        <li><a href="logging">/logging</a>: log levels; POST with level= on the Unix socket changes them</li>
        <li><a href="version">/version</a></li>
        <li>POST /drain, /quitquitquit: on the Unix socket</li>
        </ul></body></html>

        """
}
