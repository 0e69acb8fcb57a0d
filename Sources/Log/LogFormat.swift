import Linux

/// How a line looks.
public enum LogFormat: String, Sendable, CaseIterable {
    /// Tab-separated: time, level, scope, message, then `key=value` with blanks between.
    case text
    /// One JSON object a line: level, time, scope, message, fields.
    case json
}

/// What a field's value may be. Numbers and booleans are written bare in JSON, all else as a string.
public typealias LogValue = any CustomStringConvertible & Sendable

/// One line before it is written.
struct LogLine {
    let time: WallClock
    let level: LogLevel
    let scope: String
    let message: String
    let fields: KeyValuePairs<String, LogValue>
    /// Lines of the same place that were held back since the last one.
    let suppressed: Int

    /// The line as bytes, newline included. Control characters of a message or value never reach the terminal or
    /// begin a line of their own: what a peer sent must not look like a line of ours.
    func encoded(_ format: LogFormat) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(160)
        switch format {
        case .text: encodeText(&bytes)
        case .json: encodeJSON(&bytes)
        }
        bytes.append(UInt8(ascii: "\n"))
        return bytes
    }

    private func encodeText(_ bytes: inout [UInt8]) {
        bytes += "\(time.rfc3339)\t\(level.name)\t\(scope)\t".utf8
        appendEscaped(message, to: &bytes)
        var separator = UInt8(ascii: "\t")
        func field(_ key: String, _ value: String) {
            bytes.append(separator)
            separator = UInt8(ascii: " ")
            bytes += key.utf8
            bytes.append(UInt8(ascii: "="))
            let isPlain =
                !value.isEmpty
                && value.utf8.allSatisfy { $0 > 0x20 && $0 != 0x22 && $0 != 0x3d && $0 != 0x7f }
            if isPlain {
                bytes += value.utf8
            } else {
                bytes.append(0x22)
                appendEscaped(value, to: &bytes)
                bytes.append(0x22)
            }
        }
        for (key, value) in fields { field(key, value.description) }
        if suppressed > 0 { field("suppressed", "\(suppressed)") }
    }

    private func encodeJSON(_ bytes: inout [UInt8]) {
        bytes += "{\"level\":\"\(level.name)\",\"time\":\"\(time.rfc3339)\",\"scope\":\"".utf8
        appendEscaped(scope, to: &bytes)
        bytes += "\",\"message\":\"".utf8
        appendEscaped(message, to: &bytes)
        bytes.append(0x22)
        if !fields.isEmpty || suppressed > 0 {
            bytes += ",\"fields\":{".utf8
            var isFirst = true
            for (key, value) in fields {
                if !isFirst { bytes.append(UInt8(ascii: ",")) }
                isFirst = false
                bytes.append(0x22)
                appendEscaped(key, to: &bytes)
                bytes += "\":".utf8
                if value is any BinaryInteger || value is Bool {
                    bytes += value.description.utf8
                } else {
                    bytes.append(0x22)
                    appendEscaped(value.description, to: &bytes)
                    bytes.append(0x22)
                }
            }
            if suppressed > 0 { bytes += "\(isFirst ? "" : ",")\"suppressed\":\(suppressed)".utf8 }
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(UInt8(ascii: "}"))
    }
}

/// Appends text as it may stand inside a JSON string (RFC 8259 §7).
public func appendEscaped(_ text: String, to bytes: inout [UInt8]) {
    let hexadecimal = Array("0123456789abcdef".utf8)
    for byte in text.utf8 {
        switch byte {
        case 0x22, 0x5c: bytes += [0x5c, byte]
        case 0x0a: bytes += "\\n".utf8
        case 0x0d: bytes += "\\r".utf8
        case 0x09: bytes += "\\t".utf8
        case 0..<0x20, 0x7f:
            bytes += "\\u00".utf8
            bytes += [hexadecimal[Int(byte >> 4)], hexadecimal[Int(byte & 15)]]
        default: bytes.append(byte)
        }
    }
}
