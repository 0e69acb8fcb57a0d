import Compiler
import ControlPlane
import Glibc
import Linux
import Synchronization
import Testing

/// A directory that is removed with its owner.
final class TemporaryDirectory {
    let path: String

    init() throws {
        path = "/tmp/warren-control-" + randomBytes(6).map { String($0, radix: 16) }.joined()
        try makeDirectory(path)
    }

    deinit {
        Self.remove(path)
    }

    private static func remove(_ path: String) {
        for name in (try? listDirectory(path)) ?? [] {
            if FileKind(of: "\(path)/\(name)") == .directory {
                remove("\(path)/\(name)")
            } else {
                try? removeFile("\(path)/\(name)")
            }
        }
        _ = unsafe rmdir(path)
    }

    func write(_ name: String, _ text: String) throws {
        try writeFileAtomically("\(path)/\(name)", Array(text.utf8), mode: 0o644)
    }
}

struct ConfigurationDirectoryTests {
    static func namespace(_ name: String) -> String {
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: \(name)}\n"
    }

    static func names(_ directory: ConfigurationDirectory) -> [String] {
        directory.configuration().store.objects.keys.map(\.name).sorted()
    }

    @Test func `reads manifests and nothing else`() throws {
        let folder = try TemporaryDirectory()
        for name in ["a.yaml", "b.yml", ".hidden.yaml", "c.yaml~", "d.txt", ".e.yaml.swp"] {
            try folder.write(name, Self.namespace(String(name.filter(\.isLetter))))
        }
        try makeDirectory("\(folder.path)/folder.yaml.d")
        var directory = ConfigurationDirectory(folder.path)
        var isDifferent = directory.refresh()
        #expect(isDifferent)
        #expect(Self.names(directory) == ["ayaml", "byml"])
        isDifferent = directory.refresh()
        #expect(!isDifferent)
    }

    @Test func `a broken file keeps its last good state and says where it is broken`() throws {
        let folder = try TemporaryDirectory()
        try folder.write("a.yaml", Self.namespace("one"))
        try folder.write("b.yaml", Self.namespace("two"))
        var directory = ConfigurationDirectory(folder.path)
        var isDifferent = directory.refresh()
        #expect(isDifferent)
        try folder.write("a.yaml", Self.namespace("three") + "---\nkind: [")
        isDifferent = directory.refresh()
        #expect(isDifferent)
        #expect(Self.names(directory) == ["one", "two"])
        #expect(
            directory.configuration().errors.map(\.position.description).first?.hasPrefix(
                "\(folder.path)/a.yaml:") == true)
        isDifferent = directory.refresh()
        #expect(!isDifferent)
        try folder.write("a.yaml", Self.namespace("three"))
        isDifferent = directory.refresh()
        #expect(isDifferent)
        #expect(Self.names(directory) == ["three", "two"])
        #expect(directory.configuration().errors.isEmpty)
    }

    /// As vim does it: away with the old, then the new one; and as `cat >` does it, which empties the file first.
    @Test(arguments: [true, false])
    func `a file that is gone for a moment stays in use until it is back`(isRemoved: Bool) throws {
        let folder = try TemporaryDirectory()
        try folder.write("a.yaml", Self.namespace("one"))
        try folder.write("b.yaml", Self.namespace("two"))
        var directory = ConfigurationDirectory(folder.path)
        let start = MonotonicTime.now()
        _ = directory.refresh(now: start)
        if isRemoved { try removeFile("\(folder.path)/a.yaml") } else { try folder.write("a.yaml", "") }
        var isDifferent = directory.refresh(now: start)
        #expect(!isDifferent && directory.isWaiting)
        #expect(Self.names(directory) == ["one", "two"])
        try folder.write("a.yaml", Self.namespace("three"))
        isDifferent = directory.refresh(now: start + ConfigurationDirectory.patience)
        #expect(isDifferent && !directory.isWaiting)
        #expect(Self.names(directory) == ["three", "two"])
    }

    @Test(arguments: [true, false])
    func `a file that stays away is believed gone`(isRemoved: Bool) throws {
        let folder = try TemporaryDirectory()
        try folder.write("a.yaml", Self.namespace("one"))
        var directory = ConfigurationDirectory(folder.path)
        let start = MonotonicTime.now()
        _ = directory.refresh(now: start)
        if isRemoved { try removeFile("\(folder.path)/a.yaml") } else { try folder.write("a.yaml", "") }
        _ = directory.refresh(now: start)
        let isDifferent = directory.refresh(now: start + ConfigurationDirectory.patience)
        #expect(isDifferent && !directory.isWaiting)
        #expect(Self.names(directory).isEmpty)
    }

    @Test func `a directory that cannot be read takes nothing away`() throws {
        let folder = try TemporaryDirectory()
        try makeDirectory("\(folder.path)/x")
        try writeFileAtomically("\(folder.path)/x/a.yaml", Array(Self.namespace("one").utf8))
        var directory = ConfigurationDirectory("\(folder.path)/x")
        var isDifferent = directory.refresh()
        #expect(isDifferent)
        try removeFile("\(folder.path)/x/a.yaml")
        let failure = unsafe rmdir("\(folder.path)/x")
        #expect(failure == 0)
        isDifferent = directory.refresh()
        #expect(isDifferent)
        #expect(Self.names(directory) == ["one"])
        #expect(directory.configuration().errors.count == 1)
        isDifferent = directory.refresh()
        #expect(!isDifferent)
    }

    @Test func `a change is published without anybody asking for it`() throws {
        let folder = try TemporaryDirectory()
        try folder.write("a.yaml", Self.namespace("one"))
        var compiler = ConfigurationCompiler(directory: folder.path, Environment())
        let compiled = compiler.refresh()
        let first = try #require(compiled)
        #expect(first.generation == 1 && first.objectCount == 1)
        let latest = Latest()
        let thread = try ConfigurationThread.start(compiler) { compiled in latest.set(compiled.objectCount) }
        defer { thread.stop() }
        try folder.write("b.yaml", Self.namespace("two"))
        #expect(latest.wait(for: 2))
        try folder.write("c.yaml", Self.namespace("three"))
        #expect(latest.wait(for: 3))
        try removeFile("\(folder.path)/c.yaml")
        #expect(latest.wait(for: 2))
    }
}

/// The latest number that another thread told.
private final class Latest: Sendable {
    private let value = Atomic(0)

    func set(_ number: Int) { value.store(number, ordering: .sequentiallyConsistent) }

    /// Waits for `number`, a minute at most.
    func wait(for number: Int) -> Bool {
        let deadline = MonotonicTime.now() + .seconds(60)
        while MonotonicTime.now() < deadline {
            if value.load(ordering: .sequentiallyConsistent) == number { return true }
            poll(nil, 0, 5)
        }
        return false
    }
}
