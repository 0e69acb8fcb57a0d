import Glibc

// Load as Tools/bench needs it and wrk cannot make it: HTTP at a fixed rate, over new connections and over such that stay; and bulk whose
// receiver counts and that ends without resetting anything (iperf3's connections do not: through proxies that buffer, its runs break off).
//
//     load-generator sink PORT                                      the server of `up` and `down`
//     load-generator up ADDRESS PORT CONNECTIONS SECONDS            bytes to the server
//     load-generator down ADDRESS PORT CONNECTIONS SECONDS          bytes from the server
//     load-generator rate ADDRESS PORT CONNECTIONS SECONDS RATE     RATE requests a second over so many kept connections
//     load-generator open ADDRESS PORT CONNECTIONS SECONDS COUNT    a connection for each request, CONNECTIONS at a time, until the
//                                                                   time is over or COUNT have been made
//     load-generator hold ADDRESS PORT COUNT                        COUNT connections that each carry one request; prints "open", and
//                                                                   keeps them until standard input ends
//
// `rate` is an open loop: request N is due at N/RATE seconds, whatever became of those before it, and its latency counts from then
// until the whole answer has been read. A slow answer therefore does not keep the requests behind it from being counted as late.
// `open` counts from the call of connect(2) to the first byte of the answer. Both print one line of JSON, {"completed": …, "failed": …,
// "seconds": …}, and one line with every latency in nanoseconds. `up` and `down` print {"bytes": …, "seconds": …}: what the receiver
// has read, and the time until it had read the last of it.

private func usage() -> Never {
    print("usage: load-generator sink PORT")
    print("       load-generator up|down ADDRESS PORT CONNECTIONS SECONDS")
    print("       load-generator rate ADDRESS PORT CONNECTIONS SECONDS RATE")
    print("       load-generator open ADDRESS PORT CONNECTIONS SECONDS COUNT")
    print("       load-generator hold ADDRESS PORT COUNT")
    exit(2)
}

private let words = Array(CommandLine.arguments.dropFirst())
private let numbers = words.dropFirst(2).compactMap(Double.init)

private func target() -> Target {
    guard let target = Target(words[1], port: UInt16(exactly: numbers[0]) ?? 0) else { usage() }
    return target
}

guard words.count >= 2, numbers.count == words.count - 2, numbers.allSatisfy({ $0 > 0 }) else { usage() }

do {
    switch (words[0], numbers.count) {
    case ("sink", 0):
        guard let port = UInt16(words[1]), port > 0 else { usage() }
        try BulkServer(port: port).run()
    case ("up", 3), ("down", 3):
        let load = try Bulk(target(), connections: Int(numbers[1]), words[0] == "up" ? .up : .down)
        let (byteCount, seconds) = try load.run(seconds: numbers[2])
        print("{\"bytes\": \(byteCount), \"seconds\": \(seconds)}")
    case ("rate", 4):
        let load = try FixedRate(target(), connections: Int(numbers[1]), rate: numbers[3])
        try load.run(seconds: numbers[2]).write()
    case ("open", 4):
        let load = try NewConnections(target(), atOnce: Int(numbers[1]), keeps: false)
        try load.run(seconds: numbers[2], count: Int(numbers[3])).write()
    case ("hold", 2):
        let load = try NewConnections(target(), atOnce: 32, keeps: true)
        let report = try load.run(seconds: 120, count: Int(numbers[1]))
        guard report.latencies.count == Int(numbers[1]) else { throw LoadError.incomplete }
        print("open")
        fflush(nil)
        while readLine() != nil {}
        load.close()
    default: usage()
    }
} catch {
    print("load-generator: \(error)")
    exit(1)
}
