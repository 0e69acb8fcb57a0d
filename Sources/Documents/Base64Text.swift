import Encodings

/// The bytes that a Secret's or a `!!binary` text stands for, or nil when it is no base64. White space is skipped.
public func bytes(ofBase64 text: String) -> [UInt8]? {
    let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0a || $0 == 0x0d }
    return Base64.decode(text.utf8.lazy.filter { !isBlank($0) })
}
