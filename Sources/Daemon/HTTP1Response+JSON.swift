import HTTP1

extension HTTP1Response {
    /// An answer that is JSON already.
    package static func json(_ bytes: [UInt8], status: Int = 200) -> HTTP1Response {
        HTTP1Response(status: status, fields: ["content-type": "application/json"], body: bytes)
    }
}
