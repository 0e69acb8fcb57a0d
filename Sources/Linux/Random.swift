import CLinux
import Glibc

/// Bytes from the kernel's generator (getrandom(2)), good enough for keys and tokens.
public func randomBytes(_ count: Int) -> [UInt8] {
    precondition(count >= 0, "a negative number of bytes")
    return unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        var rest = unsafe UnsafeMutableRawBufferPointer(buffer)[...]
        while unsafe !rest.isEmpty {
            let part = unsafe UnsafeMutableRawBufferPointer(rebasing: rest)
            let got = unsafe clinux_getrandom(part.baseAddress, part.count)
            if got > 0 {
                unsafe rest = rest.dropFirst(got)
            } else if errno != EINTR {
                // The call exists since Linux 3.17 and cannot fail otherwise; a process without randomness must not run.
                fatalError("getrandom: \(errorText(errno))")
            }
        }
        filled = count
    }
}
