import Discovery
import Encodings
import Linux
import Mesh
import TLS
import Telemetry

/// A certificate of ours and how it stands, as dumps and status pages tell it.
package struct CertificateReport: Sendable {
    package struct Entry: Sendable {
        package var pem: String
        /// Decimal.
        package var serial: String
        /// RFC 3339.
        package var validFrom: String
        package var expiration: String

        package init(pem: String, serial: String, validFrom: String, expiration: String) {
            self.pem = pem
            self.serial = serial
            self.validFrom = validFrom
            self.expiration = expiration
        }
    }

    package var identity: String
    /// `Available`, `Initializing`, or `Unavailable: ` and why.
    package var state: String
    package var chain: [Entry]
    package var roots: [Entry]

    package init(identity: String, state: String, chain: [Entry] = [], roots: [Entry] = []) {
        self.identity = identity
        self.state = state
        self.chain = chain
        self.roots = roots
    }
}

extension JSONWriter {
    /// As ztunnel's dump has it.
    package mutating func certificate(_ certificate: CertificateReport) {
        object { json in
            json.member("identity", certificate.identity)
            json.member("state", certificate.state)
            json.arrayMember("certChain", of: certificate.chain) { $0.entry($1) }
            json.arrayMember("rootCerts", of: certificate.roots) { $0.entry($1) }
        }
    }

    /// As the status page has it.
    package mutating func certificateStatus(_ certificate: CertificateReport) {
        object { json in
            json.member("identity", certificate.identity)
            json.member("state", certificate.state)
            if let leaf = certificate.chain.first {
                json.member("serialNumber", leaf.serial)
                json.member("notBefore", leaf.validFrom)
                json.member("notAfter", leaf.expiration)
            }
        }
    }

    private mutating func entry(_ entry: CertificateReport.Entry) {
        object { json in
            json.member("pem", Base64.encode(entry.pem.utf8))
            json.member("serialNumber", entry.serial)
            json.member("validFrom", entry.validFrom)
            json.member("expirationTime", entry.expiration)
        }
    }
}

extension CertificateReport {
    /// - Parameter state: nil while it is being fetched.
    package init(_ identity: Identity, _ state: CertificateState?) {
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

extension CertificateReport.Entry {
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
package func decimal(hexadecimal text: String) -> String {
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
