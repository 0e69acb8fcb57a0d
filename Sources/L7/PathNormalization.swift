/// Makes one spelling of the many that a path has, so that rules about paths and the application see the same one (RFC 3986 §6.2.2): escapes of
/// unreserved characters are undone, dot segments resolved, and a backslash, which some servers take for a slash, becomes one.
///
/// - Returns: nil where nothing changes. The query stays as it is.
func normalizedPath(_ path: ArraySlice<UInt8>) -> [UInt8]? {
    guard path.first == UInt8(ascii: "/") else { return nil }
    let end = path.firstIndex(of: UInt8(ascii: "?")) ?? path.endIndex
    let plain = path[..<end]
    let isSuspicious = plain.indices.contains { index in
        switch plain[index] {
        case UInt8(ascii: "%"), UInt8(ascii: "\\"): true
        case UInt8(ascii: "."): index > plain.startIndex && plain[index - 1] == UInt8(ascii: "/")
        default: false
        }
    }
    guard isSuspicious else { return nil }
    let decoded = decodingUnreserved(plain)
    var segments: [ArraySlice<UInt8>] = []
    let parts = decoded.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    for (index, part) in parts.enumerated() {
        let isLast = index == parts.count - 1
        if part.elementsEqual(".".utf8) {
            if isLast { segments.append([]) }
        } else if part.elementsEqual("..".utf8) {
            _ = segments.popLast()
            if isLast { segments.append([]) }
        } else {
            segments.append(part)
        }
    }
    var result: [UInt8] = []
    for segment in segments { result += [UInt8(ascii: "/")] + segment }
    if result.isEmpty { result = [UInt8(ascii: "/")] }
    result += path[end...]
    return result.elementsEqual(path) ? nil : result
}

private func decodingUnreserved(_ path: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(path.count)
    var index = path.startIndex
    while index < path.endIndex {
        let byte = path[index]
        if byte == UInt8(ascii: "%"), index + 2 < path.endIndex, let high = hexValue(path[index + 1]),
            let low = hexValue(path[index + 2]), isUnreserved(high << 4 | low)
        {
            result.append(high << 4 | low)
            index += 3
        } else {
            result.append(byte == UInt8(ascii: "\\") ? UInt8(ascii: "/") : byte)
            index += 1
        }
    }
    return result
}

private func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
}

private func isUnreserved(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x61...0x7a, 0x41...0x5a, 0x30...0x39, 0x2d, 0x2e, 0x5f, 0x7e: true
    default: false
    }
}
