import Address
import Mesh

/// The headers that HBONE peers tell each other about a connection (ztunnel.md §2.3, §2.4).
package enum TunnelHeaders {
    /// Who a workload is, for the other side's telemetry. Never believed for anything else.
    ///
    /// Members are not percent-encoded on this wire, so a value that would not survive is left out.
    package static func baggage(of workload: Workload) -> String {
        let members: [(String, String)] = [
            ("k8s.cluster.name", workload.clusterID), ("k8s.namespace.name", workload.namespace),
            ("k8s.\(workload.kind.dumpName).name", workload.workloadName),
            ("service.name", workload.canonicalName), ("service.version", workload.canonicalRevision),
            ("cloud.region", workload.locality.region), ("cloud.availability_zone", workload.locality.zone),
        ]
        return members.filter { isMember($0.1) }.map { "\($0)=\($1)" }.joined(separator: ",")
    }

    /// `for="address:port"`, and the service that was asked for (RFC 7239, as ztunnel writes it).
    package static func forwarded(for source: SocketAddress, service: Service?) -> String {
        guard let hostname = service?.hostname, isMember(hostname) else { return "for=\"\(source)\"" }
        return "for=\"\(source)\";host=\(hostname)"
    }

    /// The service that a client names in `forwarded`; nil when it names none. Quotes are taken off.
    package static func forwardedHost(_ header: String) -> String? {
        guard header.utf8.count <= 1_024, header.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        // Most clients call an address and name nothing: those need not be taken apart.
        guard header.utf8.contains(where: { $0 | 0x20 == UInt8(ascii: "h") }) else { return nil }
        for pair in header.split(separator: ";") {
            let parts = pair.split(separator: "=", maxSplits: 1).map { $0.trimmingBlanks }
            guard parts.count == 2, parts[0].lowercased() == "host" else { continue }
            var value = parts[1]
            if value.count >= 2, value.hasPrefix("\""), value.hasSuffix("\"") {
                value = value.dropFirst().dropLast()
            }
            return value.isEmpty ? nil : String(value)
        }
        return nil
    }

    /// As below, made for the generator that every connection uses: from another module the one for any generator asks it through
    /// a table for each number, which was 5 % of a connection's instructions.
    package static func traceparent(randomness: inout WorkerRandomness) -> String {
        makeTraceparent(&randomness)
    }

    /// A new trace context (W3C Trace Context §3.2): sampled off, for lines of two nodes to be found together.
    package static func traceparent(randomness: inout some RandomNumberGenerator) -> String {
        makeTraceparent(&randomness)
    }

    private static func makeTraceparent(_ randomness: inout some RandomNumberGenerator) -> String {
        var numbers: [3 of UInt64] = [0, 0, 0]
        for index in numbers.indices { numbers[index] = UInt64.random(in: 1 ... .max, using: &randomness) }
        return unsafe String(unsafeUninitializedCapacity: 55) { text in
            var length = 0
            func add(_ byte: UInt8) {
                unsafe text[length] = byte
                length += 1
            }
            func add(_ number: UInt64) {
                for shift in stride(from: UInt64(60), through: 0, by: -4) {
                    let digit = UInt8(truncatingIfNeeded: number >> shift & 15)
                    add(digit + UInt8(ascii: digit > 9 ? "W" : "0"))
                }
            }
            func addZeros() {
                add(UInt8(ascii: "0"))
                add(UInt8(ascii: "0"))
            }
            let dash = UInt8(ascii: "-")
            addZeros()
            add(dash)
            add(numbers[0])
            add(numbers[1])
            add(dash)
            add(numbers[2])
            add(dash)
            addZeros()
            return length
        }
    }

    /// Visible ASCII without the characters that separate members of the two headers.
    private static func isMember(_ value: String) -> Bool {
        !value.isEmpty && value.utf8.count <= 512
            && value.utf8.allSatisfy { byte in
                byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: ",") && byte != UInt8(ascii: ";")
                    && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "=")
            }
    }
}

extension Substring {
    fileprivate var trimmingBlanks: Substring {
        var text = self
        while text.first == " " || text.first == "\t" { text.removeFirst() }
        while text.last == " " || text.last == "\t" { text.removeLast() }
        return text
    }
}
