// Decodes and re-encodes named message types for Tests/interop/test_protobuf.py.
//
// Reads frames from standard input: a length (4 bytes, big-endian) and a name, a length and a payload. Answers each with
// a byte, 1 for success, and a length and bytes: the message as this code writes it, or the error. The name `random`
// takes a seed of 8 bytes and answers with a random warren.test.Everything.
import Glibc
import Protobuf
import TestMessages
import TestSupport
import Wire

typealias Conversion = ([UInt8]) throws(BinaryDecodingError) -> [UInt8]

func entry<M: Message>(_: M.Type) -> (String, Conversion) {
    (
        M.protoMessageName,
        { (bytes) throws(BinaryDecodingError) in try M(serializedBytes: bytes).serializedBytes() }
    )
}

let conversions: [String: Conversion] = Dictionary(
    uniqueKeysWithValues: [
        entry(Warren_Test_Everything.self), entry(Warren_Test_Something.self), entry(Warren_Test_Nested.self),
        entry(Envoy_Service_Discovery_V3_DeltaDiscoveryRequest.self),
        entry(Envoy_Service_Discovery_V3_DeltaDiscoveryResponse.self),
        entry(Istio_Workload_Address.self), entry(Istio_Security_Authorization.self),
        entry(Istio_V1_Auth_IstioCertificateRequest.self), entry(Istio_V1_Auth_IstioCertificateResponse.self),
        entry(Warren_V1_LocalPod.self), entry(Warren_V1_CaptureReport.self),
        entry(Warren_V1_WaypointService.self),
    ])

func readExactly(_ byteCount: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    var filled = 0
    while filled < byteCount {
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe read(STDIN_FILENO, $0.baseAddress?.advanced(by: filled), byteCount - filled)
        }
        guard count > 0 else { return nil }
        filled += count
    }
    return bytes
}

func readField() -> [UInt8]? {
    guard let length = readExactly(4) else { return nil }
    return readExactly(Int(length.reduce(0 as UInt32) { $0 << 8 | UInt32($1) }))
}

func answer(_ isSuccess: Bool, _ bytes: [UInt8]) {
    let length = stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: bytes.count >> $0) }
    var rest = ([isSuccess ? 1 : 0] + length + bytes)[...]
    while !rest.isEmpty {
        let count = unsafe rest.withUnsafeBytes { unsafe write(STDOUT_FILENO, $0.baseAddress, $0.count) }
        guard count > 0 else { exit(1) }
        rest = rest.dropFirst(count)
    }
}

while let name = readField(), let payload = readField() {
    let name = String(decoding: name, as: UTF8.self)
    if name == "random" {
        var random = SeededGenerator(seed: payload.reduce(0) { $0 << 8 | UInt64($1) })
        answer(true, Warren_Test_Everything.random(&random).serializedBytes())
    } else if let conversion = conversions[name] {
        do throws(BinaryDecodingError) {
            answer(true, try conversion(payload))
        } catch {
            answer(false, Array("\(error)".utf8))
        }
    } else {
        answer(false, Array("no such type: \(name)".utf8))
    }
}
