import Glibc

/// An open loop of requests over kept connections.
final class FixedRate {
    private let poll: Poll
    private let request: [UInt8]
    private let interval: Double
    private var exchanges: [Exchange] = []
    /// Connections without a request, in the order in which they became so.
    private var idle: [Int] = []
    private var report = Report()

    /// - Parameter rate: requests a second.
    init(_ target: Target, connections: Int, rate: Double) throws(LoadError) {
        poll = try Poll()
        request = target.request(keeps: true)
        interval = 1e9 / rate
        for index in 0..<connections {
            let exchange = Exchange(try target.connect(), began: now())
            try poll.watch(exchange.descriptor, forWriting: true, token: index, isNew: true)
            exchanges.append(exchange)
        }
    }

    /// Connects, lets every connection carry a request that is not counted, and then keeps the rate.
    func run(seconds: Double) throws(LoadError) -> Report {
        try warmUp()
        let start = now() + 10_000_000
        let total = Int(seconds * 1e9 / interval)
        let deadline = start + Int64(seconds * 1e9) + 20_000_000_000
        func due(_ index: Int) -> Int64 { start + Int64(Double(index) * interval) }
        var next = 0
        while report.latencies.count + report.failed < total, now() < deadline {
            let time = now()
            while next < total, !idle.isEmpty, due(next) <= time {
                let exchange = exchanges[idle.removeFirst()]
                exchange.began = due(next)
                next += 1
                if !exchange.send(request) { report.failed += 1 }
            }
            let wakeUp = next < total && !idle.isEmpty ? due(next) : deadline
            for index in poll.wait(until: wakeUp) { take(index) }
        }
        report.failed += total - report.latencies.count - report.failed
        report.seconds = Double(now() - start) / 1e9
        return report
    }

    private func take(_ index: Int) {
        let exchange = exchanges[index]
        switch exchange.receive() {
        case .incomplete: break
        case .answered:
            report.latencies.append(now() - exchange.began)
            idle.append(index)
        case .failed:
            if exchange.state == .waiting { report.failed += 1 }
            exchange.close()
            idle.removeAll { $0 == index }
        }
    }

    private func warmUp() throws(LoadError) {
        let deadline = now() + 20_000_000_000
        while idle.count < exchanges.count {
            guard now() < deadline else { throw .incomplete }
            for index in poll.wait(until: deadline) {
                let exchange = exchanges[index]
                if exchange.state == .connecting {
                    try poll.watch(exchange.descriptor, forWriting: false, token: index, isNew: false)
                    guard exchange.send(request) else { throw .system("connect", errno) }
                } else {
                    switch exchange.receive() {
                    case .incomplete: break
                    case .answered: idle.append(index)
                    case .failed: throw .system("recv", errno)
                    }
                }
            }
        }
    }
}
