import Glibc

/// A connection for each request: a closed loop of so many at once.
final class NewConnections {
    private let target: Target
    private let poll: Poll
    private let atOnce: Int
    private let keeps: Bool
    private let request: [UInt8]
    /// By descriptor, for those under way and those kept.
    private var exchanges: [Int: Exchange] = [:]
    private var underWay = 0
    private var report = Report()

    /// - Parameter keeps: leaves each connection open after its answer.
    init(_ target: Target, atOnce: Int, keeps: Bool) throws(LoadError) {
        self.target = target
        self.atOnce = atOnce
        self.keeps = keeps
        poll = try Poll()
        request = target.request(keeps: keeps)
    }

    func run(seconds: Double, count: Int) throws(LoadError) -> Report {
        let start = now()
        let end = start + Int64(seconds * 1e9)
        let deadline = end + 20_000_000_000
        var begun = 0
        while true {
            while underWay < atOnce, begun < count, now() < end {
                begun += 1
                try begin()
            }
            guard underWay > 0, now() < deadline else { break }
            for token in poll.wait(until: deadline) { try take(token) }
        }
        report.failed += underWay
        report.seconds = Double(now() - start) / 1e9
        return report
    }

    func close() {
        for exchange in exchanges.values { exchange.close() }
        exchanges = [:]
    }

    private func begin() throws(LoadError) {
        let time = now()
        let exchange = Exchange(try target.connect(), began: time)
        exchanges[Int(exchange.descriptor)] = exchange
        underWay += 1
        try poll.watch(exchange.descriptor, forWriting: true, token: Int(exchange.descriptor), isNew: true)
    }

    private func take(_ token: Int) throws(LoadError) {
        guard let exchange = exchanges[token], exchange.state != .over else { return }
        if exchange.state == .connecting {
            try poll.watch(exchange.descriptor, forWriting: false, token: token, isNew: false)
            if !exchange.send(request) { fail(exchange) }
            return
        }
        if exchange.state == .idle {
            // The server ends a connection that is not kept, and so it is the one that remembers it (TIME_WAIT).
            if keeps { report.failed += 1 } else { underWay -= 1 }
            forget(exchange)
            return
        }
        switch exchange.receive() {
        case .incomplete: break
        case .failed: fail(exchange)
        case .answered:
            if let first = exchange.firstByte { report.latencies.append(first - exchange.began) }
            if keeps { underWay -= 1 }
        }
    }

    private func fail(_ exchange: Exchange) {
        underWay -= 1
        report.failed += 1
        forget(exchange)
    }

    private func forget(_ exchange: Exchange) {
        exchange.close()
        exchanges[Int(exchange.descriptor)] = nil
    }
}
