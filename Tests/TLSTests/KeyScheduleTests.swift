import COpenSSL
import TestSupport
import Testing

@testable import TLS

/// The derivations against those of libcrypto's default provider, which libssl uses where ours are not.
struct KeyScheduleTests {
    private static func theirs() throws -> OpaquePointer {
        let library = unsafe try #require(OSSL_LIB_CTX_new())
        unsafe try #require(OSSL_PROVIDER_load(library, "default") != nil)
        return unsafe library
    }

    private static func derive(_ request: Request, in library: OpaquePointer?) -> [UInt8]? {
        defer { ErrorQueue.clear() }
        let kind = unsafe EVP_KDF_fetch(library, OSSL_KDF_NAME_TLS1_3_KDF, nil)
        defer { unsafe EVP_KDF_free(kind) }
        let context = unsafe EVP_KDF_CTX_new(kind)
        defer { unsafe EVP_KDF_CTX_free(context) }
        let parameters = RequestParameters(request)
        var result = [UInt8](repeating: 0, count: request.count)
        guard unsafe EVP_KDF_derive(context, &result, result.count, parameters.list) == 1 else { return nil }
        return result
    }

    @Test(arguments: ["SHA2-256", "SHA256", "SHA2-384", "SHA384"])
    func `any secret is expanded as libcrypto expands it`(digest: String) throws {
        let theirs = try unsafe Self.theirs()
        defer { unsafe OSSL_LIB_CTX_free(theirs) }
        let length = digest.hasSuffix("256") ? 32 : 48
        var random = SeededGenerator(seed: 7)
        for _ in 0..<300 {
            let request = Request(
                digest: digest,
                octets: [
                    ("key", random.bytes(length)), ("prefix", Array("tls13 ".utf8)),
                    ("label", random.bytes(Int.random(in: 1...100, using: &random))),
                    ("data", random.bytes(Int.random(in: 0...64, using: &random))),
                ], count: Int.random(in: 1...200, using: &random))
            let expected = try #require(unsafe Self.derive(request, in: theirs))
            #expect(unsafe Self.derive(request, in: Library.shared.context) == expected)
        }
    }

    @Test(arguments: ["SHA2-256", "SHA2-384"], [false, true])
    func `any secret is extracted as libcrypto extracts it`(digest: String, isFirst: Bool) throws {
        let theirs = try unsafe Self.theirs()
        defer { unsafe OSSL_LIB_CTX_free(theirs) }
        let length = digest == "SHA2-256" ? 32 : 48
        var random = SeededGenerator(seed: 9)
        for round in 0..<100 {
            let request = Request(
                mode: EVP_KDF_HKDF_MODE_EXTRACT_ONLY, digest: digest,
                octets: [
                    ("key", round % 3 == 0 ? [] : random.bytes(Int.random(in: 1...200, using: &random))),
                    ("salt", isFirst ? [] : random.bytes(length)), ("prefix", Array("tls13 ".utf8)),
                    ("label", Array("derived".utf8)),
                ], count: length)
            let expected = try #require(unsafe Self.derive(request, in: theirs))
            #expect(unsafe Self.derive(request, in: Library.shared.context) == expected)
        }
    }

