import CLinux
import Glibc

extension Socket {
    /// Takes over a listening TCP socket that whoever started us has opened and passed by its number, as `warren up` and
    /// systemd do.
    ///
    /// Call it once for a number, before other descriptors are opened.
    /// - Throws: ENOTSOCK or EINVAL for a number that is no listening TCP socket, EBADF for none at all.
    public static func adopting(listener number: Int32) throws(SystemCallError) -> Socket {
        let name = "descriptor \(number)"
        // 0 to 2 are the standard streams, whatever somebody wrote on a command line.
        guard number > 2 else { throw SystemCallError(call: "adopt", subject: name, number: EBADF) }
        let type = try intOption(SO_TYPE, of: number, name)
        let isListening = try intOption(SO_ACCEPTCONN, of: number, name) == 1
        guard type == Int32(SOCK_STREAM.rawValue), isListening else {
            throw SystemCallError(call: "adopt", subject: "\(name), no listening socket", number: EINVAL)
        }
        let flags = try systemCall("fcntl", on: name) { clinux_fcntl(number, F_GETFL, 0) }
        try systemCall("fcntl", on: name) { clinux_fcntl(number, F_SETFL, flags | O_NONBLOCK) }
        try systemCall("fcntl", on: name) { clinux_fcntl(number, F_SETFD, Int32(FD_CLOEXEC)) }
        return Socket(owning: Descriptor(owning: number))
    }

    private static func intOption(
        _ option: Int32, of number: Int32, _ name: String
    ) throws(SystemCallError) -> Int32 {
        var value: Int32 = 0
        var length = UInt32(MemoryLayout<Int32>.size)
        try systemCall("getsockopt", on: name) {
            unsafe getsockopt(number, SOL_SOCKET, option, &value, &length)
        }
        return value
    }
}
