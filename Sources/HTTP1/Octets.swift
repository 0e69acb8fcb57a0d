// What every reader and writer here asks about bytes.

/// `tchar` of RFC 9110 §5.6.2.
func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x61...0x7a, 0x41...0x5a, 0x30...0x39, 0x21, 0x23...0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e...0x60, 0x7c,
        0x7e:
        true
    default: false
    }
}

/// What may stand in a field's value or a reason phrase: no control character but HTAB (RFC 9110 §5.5).
func isValueByte(_ byte: UInt8) -> Bool { byte >= 0x20 && byte != 0x7f || byte == 0x09 }

func isHexDigit(_ byte: UInt8) -> Bool { hexValue(byte) != nil }

func hexValue(_ byte: UInt8) -> Int64? {
    switch byte {
    case 0x30...0x39: Int64(byte) - 0x30
    case 0x41...0x46: Int64(byte) - 0x37
    case 0x61...0x66: Int64(byte) - 0x57
    default: nil
    }
}

func lowercased(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }

func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    let front = bytes.drop { $0 == 0x20 || $0 == 0x09 }
    return front.lastIndex { $0 != 0x20 && $0 != 0x09 }.map { front[...$0] } ?? []
}

func equal(_ bytes: ArraySlice<UInt8>, _ text: StaticString) -> Bool {
    unsafe bytes.elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
}

/// Whether `bytes` are `text`, which is in lower case, without regard to case.
func equalIgnoringCase(_ bytes: ArraySlice<UInt8>, _ text: some Collection<UInt8>) -> Bool {
    bytes.count == text.count && zip(bytes, text).allSatisfy { lowercased($0) == $1 }
}

/// Decimal digits and nothing else, at most what fits.
func decimal(_ digits: ArraySlice<UInt8>) -> Int64? {
    guard !digits.isEmpty, digits.count <= 18 else { return nil }
    var number: Int64 = 0
    for byte in digits {
        guard (0x30...0x39).contains(byte) else { return nil }
        number = number * 10 + Int64(byte - 0x30)
    }
    return number
}
