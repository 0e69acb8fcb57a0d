import Linux
import TLS

/// Two sides of TLS joined in memory, without sockets or loops.
final class SessionPair {
    let client: TLSContext
    let server: TLSContext
    private static let seconds = 2.0

    init(
        _ authority: CertificateAuthority, client: CertificateBundle, server: CertificateBundle,
        records: RecordLayer
    ) throws {
        var clientSide = TLSConfiguration.meshClient(client, roots: authority.roots)
        var serverSide = TLSConfiguration.meshServer(
            server, roots: authority.roots, trustDomains: ["cluster.local"])
        (clientSide.records, serverSide.records) = (records, records)
        self.client = try TLSContext(clientSide)
        self.server = try TLSContext(serverSide)
    }

    func handshakes() throws -> String {
        for _ in 0..<100 { _ = try establish() }
        let (start, wall) = (cpuSeconds(), MonotonicTime.now())
        var count = 0.0
        while cpuSeconds() - start < Self.seconds {
            _ = try establish()
            count += 1
        }
        let cpu = (cpuSeconds() - start) / count
        let elapsed = Double((MonotonicTime.now() - wall).wholeNanoseconds) / 1e9
        return "\(Int(count / elapsed)) handshakes a second, \(Int(cpu * 1e6)) CPU-us each, both sides"
    }

    func records(byteCount: Int) throws -> String {
        let (client, server) = try establish()
        let plain = [UInt8](repeating: 7, count: byteCount)
        var opened = [UInt8](repeating: 0, count: max(byteCount, 16_384))
        var (sealing, opening, total) = (0.0, 0.0, 0.0)
        while sealing + opening < Self.seconds {
            let start = cpuSeconds()
            for _ in 0..<max(1, (1 << 18) / byteCount) {
                try unsafe plain.withUnsafeBytes { try unsafe client.write($0) }
            }
            let sealed = cpuSeconds()
            while !client.output.isEmpty {
                var consumed = 0
                let input = unsafe client.output.bytes
                let result = try unsafe opened.withUnsafeMutableBytes {
                    try unsafe server.read(input, &consumed, into: $0)
                }
                client.output.removeFirst(consumed)
                if case .bytes(let count) = result { total += Double(count) }
            }
            sealing += sealed - start
            opening += cpuSeconds() - sealed
        }
        return "\(total / sealing / 1e9) GB/s sealed, \(total / opening / 1e9) GB/s opened"
    }

    private func establish() throws -> (client: TLSSession, server: TLSSession) {
        let client = try TLSSession(client, expecting: ["spiffe://cluster.local/ns/bench/sa/server"])
        let server = try TLSSession(server)
        var isDone = (client: false, server: false)
        while !isDone.client || !isDone.server {
            isDone.client = try Self.advance(client, by: server.output)
            isDone.server = try Self.advance(server, by: client.output)
        }
        return (client, server)
    }

    private static func advance(_ session: TLSSession, by input: CipherOutput) throws -> Bool {
        var consumed = 0
        let result = try unsafe session.handshake(input.bytes, &consumed)
        input.removeFirst(consumed)
        return result == .done
    }
}

func residentKiB() -> Int {
    let fields = (try? readFile("/proc/self/statm", limit: 1 << 10)).map {
        String(decoding: $0, as: UTF8.self).split(separator: " ")
    }
    return fields.flatMap { $0.count > 1 ? Int($0[1]) : nil }.map { $0 * 4 } ?? 0
}
