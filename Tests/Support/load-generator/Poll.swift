import CLinux
import Glibc

/// CLOCK_MONOTONIC in nanoseconds.
func now() -> Int64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

enum LoadError: Error {
    case system(String, Int32)
    /// Not all of it was done in time.
    case incomplete
}

/// A level-triggered epoll set with one timer of nanoseconds: epoll's own time-out knows only milliseconds.
@safe
final class Poll {
    private let set: Int32
    private let timer: Int32
    private var ready = unsafe [epoll_event](repeating: epoll_event(), count: 256)
    private static let timerToken = UInt64.max

    init() throws(LoadError) {
        set = epoll_create1(0)
        timer = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_NONBLOCK))
        guard set >= 0, timer >= 0 else { throw .system("epoll_create1, timerfd_create", errno) }
        try control(EPOLL_CTL_ADD, timer, EPOLLIN.rawValue, Poll.timerToken)
    }

    func watch(_ descriptor: Int32, forWriting: Bool, token: Int, isNew: Bool) throws(LoadError) {
        try control(
            isNew ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, descriptor,
            forWriting ? EPOLLOUT.rawValue : EPOLLIN.rawValue, UInt64(token))
    }

    private func control(
        _ operation: Int32, _ descriptor: Int32, _ events: UInt32, _ token: UInt64
    ) throws(LoadError) {
        var event = unsafe epoll_event()
        unsafe event.events = events
        unsafe event.data.u64 = token
        guard unsafe epoll_ctl(set, operation, descriptor, &event) == 0 else {
            throw .system("epoll_ctl", errno)
        }
    }

    /// Sleeps until something is ready or the clock says `time`; the tokens of what is ready.
    func wait(until time: Int64) -> [Int] {
        let isWaiting = time > now()
        if isWaiting {
            var goal = itimerspec()
            goal.it_value = timespec(tv_sec: Int(time / 1_000_000_000), tv_nsec: Int(time % 1_000_000_000))
            // Takes back the expiry before it, too, so that nothing has to be read.
            unsafe timerfd_settime(timer, Int32(TFD_TIMER_ABSTIME), &goal, nil)
        }
        let count = unsafe epoll_wait(set, &ready, Int32(ready.count), isWaiting ? -1 : 0)
        guard count > 0 else { return [] }
        return unsafe ready[..<Int(count)].map(\.data.u64).filter { $0 != Poll.timerToken }.map { Int($0) }
    }
}

/// Where the load goes.
struct Target {
    private var address: sockaddr_in
    let host: String

    init?(_ text: String, port: UInt16) {
        guard port > 0 else { return nil }
        address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard unsafe inet_pton(AF_INET, text, &address.sin_addr) == 1 else { return nil }
        host = text
    }

    /// A socket that is being connected.
    func connect() throws(LoadError) -> Int32 {
        let descriptor = clinux_socket(
            AF_INET,
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .system("socket", errno) }
        var one: Int32 = 1
        unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        let answer = unsafe withUnsafePointer(to: address) {
            unsafe clinux_connect(descriptor, $0, UInt32(MemoryLayout<sockaddr_in>.size))
        }
        guard answer == 0 || errno == EINPROGRESS else {
            let number = errno
            Glibc.close(descriptor)
            throw .system("connect", number)
        }
        return descriptor
    }

    /// A listener on every address.
    static func listen(port: UInt16) throws(LoadError) -> Int32 {
        let descriptor = clinux_socket(
            AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var one: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        guard descriptor >= 0,
            unsafe clinux_bind(descriptor, &address, UInt32(MemoryLayout<sockaddr_in>.size)) == 0,
            Glibc.listen(descriptor, 128) == 0
        else { throw .system("listen", errno) }
        return descriptor
    }

    func request(keeps: Bool) -> [UInt8] {
        Array("GET / HTTP/1.1\r\nHost: \(host)\r\n\(keeps ? "" : "Connection: close\r\n")\r\n".utf8)
    }
}
