import CLinux
import Glibc

extension Socket {
    /// Whether the kernel has a TCP congestion control of this name, and lets us use it in the namespace that the thread is
    /// in. A module that has it is loaded, where the thread may do that.
    public static func hasCongestionControl(_ name: String) throws(SystemCallError) -> Bool {
        let number = try systemCall("socket", on: name) {
            clinux_socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        }
        return Socket(owning: Descriptor(owning: number)).setCongestionControl(firstOf: [name]) != nil
    }

    /// By which TCP congestion control the socket sends (TCP_CONGESTION, tcp(7)); empty where there is none.
    public var congestionControl: String {
        var name = [UInt8](repeating: 0, count: 16)
        var length = UInt32(name.count)
        guard unsafe getsockopt(descriptor.number, Int32(IPPROTO_TCP), TCP_CONGESTION, &name, &length) == 0
        else { return "" }
        return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// Sends by the first of several congestion controls that can be had. A listener's is inherited by what it accepts.
    ///
    /// What is not in `net.ipv4.tcp_allowed_congestion_control` takes CAP_NET_ADMIN.
    ///
    /// - Returns: which it is; nil when none can be had, and nothing has changed.
    @discardableResult
    public func setCongestionControl(firstOf names: [String]) -> String? {
        names.first { name in
            var name = name
            return name.withUTF8 { text in
                unsafe setsockopt(
                    descriptor.number, Int32(IPPROTO_TCP), TCP_CONGESTION, text.baseAddress,
                    UInt32(text.count))
                    == 0
            }
        }
    }

    /// The shortest time in which the peer has acknowledged anything, or asked for, lately (TCP_INFO); nil when that is
    /// not known.
    public var shortestRoundTrip: Duration? {
        let microseconds = clinux_tcp_min_rtt(descriptor.number)
        return microseconds == .max ? nil : .microseconds(microseconds)
    }
}
