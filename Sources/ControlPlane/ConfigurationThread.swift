import Compiler
import Documents
import Linux
import Log
import Synchronization

/// A configuration that was compiled and encoded: what the serving loop takes over.
public struct CompiledConfiguration: Sendable {
    public let publication: Publication
    /// Counts changes, from 1.
    public let generation: Int
    public let loadedAt: WallClock
    public let objectCount: Int
    public let errors: [Problem]
    public let warnings: [Problem]
}

/// A directory on its way to what proxies are sent. Keeps what it made before, to reuse what did not change.
public struct ConfigurationCompiler: Sendable {
    private var directory: ConfigurationDirectory
    private let environment: Environment
    private var publication = Publication()
    private var generation = 0

    public var path: String { directory.path }

    /// See `ConfigurationDirectory.isWaiting`.
    public var isWaiting: Bool { directory.isWaiting }

    public init(directory: String, _ environment: Environment) {
        self.directory = ConfigurationDirectory(directory)
        self.environment = environment
    }

    /// Reads the directory again and compiles it; nil when nothing changed.
    public mutating func refresh() -> CompiledConfiguration? {
        guard directory.refresh() || generation == 0 else { return nil }
        let configuration = directory.configuration()
        publication = publication.next(compile(configuration.store, in: environment))
        generation += 1
        return CompiledConfiguration(
            publication: publication, generation: generation, loadedAt: .now(),
            objectCount: configuration.store.objects.count, errors: configuration.errors,
            warnings: configuration.warnings + publication.resources.warnings)
    }
}

/// The thread that watches the configuration directory, compiles what it finds and hands it over.
///
/// Off the loops, so that neither a slow disk nor a large compilation delays an answer to a proxy.
public final class ConfigurationThread: Sendable {
    private final class Flag: Sendable {
        let value = Atomic(false)
    }

    /// How long the thread sleeps at most, in milliseconds: what `stop` may take.
    private static let pollInterval: Int32 = 250
    /// Without any notice the directory is read all the same, every so many sleeps: a notice is never the only hope.
    /// (Behind links, and on some file systems, none comes.)
    private static let sleepsBetweenReads = 8
    /// Editors and package managers change files in several steps: wait for this many milliseconds of quiet.
    private static let quietTime: Int32 = 50

    private let thread: Thread
    private let isStopping: Flag

    private init(_ thread: Thread, _ isStopping: Flag) {
        self.thread = thread
        self.isStopping = isStopping
    }

    /// - Parameters:
    ///   - compiler: has compiled the first state already.
    ///   - publish: called on the thread with every later one.
    public static func start(
        _ compiler: ConfigurationCompiler, publish: @escaping @Sendable (CompiledConfiguration) -> Void
    ) throws(SystemCallError) -> ConfigurationThread {
        let flag = Flag()
        let thread = try Thread.start(name: "configuration") { run(compiler, flag, publish) }
        return ConfigurationThread(thread, flag)
    }

    /// Ends the thread and waits for it.
    public func stop() {
        isStopping.value.store(true, ordering: .relaxed)
        thread.join()
    }

    private static func run(
        _ start: ConfigurationCompiler, _ isStopping: Flag, _ publish: (CompiledConfiguration) -> Void
    ) {
        let logger = Logger(scope: "configuration")
        var compiler = start
        let watch: DirectoryWatch
        do {
            watch = try DirectoryWatch()
        } catch {
            logger.error("cannot watch the configuration; restart to apply changes", ["error": error])
            return
        }
        follow(compiler.path, watch)
        var sleeps = 0
        while !isStopping.value.load(ordering: .relaxed) {
            let hasNotice = watch.wait(milliseconds: pollInterval)
            sleeps = hasNotice ? 0 : sleeps + 1
            guard hasNotice || compiler.isWaiting || sleeps >= sleepsBetweenReads else { continue }
            sleeps = 0
            // At most ten times: somebody who writes without a pause is read in between.
            if hasNotice { for _ in 0..<10 where !watch.wait(milliseconds: quietTime) { break } }
            follow(compiler.path, watch)
            if let compiled = compiler.refresh() { publish(compiled) }
        }
    }

    /// Watches the directory, and where that is a link also what the link lies in, for it may be pointed elsewhere.
    /// What is watched already is not watched twice.
    private static func follow(_ path: String, _ watch: borrowing DirectoryWatch) {
        try? watch.add(path)
        if FileKind(of: path) == .link { try? watch.add(parentDirectory(of: path)) }
    }
}
