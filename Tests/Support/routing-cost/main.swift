// What a match costs: allocations and nanoseconds, with few and with many routes.
//
//   routing-cost    on standard output, lines of NAME ALLOCATIONS NANOSECONDS, each for one request
import CAllocations
import Routing

func table(_ count: Int) throws -> RoutingTable {
    let routes = (0..<count).map { number in
        let path = "/service-\(number)/api"
        let kinds: [PathMatch] = [.exact(path), .elementPrefix(path), .prefix(path)]
        var match = RequestMatch(path: kinds[number % 3])
        if number % 4 == 0 { match.headers = [NamedMatch("x-version", .regex("v[0-9]+"))] }
        return Route(
            .init(object: "VirtualService shop/\(number)", index: 0), matches: [match],
            action: .forward(Forwarding([WeightedDestination(Destination("s\(number)"))])))
    }
    return try RoutingTable([
        VirtualHost("shop", domains: ["shop.example", "*.shop.example"], routes: routes),
        VirtualHost("other", domains: ["other.example"], routes: []),
    ])
}

func measure(_ name: String, _ table: RoutingTable, _ paths: [String], isFound: Bool) {
    let origin = RequestOrigin()
    let requests = paths.map { path in
        ["user-agent", "accept", "x-request-id", "traceparent", "x-version"].reduce(
            into: RequestHead(authority: "a.shop.example:8080", path: path)
        ) { $0.append($1, "v1") }
    }
    let clock = ContinuousClock()
    let rounds = 100_000
    let before = callocations_count()
    var found = 0
    var index = 0
    let time = clock.measure {
        for _ in 0..<rounds {
            if case .route = table.route(requests[index], from: origin) { found += 1 }
            index = index + 1 == requests.count ? 0 : index + 1
        }
    }
    let allocations = Double(callocations_count() - before) / Double(rounds)
    precondition(found == (isFound ? rounds : 0), "the requests were not routed")
    let (seconds, attoseconds) = time.components
    let nanoseconds = (Double(seconds) * 1e9 + Double(attoseconds) / 1e9) / Double(rounds)
    print("\(name) \(allocations) \(Int(nanoseconds))")
}

for count in [100, 10_000] {
    let table = try table(count)
    let paths = stride(from: 0, to: count, by: max(1, count / 64)).map { "/service-\($0)/api" }
    measure("found-of-\(count)", table, paths, isFound: true)
    measure("nothing-of-\(count)", table, ["/service-/api", "/other?x=1"], isFound: false)
}
