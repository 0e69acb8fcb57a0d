import Linux

/// A switch of a network namespace that capture without connection tracking needs on.
public struct KernelSetting: Hashable, Sendable, CustomStringConvertible {
    /// As sysctl(8) writes it, without `net.`.
    public let name: String

    public var description: String { "net.\(name)" }

    /// The check of sources looks at marks: else it would take the routes of what the workload sends for those of what
    /// arrives, and drop every connection from elsewhere.
    static let sourceCheckSeesMarks = KernelSetting(name: "ipv4.conf.all.src_valid_mark")

    /// Answers that the kernel gives without a socket carry the mark of what they answer.
    static func answersKeepMarks(_ family: Family) -> KernelSetting {
        KernelSetting(name: "\(family).fwmark_reflect")
    }

    static let all = [sourceCheckSeesMarks, answersKeepMarks(.ipv4), answersKeepMarks(.ipv6)]

    /// What we switch on with. Any number but 0 is "on" to the kernel; this one says who did it, so that leaving switches off
    /// what was off before, and nothing else.
    private static let ours = "\(routingOrigin)"

    private var path: String { "/proc/sys/net/" + String(name.map { $0 == "." ? "/" : $0 }) }

    /// In the namespace of the thread, as the others; nil where the kernel has no such setting.
    private var value: String? {
        (try? readFile(path, limit: 32)).map { bytes in
            String(decoding: bytes.prefix { $0 > UInt8(ascii: " ") }, as: UTF8.self)
        }
    }

    var isOn: Bool { value.map { $0 != "0" } ?? false }

    func switchOn() throws(CaptureError) {
        if !isOn { try write(Self.ours) }
    }

    /// Puts back what `switchOn` changed.
    func restore() throws(CaptureError) {
        if value == Self.ours { try write("0") }
    }

    private func write(_ text: String) throws(CaptureError) {
        do throws(SystemCallError) {
            try writeKernelSetting(path, text)
        } catch {
            throw .refused(.changeSetting, object: description, number: error.number, detail: nil)
        }
    }
}
