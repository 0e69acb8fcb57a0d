import Compiler
import Documents
import Linux
import Manifests

/// What a configuration directory amounts to, at one time.
public struct Configuration: Sendable {
    public var store = ObjectStore()
    /// What is wrong with the files as they are now. Where a file had a good state before, that one is in use.
    public var errors: [Problem] = []
    public var warnings: [Problem] = []

    public init() {}
}

/// The files of a directory of manifests, with the last good state of each.
///
/// Files end in `.yaml`, `.yml` or `.json`; those whose names begin with a dot, and everything in folders, are left
/// alone. A file counts as a whole: with one error in it, its last good state stays. One that goes, or becomes empty, is
/// believed gone after `patience`: editors move a file away before they write it anew, and without its policies the mesh
/// would be open meanwhile.
public struct ConfigurationDirectory: Sendable {
    /// Files that are read at most.
    public static let fileLimit = 10_000

    /// How long a file that is gone stays in use.
    public static let patience = Duration.milliseconds(300)

    private struct Entry: Sendable {
        /// As last read: a file that did not change is not parsed again.
        var contents: [UInt8]
        var good: ManifestFile?
        var problems: [Problem]
        /// Since when the file is gone, or empty.
        var missingSince: MonotonicTime?
    }

    public let path: String
    private var entries: [String: Entry] = [:]
    /// The directory itself, when it cannot be read.
    private var failure: Problem?

    public init(_ path: String) {
        self.path = path
    }

    /// A file is gone and still in use: `refresh` has to be called again though nothing happens.
    public var isWaiting: Bool { entries.values.contains { $0.missingSince != nil } }

    /// Reads the directory again.
    ///
    /// - Returns: whether anything is different. A directory that cannot be read changes nothing but the errors: a mesh
    ///   does not end because a disk was unmounted.
    public mutating func refresh(now: MonotonicTime = .now()) -> Bool {
        let names: [String]
        do {
            names = try listDirectory(path).filter(Self.isManifest)
        } catch {
            return fail("\(error)")
        }
        guard names.count <= Self.fileLimit else {
            return fail("\(names.count) files are more than the \(Self.fileLimit) that are read")
        }
        var contents: [String: Result<[UInt8], SystemCallError>] = [:]
        for name in names {
            do {
                contents[name] = .success(try readFile("\(path)/\(name)"))
            } catch {
                // Gone between listing and reading: the next refresh will not list it either.
                if FileKind(of: "\(path)/\(name)") != nil { contents[name] = .failure(error) }
            }
        }
        let hadFailed = failure != nil
        failure = nil
        return apply(contents, now: now) || hadFailed
    }

    /// The pure part: takes up what the files hold now.
    mutating func apply(_ files: [String: Result<[UInt8], SystemCallError>], now: MonotonicTime) -> Bool {
        var files = files
        var isDifferent = false
        for (name, entry) in entries {
            let isMissing =
                switch files[name] {
                case nil: true
                case .success(let bytes): bytes.isEmpty && !entry.contents.isEmpty
                case .failure: false
                }
            guard isMissing else {
                entries[name]?.missingSince = nil
                continue
            }
            let since = entry.missingSince ?? now
            if now < since + Self.patience {
                entries[name]?.missingSince = since
                files[name] = nil
            } else if files[name] == nil {
                entries[name] = nil
                isDifferent = true
            }
        }
        for (name, result) in files {
            let file = "\(path)/\(name)"
            switch result {
            case .failure(let error):
                let problem = Problem(at: Position(file: file), "\(error)")
                guard entries[name]?.problems != [problem] else { continue }
                entries[name] = Entry(contents: [], good: entries[name]?.good, problems: [problem])
            case .success(let bytes):
                if let entry = entries[name], entry.contents == bytes,
                    !entry.contents.isEmpty || entry.good != nil
                {
                    continue
                }
                let parsed = ManifestFile(bytes: bytes, file: file)
                entries[name] = Entry(
                    contents: bytes, good: parsed.hasErrors ? entries[name]?.good : parsed,
                    problems: parsed.problems)
            }
            isDifferent = true
        }
        return isDifferent
    }

    private mutating func fail(_ message: String) -> Bool {
        let problem = Problem(at: Position(file: path), message)
        defer { failure = problem }
        return failure != problem
    }

    public func configuration() -> Configuration {
        var result = Configuration()
        let sorted = entries.sorted { $0.key < $1.key }.map(\.value)
        let conflicts = result.store.merge(sorted.compactMap(\.good))
        let problems = sorted.flatMap(\.problems) + conflicts + (failure.map { [$0] } ?? [])
        result.errors = problems.filter { $0.severity == .error }
        result.warnings = problems.filter { $0.severity == .warning }
        return result
    }

    private static func isManifest(_ name: String) -> Bool {
        !name.hasPrefix(".") && (name.hasSuffix(".yaml") || name.hasSuffix(".yml") || name.hasSuffix(".json"))
    }
}
