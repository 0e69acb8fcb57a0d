// Says what Routing makes of requests, for Tests/interop/test_routing.py.
//
//   routing-interop FILE    {"hosts": [...], "requests": [...]} in; on standard output one line of JSON for each request
import Documents
import Glibc
import Routing

func fail(_ message: String) -> Never {
    print(message)
    exit(1)
}

func text(_ node: Node?) -> String {
    if case .string(let text)? = node?.content { text } else { "" }
}

func integer(_ node: Node?) -> Int {
    if case .integer(let value)? = node?.content { Int(value) } else { 0 }
}

func list(_ node: Node?) -> [Node] {
    if case .sequence(let elements)? = node?.content { elements } else { [] }
}

func optionalText(_ node: Node?) -> String? {
    if case .string(let text)? = node?.content { text } else { nil }
}

func stringMatch(_ node: Node) -> StringMatch {
    let value = text(node["value"])
    return switch text(node["kind"]) {
    case "exact": .exact(value)
    case "prefix": .prefix(value)
    case "regex": .regex(value)
    default: .present
    }
}

func named(_ node: Node?) -> [NamedMatch] {
    list(node).map { NamedMatch(text($0["name"]), stringMatch($0)) }
}

func requestMatch(_ node: Node) -> RequestMatch {
    var result = RequestMatch()
    if let path = node["path"] {
        let value = text(path["value"])
        result.path =
            switch text(path["kind"]) {
            case "exact": .exact(value)
            case "prefix": .prefix(value)
            case "elements": .elementPrefix(value)
            default: .regex(value)
            }
    }
    result.ignoresPathCase = node["ignoreCase"]?.content == .boolean(true)
    result.method = node["method"].map(stringMatch)
    result.scheme = node["scheme"].map(stringMatch)
    result.authority = node["authority"].map(stringMatch)
    result.headers = named(node["headers"])
    result.withoutHeaders = named(node["withoutHeaders"])
    result.queryParameters = named(node["queryParameters"])
    return result
}

func pathRewrite(_ node: Node?) -> Rewrite.Path? {
    guard let node else { return nil }
    let value = text(node["value"])
    return switch text(node["kind"]) {
    case "matched": .matched(value)
    case "full": .full(value)
    case "regex": .regex(text(node["pattern"]), replacement: value)
    default: nil
    }
}

func action(_ node: Node) -> RouteAction {
    switch text(node["kind"]) {
    case "respond": return .respond(DirectResponse(status: integer(node["status"])))
    case "redirect":
        var redirect = Redirect(status: integer(node["status"]))
        redirect.scheme = optionalText(node["scheme"])
        redirect.authority = optionalText(node["authority"])
        redirect.path = pathRewrite(node["path"])
        if node["port"] != nil { redirect.port = .number(UInt16(clamping: integer(node["port"]))) }
        return .redirect(redirect)
    default:
        var forwarding = Forwarding(
            list(node["destinations"]).map {
                WeightedDestination(
                    Destination(text($0["name"])), weight: UInt32(clamping: integer($0["weight"])))
            })
        forwarding.rewrite = Rewrite(
            path: pathRewrite(node["path"]), authority: optionalText(node["authority"]))
        return .forward(forwarding)
    }
}

func host(_ node: Node) -> VirtualHost {
    VirtualHost(
        text(node["name"]), domains: list(node["domains"]).map { text($0) },
        routes: list(node["routes"]).enumerated().map { index, route in
            Route(
                .init(object: text(node["name"]), index: index),
                matches: list(route["matches"]).map(requestMatch),
                action: action(route["action"] ?? route))
        })
}

func answer(_ head: RequestHead, random: UInt64, _ table: RoutingTable) -> Value {
    let origin = RequestOrigin()
    guard case .route(let entry, let match) = table.route(head, from: origin) else { return ["status": 404] }
    let route = "\(entry.route.name.object)/\(entry.route.name.index)/\(match)"
    switch entry.route.action {
    case .respond(let response): return ["route": .string(route), "status": .integer(Int64(response.status))]
    case .redirect(let redirect):
        let location = entry.location(head, from: origin, match: match) ?? []
        return [
            "route": .string(route), "status": .integer(Int64(redirect.status)),
            "location": .string(String(decoding: location, as: UTF8.self)),
        ]
    case .forward(let forwarding):
        let path = entry.rewrittenPath(head, match: match).map { String(decoding: $0, as: UTF8.self) }
        var name = ""
        if case .service(let destination)? = forwarding.destination(random: random)?.target {
            name = destination.host
        }
        return [
            "route": .string(route), "status": 200, "destination": .string(name),
            "path": .string(path ?? head.text(head.path)),
            "authority": .string(forwarding.rewrite?.authority ?? head.text(head.authority)),
        ]
    }
}

guard CommandLine.arguments.count == 2, let file = unsafe fopen(CommandLine.arguments[1], "r") else {
    fail("usage: routing-interop FILE")
}
var bytes: [UInt8] = []
var chunk = [UInt8](repeating: 0, count: 1 << 16)
while true {
    let count = unsafe fread(&chunk, 1, chunk.count, file)
    guard count > 0 else { break }
    bytes += chunk[..<count]
}
do {
    let limits = DocumentLimits(byteCount: 256 << 20, nodeCount: 50_000_000)
    let input = try Node(json: bytes, file: CommandLine.arguments[1], limits: limits)
    let table = try RoutingTable(list(input["hosts"]).map(host))
    var output = ""
    for request in list(input["requests"]) {
        let head = RequestHead(
            method: text(request["method"]), authority: text(request["authority"]),
            path: text(request["path"]),
            headers: list(request["headers"]).map { (text(list($0).first), text(list($0).last)) })
        output += answer(head, random: UInt64(clamping: integer(request["random"])), table).json() + "\n"
    }
    print(output, terminator: "")
} catch { fail("\(error)") }
