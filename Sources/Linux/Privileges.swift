import CLinux
import Glibc

/// A capability that Warren's programs hold (capabilities(7)).
public enum Capability: Int, Sendable, CaseIterable {
    case setGID = 6
    case setUID = 7
    case netBindService = 10
    case netAdmin = 12
    case netRaw = 13
    case sysPtrace = 19
    case sysAdmin = 21

    var bit: UInt64 { 1 << UInt64(rawValue) }
}

public enum Privileges {
    public static var isRoot: Bool { geteuid() == 0 }
    public static var userID: UInt32 { geteuid() }

    /// Whether the process may use a capability now.
    public static func has(_ capability: Capability) -> Bool {
        var (effective, permitted, inheritable): (UInt64, UInt64, UInt64) = (0, 0, 0)
        guard unsafe clinux_capget(&effective, &permitted, &inheritable) == 0 else { return false }
        return effective & capability.bit != 0
    }

    /// Becomes another user for good, with these capabilities and no others.
    ///
    /// Call it before threads are started: capabilities are each thread's own, and only new threads inherit them.
    ///
    /// - Throws: also when the process could still become root afterwards, or lacks a capability it asked to keep.
    public static func become(
        uid: UInt32, gid: UInt32, keeping capabilities: [Capability] = []
    ) throws(SystemCallError) {
        let kept = capabilities.reduce(0 as UInt64) { $0 | $1.bit }
        try systemCall("prctl", on: "PR_SET_KEEPCAPS") { clinux_prctl(8, kept == 0 ? 0 : 1, 0, 0, 0) }
        try systemCall("setgroups", on: "no groups") { clinux_setgroups_none() }
        try systemCall("setresgid", on: "\(gid)") { clinux_setresgid(gid, gid, gid) }
        try systemCall("setresuid", on: "\(uid)") { clinux_setresuid(uid, uid, uid) }
        try systemCall("capset", on: "\(capabilities)") { clinux_capset(kept, kept, 0) }
        try systemCall("prctl", on: "PR_SET_NO_NEW_PRIVS") { clinux_prctl(38, 1, 0, 0, 0) }
        // The kernel makes the process undumpable when it changes identity, and /proc/self/ns/net unreadable with it.
        try systemCall("prctl", on: "PR_SET_DUMPABLE") { clinux_prctl(4, 1, 0, 0, 0) }
        var (effective, permitted, inheritable): (UInt64, UInt64, UInt64) = (0, 0, 0)
        try systemCall("capget", on: "self") { unsafe clinux_capget(&effective, &permitted, &inheritable) }
        let mayReturn = uid != 0 && clinux_setresuid(0, 0, 0) == 0
        guard effective == kept, permitted == kept, geteuid() == uid, getegid() == gid, !mayReturn else {
            throw SystemCallError(call: "capset", subject: "privileges after becoming \(uid)", number: EPERM)
        }
    }

    /// Raises the soft limit on open descriptors to the hard one.
    ///
    /// - Returns: how many descriptors the process may now hold.
    @discardableResult
    public static func raiseDescriptorLimit() -> Int {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(rlimitDescriptors), &limit) == 0 else { return 1024 }
        limit.rlim_cur = limit.rlim_max
        _ = unsafe setrlimit(__rlimit_resource_t(rlimitDescriptors), &limit)
        _ = unsafe getrlimit(__rlimit_resource_t(rlimitDescriptors), &limit)
        return Int(clamping: limit.rlim_cur)
    }

    /// The kernel ends this process with SIGTERM when the one that started it ends.
    public static func endWithParent() {
        _ = clinux_prctl(1, UInt(Signal.terminate.rawValue), 0, 0, 0)
    }
}

private let rlimitDescriptors = 7
