import COpenSSL
import Testing

@testable import TLS

/// An `EVP_CIPHER_CTX`, used as records use it.
@safe
final class GCM {
    struct Refusal: Error {}
    struct Sealed: Equatable {
        let bytes: [UInt8]
        let tag: [UInt8]
    }

    private let context: OpaquePointer

    private init(owning context: OpaquePointer) { unsafe self.context = unsafe context }

    enum Source { case process, libcrypto }

    /// - Parameter key: 16 or 32 bytes; none leaves AES-128 without one.
    convenience init(_ key: [UInt8], of source: Source = .process) throws {
        let library = unsafe source == .process ? Library.shared.context : nil
        let name = key.count == 32 ? "AES-256-GCM" : "AES-128-GCM"
        let cipher = unsafe try #require(EVP_CIPHER_fetch(library, name, nil))
        defer { unsafe EVP_CIPHER_free(cipher) }
        let context = unsafe try #require(EVP_CIPHER_CTX_new())
        unsafe self.init(owning: context)
        try #require(unsafe EVP_CipherInit_ex2(context, cipher, key.isEmpty ? nil : key, nil, 1, nil) == 1)
    }

    deinit { unsafe EVP_CIPHER_CTX_free(context) }

    func copied() throws -> GCM {
        let copy = unsafe try #require(EVP_CIPHER_CTX_new())
        let gcm = unsafe GCM(owning: copy)
        try #require(unsafe EVP_CIPHER_CTX_copy(copy, context) == 1)
        return gcm
    }

    func seal(
        _ plain: [UInt8], nonce: [UInt8], associated: [[UInt8]], cuts: [Range<Int>]? = nil,
        inPlace: Bool = false
    ) throws -> Sealed {
        guard begin(sealing: true, nonce: nonce) else { throw Refusal() }
        let bytes = try run(plain, associated, cuts, inPlace)
        guard finish(), let tag = tag() else { throw Refusal() }
        return Sealed(bytes: bytes, tag: tag)
    }

    func open(
        _ sealed: [UInt8], tag: [UInt8], nonce: [UInt8], associated: [[UInt8]], cuts: [Range<Int>]? = nil,
        inPlace: Bool = false
    ) throws -> [UInt8] {
        guard begin(sealing: false, nonce: nonce), expect(tag) else { throw Refusal() }
        let bytes = try run(sealed, associated, cuts, inPlace)
        guard finish() else { throw Refusal() }
        return bytes
    }

    private func run(
        _ input: [UInt8], _ associated: [[UInt8]], _ cuts: [Range<Int>]?, _ isInPlace: Bool
    ) throws -> [UInt8] {
        for piece in associated where !associate(piece) { throw Refusal() }
        // One byte more than needed, which must stay as it is.
        var output = isInPlace ? input + [0xa5] : [UInt8](repeating: 0xa5, count: input.count + 1)
        try unsafe input.withUnsafeBytes { input in
            try unsafe output.withUnsafeMutableBytes { output in
                for cut in cuts ?? [0..<input.count] {
                    let source = unsafe isInPlace ? UnsafeRawBufferPointer(output) : input
                    var written: Int32 = -1
                    let isDone = unsafe EVP_CipherUpdate(
                        context,
                        output.baseAddress?.advanced(by: cut.lowerBound).assumingMemoryBound(to: UInt8.self),
                        &written,
                        source.baseAddress?.advanced(by: cut.lowerBound).assumingMemoryBound(to: UInt8.self),
                        Int32(cut.count))
                    guard isDone == 1, written == cut.count else { throw Refusal() }
                }
            }
        }
        try #require(output.popLast() == 0xa5)
        return output
    }

    /// - Parameter parameter: one of libcrypto's parameters, a number.
    func begin(
        sealing: Bool, key: [UInt8]? = nil, nonce: [UInt8]? = nil,
        _ parameter: (name: String, value: Int)? = nil
    ) -> Bool {
        var value = parameter?.value ?? 0
        let name = Array((parameter?.name ?? "").utf8CString)
        return unsafe name.withUnsafeBufferPointer { name in
            unsafe withUnsafeMutablePointer(to: &value) { value in
                let parameters = unsafe [
                    OSSL_PARAM_construct_size_t(name.baseAddress, value), OSSL_PARAM_construct_end(),
                ]
                return unsafe EVP_CipherInit_ex2(
                    context, nil, key, nonce, sealing ? 1 : 0, parameter == nil ? nil : parameters) == 1
            }
        }
    }

    func associate(_ bytes: [UInt8]) -> Bool {
        var written: Int32 = 0
        return unsafe EVP_CipherUpdate(context, nil, &written, bytes, Int32(bytes.count)) == 1
    }

    func update(_ bytes: [UInt8]) -> Bool { transform(bytes) != nil }

    func transform(_ bytes: [UInt8]) -> [UInt8]? {
        var output = [UInt8](repeating: 0, count: bytes.count)
        var written: Int32 = 0
        let isDone = unsafe EVP_CipherUpdate(context, &output, &written, bytes, Int32(bytes.count))
        return isDone == 1 ? output : nil
    }

    func finish() -> Bool {
        var (nothing, written): ([UInt8], Int32) = ([0], 0)
        return unsafe EVP_CipherFinal_ex(context, &nothing, &written) == 1
    }

    func expect(_ tag: [UInt8]) -> Bool {
        var tag = tag
        return unsafe EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(tag.count), &tag) == 1
    }

    func tag() -> [UInt8]? {
        var tag = [UInt8](repeating: 0, count: 16)
        return unsafe EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, &tag) == 1 ? tag : nil
    }

    func control(_ command: Int32, _ argument: Int32) -> Bool {
        var area = [UInt8](repeating: 0, count: 64)
        return unsafe EVP_CIPHER_CTX_ctrl(context, command, argument, &area) > 0
    }
}
