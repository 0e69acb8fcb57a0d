import Address
import Linux
import Mesh

/// How access-log lines are written.
public enum AccessFormat: String, Sendable, CaseIterable {
    /// Tab-separated time, level, target and message, then `key=value` pairs; ztunnel's form.
    case text
    /// One object a line.
    case json
}

/// Turns records into lines, in ztunnel's field order (ztunnel.md §7.3), without Foundation and, in the text form and but
/// for the time once a second, without intermediate strings.
///
/// Every value that is not an address or a number of ours is quoted and escaped.
public struct AccessLineFormatter: Sendable {
    private let format: AccessFormat
    private var clock = Timestamp(fractionDigits: 6)

    public init(_ format: AccessFormat) {
        self.format = format
    }

    /// The line of a connection that has ended, with its line feed.
    public mutating func line(_ record: ConnectionRecord, at time: WallClock) -> [UInt8] {
        var bytes: [UInt8]
        switch format {
        case .text:
            var line = TextFields(record, time: clock.text(of: time))
            record.writeFields(to: &line)
            bytes = line.bytes
        case .json:
            var line = JSONWriter()
            line.object { writer in
                writer.member("level", record.level)
                writer.member("time", String(decoding: clock.text(of: time), as: UTF8.self))
                writer.member("scope", "access")
                writer.member("message", record.message)
                record.writeFields(to: &writer)
            }
            bytes = line.bytes
        }
        bytes.append(UInt8(ascii: "\n"))
        return bytes
    }
}

extension ConnectionRecord {
    /// A connection that never got as far as a decision has no workloads to name.
    private var isClassified: Bool { source.workload != nil || destination.workload != nil }

    fileprivate var level: String { !reason.isError ? "info" : isClassified ? "error" : "warn" }

    fileprivate var message: String {
        reason.isError && !isClassified ? "connection failed" : "connection complete"
    }

    fileprivate func writeFields(to fields: inout some FieldSink) {
        if let address = source.address { fields.address("src.addr", address) }
        source.writeNames(.source, to: &fields)
        if let address = destination.address { fields.address("dst.addr", address) }
        // The authority is a peer's text, so it is quoted unless it is nothing but an address.
        if let authority { fields.authority("dst.hbone_addr", authority) }
        if let service { fields.quoted("dst.service", service.service.hostname) }
        destination.writeNames(.destination, to: &fields)
        fields.quoted("direction", direction.rawValue)
        // Beyond ztunnel's fields, on lines that it would not write.
        if path == .sameNode { fields.quoted("path", path.rawValue) }
        // Bytes are told from the reporter's side: what its own workload sent comes first.
        let isOutbound = direction == .outbound
        fields.number("bytes_sent", isOutbound ? bytesFromClient : bytesToClient)
        fields.number("bytes_recv", isOutbound ? bytesToClient : bytesFromClient)
        fields.milliseconds("duration", UInt64(max(0, duration.wholeMilliseconds)))
        if let policy { fields.quoted("policy", policy) }
        if reason.isError { fields.quoted("error", reason.description) }
    }
}

/// What the fields of one end are called.
private struct EndNames {
    let workload, namespace, identity, cluster: String

    static let source = EndNames(
        workload: "src.workload", namespace: "src.namespace", identity: "src.identity",
        cluster: "src.cluster")
    static let destination = EndNames(
        workload: "dst.workload", namespace: "dst.namespace", identity: "dst.identity",
        cluster: "dst.cluster")
}

extension ConnectionRecord.End {
    fileprivate func writeNames(_ names: EndNames, to fields: inout some FieldSink) {
        let workload = workload?.workload
        if let workload {
            fields.quoted(names.workload, workload.name.isEmpty ? workload.canonicalName : workload.name)
            fields.quoted(names.namespace, workload.namespace)
        }
        if let identity { fields.quoted(names.identity, identity.uri) }
        if let workload, !workload.clusterID.isEmpty { fields.quoted(names.cluster, workload.clusterID) }
    }
}

/// Where the fields of a line go.
private protocol FieldSink {
    mutating func address(_ name: String, _ value: SocketAddress)
    mutating func quoted(_ name: String, _ value: String)
    mutating func quoted(_ name: String, _ value: NamespacedName)
    mutating func milliseconds(_ name: String, _ value: UInt64)
    mutating func number(_ name: String, _ value: UInt64)
}

extension FieldSink {
    mutating func authority(_ name: String, _ value: String) {
        if let address = SocketAddress(value) {
            self.address(name, address)
        } else {
            quoted(name, value)
        }
    }
}

private struct TextFields: FieldSink {
    private(set) var bytes: [UInt8] = []
    private var isFirst = true

    init(_ record: ConnectionRecord, time: [UInt8]) {
        bytes.reserveCapacity(1_000)
        bytes.append(contentsOf: time)
        column(record.level)
        column("access")
        column(record.message)
    }

    private mutating func column(_ text: String) {
        bytes.append(UInt8(ascii: "\t"))
        bytes.append(utf8: text)
    }

    mutating func address(_ name: String, _ value: SocketAddress) {
        key(name)
        appendAddress(value, to: &bytes)
    }

    mutating func quoted(_ name: String, _ value: String) {
        key(name)
        appendQuoted(value, to: &bytes)
    }

    mutating func quoted(_ name: String, _ value: NamespacedName) {
        key(name)
        bytes.append(UInt8(ascii: "\""))
        appendEscaped(value.namespace, to: &bytes)
        bytes.append(UInt8(ascii: "/"))
        appendEscaped(value.name, to: &bytes)
        bytes.append(UInt8(ascii: "\""))
    }

    mutating func milliseconds(_ name: String, _ value: UInt64) {
        key(name)
        bytes.append(UInt8(ascii: "\""))
        appendDecimal(value, to: &bytes)
        bytes.append(utf8: "ms\"")
    }

    mutating func number(_ name: String, _ value: UInt64) {
        key(name)
        appendDecimal(value, to: &bytes)
    }

    private mutating func key(_ name: String) {
        bytes.append(UInt8(ascii: isFirst ? "\t" : " "))
        isFirst = false
        bytes.append(utf8: name)
        bytes.append(UInt8(ascii: "="))
    }
}

extension JSONWriter: FieldSink {
    fileprivate mutating func address(_ name: String, _ value: SocketAddress) {
        member(name, value.description)
    }
    fileprivate mutating func quoted(_ name: String, _ value: String) { member(name, value) }
    fileprivate mutating func quoted(_ name: String, _ value: NamespacedName) {
        member(name, value.description)
    }
    fileprivate mutating func milliseconds(_ name: String, _ value: UInt64) { member(name, "\(value)ms") }
    fileprivate mutating func number(_ name: String, _ value: UInt64) { member(name, value) }
}
