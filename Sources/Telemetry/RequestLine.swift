import Address
import Linux

/// Turns requests into lines of Envoy's default access log, as Istio has its proxies write it: the same fields in the same order
/// and with the same signs for what is not there, so that what reads a waypoint's log in Istio reads ours.
///
/// Where Envoy writes a client's text as it came, quotes, tabs and controls included, ours is escaped in the text form
/// (`appendEscaped`), and a blank in a field without quotes is `_`: no value can end itself or its line. In JSON only characters
/// differ that a terminal would act on. Values are cut at a limit and then end in `...`.
///
/// `%UPSTREAM_HOST%` is the endpoint's address, and `%CONNECTION_TERMINATION_DETAILS%` never anything: what Envoy would say there
/// of connections, the line of the connection says.
public struct RequestLineFormatter: Sendable {
    private let format: AccessFormat
    private var clock = Timestamp(fractionDigits: 3)

    public init(_ format: AccessFormat) {
        self.format = format
    }

    /// The line of a request that is over, with its line feed.
    public mutating func line(_ record: RequestRecord) -> [UInt8] {
        let start = clock.text(of: record.start)
        var bytes: [UInt8]
        switch format {
        case .text:
            var line = EnvoyText(start)
            record.write(to: &line)
            bytes = line.bytes
        case .json:
            var line = JSONWriter()
            line.object { record.writeMembers(to: &$0, start: String(decoding: start, as: UTF8.self)) }
            bytes = line.bytes
        }
        bytes.append(UInt8(ascii: "\n"))
        return bytes
    }
}

/// The most bytes that a line has of a field, before escaping. Together they hold a line below 64 KiB whatever a client sends.
private enum Limit {
    static let method = 64
    static let path = 4_096
    static let header = 1_024
    static let requestID = 256
    static let protocolName = 16
    /// A DNS name and a port fit.
    static let authority = 512
    /// Texts of ours or of the configuration.
    static let own = 512
}

extension RequestRecord {
    private var milliseconds: UInt64 { UInt64(max(0, duration.wholeMilliseconds)) }

    private var upstreamMilliseconds: UInt64? { upstreamTime.map { UInt64(max(0, $0.wholeMilliseconds)) } }

    fileprivate func write(to line: inout EnvoyText) {
        line.request(method, path, protocolName)
        line.number(UInt64(max(0, status)))
        line.token(flags)
        line.token(details)
        line.token(nil)
        line.quoted(transportFailure.map(underscored), Limit.own)
        line.number(bytesReceived)
        line.number(bytesSent)
        line.number(milliseconds)
        if let time = upstreamMilliseconds { line.number(time) } else { line.token(nil) }
        line.quoted(forwardedFor, Limit.header)
        line.quoted(userAgent, Limit.header)
        line.quoted(requestID, Limit.requestID)
        line.quoted(authority, Limit.authority)
        line.quoted(destination.address)
        line.token(cluster)
        line.address(upstreamLocalAddress)
        line.address(localAddress)
        line.address(client.address)
        line.token(requestedServerName)
        line.token(routeName)
    }