    @Test func `what TLS does not ask for is refused`() {
        let good: [(name: String, value: [UInt8])] = [
            ("key", Array(repeating: 1, count: 32)), ("prefix", Array("tls13 ".utf8)), ("label", [1, 2, 3]),
        ]
        func isRefused(_ change: (inout Request) -> Void) -> Bool {
            var request = Request(octets: good)
            change(&request)
            return unsafe Self.derive(request, in: Library.shared.context) == nil
        }
        #expect(!isRefused { _ in })
        #expect(isRefused { $0.mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND })
        #expect(isRefused { $0.digest = "SHA1" })
        #expect(isRefused { $0.digest = "SHA2-512" })
        #expect(isRefused { $0.count = 255 * 32 + 1 })
        #expect(isRefused { $0.octets[0].value = Array(repeating: 1, count: 65) })
        #expect(isRefused { $0.octets[2].value = Array(repeating: 1, count: 250) })
        #expect(isRefused { $0.octets.append(("data", Array(repeating: 1, count: 256))) })
        #expect(
            isRefused {
                $0.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY
                $0.count = 31
            })
    }

    @Test func `a derivation that is told something before it is made refuses it`() throws {
        let kind = unsafe EVP_KDF_fetch(Library.shared.context, OSSL_KDF_NAME_TLS1_3_KDF, nil)
        defer { unsafe EVP_KDF_free(kind) }
        let context = unsafe EVP_KDF_CTX_new(kind)
        defer {
            unsafe EVP_KDF_CTX_free(context)
            ErrorQueue.clear()
        }
        let parameters = RequestParameters(Request())
        unsafe #expect(EVP_KDF_CTX_set_params(context, parameters.list) == 0)
    }

    @Test(.bothRecordLayers) func `a session's secrets go to that session and to no other of its thread`()
        throws
    {
        let realm = try Realm()
        let pairs = try (0..<3).map { _ in
            try Pair(
                client: realm.client(realm.bundle("alice")), server: realm.server(realm.bundle("bob")),
                expecting: [realm.uri("bob")])
        }
        // All in turn, so that each is in the midst of its handshake while the others are in theirs.
        var waiting = pairs.map { _ in true }
        while waiting.contains(true) {
            for (index, pair) in pairs.enumerated() where waiting[index] {
                let isClientDone = try Self.advance(pair.client, pair.server.takeOutput())
                let isServerDone = try Self.advance(pair.server, pair.client.takeOutput())
                waiting[index] = !isClientDone || !isServerDone
            }
        }
        for pair in pairs {
            try pair.client.write([1, 2, 3])
            #expect(try pair.server.readAll(pair.client.takeOutput()).plain == [1, 2, 3])
            try pair.server.write([4, 5])
            #expect(try pair.client.readAll(pair.server.takeOutput()).plain == [4, 5])
        }
    }

    private static func advance(_ session: TLSSession, _ bytes: [UInt8]) throws -> Bool {
        var consumed = 0
        return try unsafe lend(bytes) { bytes throws(TLSError) in
            try unsafe session.handshake(bytes, &consumed)
        } == .done
    }
}

/// What libssl asks for, by names and values.
private struct Request {
    var mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY
    var digest = "SHA2-256"
    var octets: [(name: String, value: [UInt8])] = []
    var count = 32
}

/// A request as libcrypto takes it: it keeps addresses, so everything lies in memory of its own.
@safe
private final class RequestParameters {
    private(set) var list: [OSSL_PARAM] = unsafe []
    private var blocks: [UnsafeMutableRawBufferPointer] = unsafe []

    init(_ request: Request) {
        let mode = unsafe keep(request.mode).assumingMemoryBound(to: Int32.self)
        unsafe list.append(OSSL_PARAM_construct_int(name("mode"), mode))
        unsafe list.append(OSSL_PARAM_construct_utf8_string(name("digest"), name(request.digest), 0))
        for (text, value) in request.octets {
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(1, value.count), alignment: 1)
            unsafe bytes.copyBytes(from: value)
            unsafe blocks.append(bytes)
            // Nothing is told by leaving it out, as libssl does.
            guard !value.isEmpty else { continue }
            unsafe list.append(OSSL_PARAM_construct_octet_string(name(text), bytes.baseAddress, value.count))
        }
        unsafe list.append(OSSL_PARAM_construct_end())
    }

    // swift-format-ignore
    deinit { for unsafe block in unsafe blocks { unsafe block.deallocate() } }

    // swift-format-ignore
    private func name(_ text: String) -> UnsafeMutablePointer<CChar> {
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: text.utf8.count + 1, alignment: 1)
        unsafe bytes.copyBytes(from: Array(text.utf8) + [0])
        unsafe blocks.append(bytes)
        // swift-format-ignore: NeverForceUnwrap
        return unsafe bytes.bindMemory(to: CChar.self).baseAddress!
    }

    // swift-format-ignore
    private func keep(_ value: Int32) -> UnsafeMutableRawPointer {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 4, alignment: 4)
        unsafe bytes.storeBytes(of: value, as: Int32.self)
        unsafe blocks.append(bytes)
        // swift-format-ignore: NeverForceUnwrap
        return bytes.baseAddress!
    }
}
