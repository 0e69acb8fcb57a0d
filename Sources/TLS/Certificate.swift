import COpenSSL
import Glibc
import Mesh

/// Owns one reference to an `X509`.
@safe
final class CertificateHandle: @unchecked Sendable {
    // @unchecked: the certificate is never changed after its making; libcrypto locks what it caches inside.
    let pointer: OpaquePointer

    init(owning pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }
    deinit { unsafe X509_free(pointer) }
}

/// An X.509 certificate (RFC 5280), decoded once and read-only. Two are equal when their bytes are.
public struct Certificate: Sendable, Hashable {
    let handle: CertificateHandle
    /// The exact encoding.
    public let der: [UInt8]

    /// Largest encoding that is read.
    static let maximumByteCount = 64 << 10

    /// - Throws: `malformed` for anything but one whole certificate.
    public init(der: [UInt8]) throws(TLSError) {
        guard der.count <= Self.maximumByteCount else {
            throw .malformed("certificate", reason: "longer than \(Self.maximumByteCount) bytes")
        }
        ErrorQueue.clear()
        var made = unsafe X509_new_ex(Library.shared.context, nil)
        guard unsafe made != nil else { throw .library(ErrorQueue.take()) }
        let isWhole = unsafe der.withUnsafeBytes { bytes in
            let start = unsafe bytes.bindMemory(to: UInt8.self).baseAddress
            var cursor = unsafe start
            guard unsafe d2i_X509(&made, &cursor, bytes.count) != nil, let start = unsafe start else {
                return false
            }
            return unsafe cursor == start + bytes.count
        }
        guard let certificate = unsafe made else {
            throw .malformed("certificate", reason: ErrorQueue.take())
        }
        unsafe handle = CertificateHandle(owning: certificate)
        guard isWhole else { throw .malformed("certificate", reason: "bytes follow it") }
        self.der = der
    }

    /// Takes over a reference to `pointer`.
    init(owning pointer: OpaquePointer) throws(TLSError) {
        unsafe handle = CertificateHandle(owning: pointer)
        der = try unsafe encoded { unsafe i2d_X509(pointer, $0) }
    }

    /// Every certificate of a text, in its order; other blocks are passed over.
    ///
    /// - Throws: `malformed` when there is none or one cannot be read.
    public static func all(inPEM text: String) throws(TLSError) -> [Certificate] {
        var certificates: [Certificate] = []
        for block in try PEM.blocks(in: text)
        where block.label == "CERTIFICATE" || block.label == "X509 CERTIFICATE" {
            certificates.append(try Certificate(der: block.der))
        }
        guard !certificates.isEmpty else { throw .malformed("certificate", reason: "the text holds none") }
        return certificates
    }

    public var pem: String { PEM.encode("CERTIFICATE", der) }

    public static func == (left: Certificate, right: Certificate) -> Bool { left.der == right.der }
    public func hash(into hasher: inout Hasher) { hasher.combine(der) }
}

// MARK: - What it says

extension Certificate {
    /// Seconds since the epoch from which it is valid; the far future when it cannot be read.
    public var notBefore: UnixTime { unsafe Self.seconds(X509_get0_notBefore(handle.pointer)) ?? .max }

    /// Seconds since the epoch until which it is valid; the far past when it cannot be read.
    public var notAfter: UnixTime { unsafe Self.seconds(X509_get0_notAfter(handle.pointer)) ?? .min }

    /// The serial number in lower-case hexadecimal digits, two a byte.
    public var serial: String {
        guard let serial = unsafe X509_get0_serialNumber(handle.pointer) else { return "" }
        return unsafe Self.bytes(serial).map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
    }

    /// RFC 2253 form, such as `O=cluster.local`.
    public var subject: String { unsafe Self.text(X509_get_subject_name(handle.pointer)) }

    /// RFC 2253 form.
    public var issuer: String { unsafe Self.text(X509_get_issuer_name(handle.pointer)) }

    /// May sign other certificates (basicConstraints, RFC 5280 §4.2.1.9).
    public var isAuthority: Bool { unsafe X509_check_ca(handle.pointer) == 1 }

    public var isSelfIssued: Bool {
        unsafe X509_NAME_cmp(X509_get_subject_name(handle.pointer), X509_get_issuer_name(handle.pointer)) == 0
    }

    public var publicKey: PublicKey? {
        guard let key = unsafe X509_get_pubkey(handle.pointer) else { return nil }
        return unsafe PublicKey(handle: KeyHandle(owning: key))
    }

    /// The URI names of subjectAltName, in order. One that is not printable ASCII is given as an empty string, so
    /// that it still counts: Swift compares strings by canonical equivalence, under which U+212A equals `K`.
    public var uriNames: [String] { names(of: GEN_URI) }

    /// The DNS names of subjectAltName, in order; unprintable ones as empty strings.
    public var dnsNames: [String] { names(of: GEN_DNS) }

    /// The SPIFFE identity: exactly one URI name (X.509-SVID §2), and that one strictly of Istio's form.
    public var identity: Identity? {
        let uris = uriNames
        guard uris.count == 1, let uri = uris.first else { return nil }
        return Identity(spiffe: uri)
    }

    private func names(of kind: Int32) -> [String] {
        var critical: Int32 = 0
        guard
            let extensionValue = unsafe X509_get_ext_d2i(handle.pointer, NID_subject_alt_name, &critical, nil)
        else { return [] }
        let stack = OpaquePointer(extensionValue)
        defer { unsafe GENERAL_NAMES_free(stack) }
        var names: [String] = []
        for index in 0..<(unsafe max(0, OPENSSL_sk_num(stack))) {
            guard let name = unsafe OPENSSL_sk_value(stack, index) else { continue }
            var found: Int32 = 0
            guard
                let value = unsafe GENERAL_NAME_get0_value(
                    name.assumingMemoryBound(to: GENERAL_NAME.self), &found),
                found == kind
            else { continue }
            let bytes = unsafe Self.bytes(value.assumingMemoryBound(to: ASN1_STRING.self))
            let isPrintable = bytes.allSatisfy { $0 > 0x20 && $0 < 0x7f }
            names.append(isPrintable ? String(decoding: bytes, as: UTF8.self) : "")
        }
        return names
    }

    private static func bytes(_ string: UnsafePointer<ASN1_STRING>) -> [UInt8] {
        let count = max(0, unsafe ASN1_STRING_length(string))
        return unsafe Array(UnsafeBufferPointer(start: ASN1_STRING_get0_data(string), count: Int(count)))
    }

    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> UnixTime? {
        var parts = unsafe tm()
        guard let time = unsafe time, unsafe ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
        return UnixTime(unsafe timegm(&parts))
    }

    private static func text(_ name: OpaquePointer?) -> String {
        guard let name = unsafe name, let bio = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe BIO_free(bio) }
        unsafe _ = X509_NAME_print_ex(bio, name, 0, copenssl_rfc2253)
        var start: UnsafeMutablePointer<CChar>? = nil
        let count = unsafe copenssl_bio_contents(bio, &start)
        let bytes = unsafe UnsafeRawBufferPointer(start: start, count: max(0, count))
        return unsafe String(decoding: bytes, as: UTF8.self)
    }
}

extension UnixTime {
    /// The wall clock, in whole seconds.
    public static var now: UnixTime { UnixTime(time(nil)) }
}
