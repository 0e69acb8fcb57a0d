import COpenSSL

// What the functions of our provider have in common: they are told, and asked, by lists of OSSL_PARAM.

typealias Untyped = @convention(c) () -> Void
typealias Parameters = UnsafeMutablePointer<OSSL_PARAM>

/// The name of a parameter, compared without making a `String`.
@safe
struct ParameterName {
    let start: UnsafePointer<CChar>

    static func == (name: ParameterName, text: StaticString) -> Bool {
        unsafe strcmp(name.start, UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)) == 0
    }
}

/// - Parameter body: false ends it.
/// - Returns: 1 when it was not ended, as libcrypto's functions do.
func each(_ parameters: Parameters?, _ body: (ParameterName, Parameters) -> Bool) -> Int32 {
    guard var next = unsafe parameters else { return 1 }
    while let name = unsafe next.pointee.key {
        guard unsafe body(ParameterName(start: name), next) else { return 0 }
        unsafe next += 1
    }
    return 1
}
