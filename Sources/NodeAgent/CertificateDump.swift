import Discovery
import Linux
import Mesh
import TLS
import Telemetry

extension ConfigDump.CertificateState {
    /// - Parameter state: nil while it is being fetched.
    init(_ identity: Identity, _ state: CertificateState?) {
        switch state {
        case nil:
            self.init(identity: identity.uri, state: "Initializing")
        case .unavailable(let reason):
            self.init(identity: identity.uri, state: "Unavailable: \(reason)")
        case .available(let bundle, let roots):
            self.init(
                identity: identity.uri, state: "Available", chain: bundle.chain.map(Entry.init),
                roots: roots.map(Entry.init))
        }
    }
}

extension ConfigDump.CertificateState.Entry {
    init(_ certificate: Certificate) {
        self.init(
            pem: certificate.pem, serial: decimal(hexadecimal: certificate.serial),
            validFrom: date(certificate.notBefore), expiration: date(certificate.notAfter))
    }
}

/// RFC 3339 knows four digits of a year; what lies beyond is shown as their end.
private func date(_ seconds: UnixTime) -> String {
    WallClock(seconds: min(max(seconds, 0), 253_402_300_799)).rfc3339
}

/// A number of any length, as ztunnel and `istioctl` write serial numbers.
///
/// - Parameter text: hexadecimal digits; others are skipped.
func decimal(hexadecimal text: String) -> String {
    // Least significant digit first.
    var digits: [UInt8] = [0]
    for value in text.compactMap(\.hexDigitValue) {
        var carry = value
        for index in digits.indices {
            carry += Int(digits[index]) * 16
            digits[index] = UInt8(carry % 10)
            carry /= 10
        }
        while carry > 0 {
            digits.append(UInt8(carry % 10))
            carry /= 10
        }
    }
    return String(decoding: digits.reversed().map { UInt8(ascii: "0") + $0 }, as: UTF8.self)
}