    /// By name, the order in which Envoy has them.
    fileprivate func writeMembers(to object: inout JSONWriter, start: String) {
        object.member("authority", authority, Limit.authority)
        object.member("bytes_received", bytesReceived)
        object.member("bytes_sent", bytesSent)
        object.nullMember("connection_termination_details")
        object.member("downstream_local_address", localAddress)
        object.member("downstream_remote_address", client.address)
        object.member("duration", milliseconds)
        object.member("method", method, Limit.method)
        object.member("path", path, Limit.path)
        object.member("protocol", protocolName, Limit.protocolName)
        object.member("request_id", requestID, Limit.requestID)
        object.tokenMember("requested_server_name", requestedServerName)
        object.member("response_code", max(0, status))
        object.tokenMember("response_code_details", details)
        object.member("response_flags", flags.isEmpty ? "-" : bounded(flags, Limit.own))
        object.tokenMember("route_name", routeName)
        object.member("start_time", start)
        object.tokenMember("upstream_cluster", cluster)
        object.member("upstream_host", destination.address)
        object.member("upstream_local_address", upstreamLocalAddress)
        // Beyond Istio's keys, after Envoy's operator of the name, on the lines of requests that were tried again.
        if attempts > 1 { object.member("upstream_request_attempt_count", attempts) }
        // A header of the answer's in Envoy, hence a string.
        object.member("upstream_service_time", upstreamMilliseconds.map { "\($0)" }, Limit.own)
        object.tokenMember("upstream_transport_failure_reason", transportFailure)
        object.member("user_agent", userAgent, Limit.header)
        object.member("x_forwarded_for", forwardedFor, Limit.header)
    }
}

/// The fields of a line with blanks between them.
private struct EnvoyText {
    private(set) var bytes: [UInt8] = []

    init(_ start: [UInt8]) {
        bytes.reserveCapacity(640)
        bytes.append(UInt8(ascii: "["))
        bytes.append(contentsOf: start)
        bytes.append(UInt8(ascii: "]"))
    }

    mutating func request(_ method: String?, _ path: String?, _ protocolName: String?) {
        blank()
        quote()
        unquoted(method, Limit.method)
        blank()
        unquoted(path, Limit.path)
        blank()
        unquoted(protocolName, Limit.protocolName)
        quote()
    }

    mutating func quoted(_ value: String?, _ limit: Int) {
        blank()
        quote()
        if let value { appendEscaped(bounded(value, limit), to: &bytes) } else { none() }
        quote()
    }

    mutating func quoted(_ value: SocketAddress?) {
        blank()
        quote()
        if let value { appendAddress(value, to: &bytes) } else { none() }
        quote()
    }

    mutating func token(_ value: String?) {
        blank()
        unquoted(value, Limit.own)
    }

    mutating func address(_ value: SocketAddress?) {
        blank()
        if let value { appendAddress(value, to: &bytes) } else { none() }
    }

    mutating func number(_ value: UInt64) {
        blank()
        appendDecimal(value, to: &bytes)
    }

    private mutating func unquoted(_ value: String?, _ limit: Int) {
        guard let value, !value.isEmpty else { return none() }
        appendEscaped(underscored(bounded(value, limit)), to: &bytes)
    }

    private mutating func blank() { bytes.append(UInt8(ascii: " ")) }
    private mutating func quote() { bytes.append(UInt8(ascii: "\"")) }
    private mutating func none() { bytes.append(UInt8(ascii: "-")) }
}

extension JSONWriter {
    fileprivate mutating func member(_ name: String, _ value: String?, _ limit: Int) {
        if let value { member(name, bounded(value, limit)) } else { nullMember(name) }
    }

    fileprivate mutating func member(_ name: String, _ value: SocketAddress?) {
        if let value { member(name, value.description) } else { nullMember(name) }
    }

    /// What is no header of the client's, and stands without quotes in the text form.
    fileprivate mutating func tokenMember(_ name: String, _ value: String?) {
        guard let value, !value.isEmpty else { return nullMember(name) }
        member(name, underscored(bounded(value, Limit.own)))
    }
}

/// The text, or as much of it as fits and three dots.
private func bounded(_ text: String, _ limit: Int) -> String {
    guard text.utf8.count > limit else { return text }
    // Between two characters: the view rounds an index within one down.
    let end = text.utf8.index(text.startIndex, offsetBy: limit)
    return String(text.unicodeScalars[..<end]) + "..."
}

/// The text with `_` for blanks, as Envoy has details, so that it is one field.
private func underscored(_ text: String) -> String {
    // Almost always.
    if text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { result.append(scalar.properties.isWhitespace ? "_" : scalar) }
    return String(result)
}
