import Foundation
import Glibc
import Linux
import Testing

/// Two namespaces joined by a veth pair, made for one test and gone with it.
///
/// ```
/// pod: 10.98.1.2/24 fd98:1::2/64  ──veth──  peer: 10.98.1.1/24 fd98:1::1/64, and 10.98.9.9 fd98:9::9 on its loopback
/// ```
///
/// The names carry this process's id; what a crashed run left behind is removed before the first lab of the next.
final class NamespaceLab: Sendable {
    static let isRoot = geteuid() == 0
    /// A uid that nobody on the machine has.
    static let daemonUserID: UInt32 = 64_321

    let pod: String
    let peer: String

    private static let sweep: Void = {
        for name in (try? listDirectory("/run/netns")) ?? [] where name.hasPrefix("wcap") {
            let owner = name.dropFirst(4).prefix { $0.isNumber }
            let isAlive = Int32(owner).map { kill($0, 0) == 0 } ?? false
            if !isAlive { _ = try? run("ip", "netns", "del", name) }
        }
    }()

    private static let counter = Counter()

    init(loopbackUp: Bool = true, ipv6: Bool = true) throws {
        Self.sweep
        let number = Self.counter.next()
        pod = "wcap\(getpid())-\(number)p"
        peer = "wcap\(getpid())-\(number)q"
        for name in [pod, peer] {
            try run("ip", "netns", "add", name)
            if !ipv6 { try run(in: name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1") }
            if loopbackUp || name == peer { try run("ip", "-n", name, "link", "set", "lo", "up") }
        }
        try run(
            "ip", "-n", pod, "link", "add", "pod0", "type", "veth", "peer", "name", "peer0", "netns", peer)
        try join(pod, "pod0", "10.98.1.2/24", "fd98:1::2/64", ipv6)
        try join(peer, "peer0", "10.98.1.1/24", "fd98:1::1/64", ipv6)
        try join(peer, "lo", "10.98.9.9/32", "fd98:9::9/128", ipv6)
        try run("ip", "-n", pod, "route", "add", "default", "via", "10.98.1.1")
        if ipv6 { try run("ip", "-n", pod, "-6", "route", "add", "default", "via", "fd98:1::1") }
    }

    deinit {
        for name in [pod, peer] { _ = try? run("ip", "netns", "del", name) }
    }

    private func join(_ name: String, _ link: String, _ ipv4: String, _ ipv6: String, _ hasIPv6: Bool) throws
    {
        try run("ip", "-n", name, "addr", "add", ipv4, "dev", link)
        // Without duplicate detection, which takes a second.
        if hasIPv6 { try run("ip", "-n", name, "addr", "add", ipv6, "dev", link, "nodad") }
        try run("ip", "-n", name, "link", "set", link, "up")
    }

    func namespace() throws -> NetworkNamespace { try NetworkNamespace(pod) }

    /// Everything that nftables, policy routing and the settings of capture hold in the namespace, as the ordinary tools print it.
    func dump(of name: String? = nil) throws -> String {
        let name = name ?? pod
        return try ["-4", "-6"].reduce(into: run(in: name, "nft", "list", "ruleset")) { text, family in
            text += try run("ip", "-n", name, family, "rule")
            text += try run("ip", "-n", name, family, "route", "show", "table", "all")
        } + run(in: name, "sysctl", "-a", "-r", "fwmark_reflect|conf.all.src_valid_mark")
    }

    func behaviour(_ mode: String, _ meanwhile: ((String) throws -> Void)? = nil) throws -> String {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../interop/capture_behaviour.py").path
        return try run(
            "python3", script, pod, peer, String(Self.daemonUserID), mode, meanwhile: meanwhile)
    }
}

/// Numbers for names, from any thread.
final class Counter: @unchecked Sendable {  // The lock guards the only field.
    private let lock = NSLock()
    private var value = 0

    func next() -> Int {
        lock.withLock {
            value += 1
            return value
        }
    }
}

struct CommandFailure: Error {
    let command: [String]
    let output: String
}

/// Runs a program and gives what it prints.
///
/// - Parameter meanwhile: called with the first bytes that the program prints; then a line is written to it.
@discardableResult
func run(_ command: String..., meanwhile: ((String) throws -> Void)? = nil) throws -> String {
    try run(command, meanwhile: meanwhile)
}

@discardableResult
func run(in namespace: String, _ command: String...) throws -> String {
    try run(["ip", "netns", "exec", namespace] + command)
}

@discardableResult
func run(_ command: [String], meanwhile: ((String) throws -> Void)? = nil) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    let (input, output) = (Foundation.Pipe(), Foundation.Pipe())
    process.standardInput = input
    process.standardOutput = output
    process.standardError = output
    try process.run()
    var data = Data()
    if let meanwhile {
        data += output.fileHandleForReading.availableData
        try meanwhile(String(decoding: data, as: UTF8.self))
        try input.fileHandleForWriting.write(contentsOf: Data("\n".utf8))
    }
    try input.fileHandleForWriting.close()
    data += output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let text = String(decoding: data, as: UTF8.self)
    guard process.terminationStatus == 0 else { throw CommandFailure(command: command, output: text) }
    return text
}
