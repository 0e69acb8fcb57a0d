import Glibc

/// The path of the program that runs; nil when /proc cannot tell.
public func executablePath() -> String? {
    let capacity = 4096
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { buffer, filled in
        guard let start = buffer.baseAddress else { return }
        filled = max(0, unsafe readlink("/proc/self/exe", start, capacity))
    }
    return bytes.isEmpty || bytes.count == capacity ? nil : String(decoding: bytes, as: UTF8.self)
}
