import COpenSSL

/// libcrypto's errors: a queue per thread, which every call that may fail is entered with empty.
enum ErrorQueue {
    static func clear() { ERR_clear_error() }

    /// The reason of the most recent error, in words, and an empty queue.
    static func take() -> String {
        let code = ERR_peek_last_error()
        ERR_clear_error()
        return code == 0 ? "no reason given" : text(code)
    }

    /// What a failed libssl call means: the peer's alert, or its breach of the protocol. Leaves the queue empty.
    static func takeProtocolError() -> TLSError {
        // The first error is the cause, later ones are what its callers said about it.
        let code = ERR_peek_error()
        ERR_clear_error()
        guard code != 0 else { return .protocolFailure("the connection failed without a reason") }
        let reason = ERR_GET_REASON(code)
        if ERR_GET_LIB(code) == ERR_LIB_SSL, reason > SSL_AD_REASON_OFFSET,
            reason < SSL_AD_REASON_OFFSET + 256
        {
            return .alert(alertName(reason - SSL_AD_REASON_OFFSET))
        }
        if ERR_GET_LIB(code) == ERR_LIB_SSL, reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE {
            return .noPeerCertificate
        }
        return .protocolFailure(text(code))
    }

    /// Words for an alert (RFC 8446 §6).
    static func alertName(_ number: Int32) -> String {
        switch number {
        // libssl 3.0 sends these two and cannot name them.
        case 109: "missing extension"
        case 116: "certificate required"
        default: unsafe String(cString: SSL_alert_desc_string_long(number))
        }
    }

    private static func text(_ code: UInt) -> String {
        if let reason = unsafe ERR_reason_error_string(code) { return unsafe String(cString: reason) }
        return "error \(String(code, radix: 16))"
    }
}
