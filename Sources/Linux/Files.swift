import CLinux
import Glibc

/// What is at a path, symbolic links not followed.
public enum FileKind: Equatable, Sendable {
    case file, directory, socket, link, other

    /// nil when nothing is there, or it cannot be seen.
    public init?(of path: String) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return nil }
        switch status.st_mode & S_IFMT {
        case S_IFREG: self = .file
        case S_IFDIR: self = .directory
        case S_IFSOCK: self = .socket
        case S_IFLNK: self = .link
        default: self = .other
        }
    }
}

/// Reads a whole file.
///
/// - Throws: EFBIG for one that holds more than `limit` bytes.
public func readFile(_ path: String, limit: Int = 16 << 20) throws(SystemCallError) -> [UInt8] {
    let number = try systemCall("open", on: path) { unsafe clinux_open(path, O_RDONLY, 0) }
    let descriptor = Descriptor(owning: number)
    var contents: [UInt8] = []
    while true {
        let room = min(65_536, limit - contents.count + 1)
        let (chunk, failure) = readChunk(descriptor.number, room)
        if failure != 0 { throw SystemCallError(call: "read", subject: path, number: failure) }
        if chunk.isEmpty { return contents }
        contents += chunk
        if contents.count > limit { throw SystemCallError(call: "read", subject: path, number: EFBIG) }
    }
}

private func readChunk(_ number: Int32, _ room: Int) -> ([UInt8], Int32) {
    var failure: Int32 = 0
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, filled in
        while true {
            let count = unsafe read(number, buffer.baseAddress, room)
            if count < 0, errno == EINTR { continue }
            failure = count < 0 ? errno : 0
            filled = max(0, count)
            return
        }
    }
    return (bytes, failure)
}

/// Replaces a file as a whole: after a crash it holds either the old contents or the new.
///
/// Written beside it with `mode` from the first byte, flushed to the disk, then renamed.
public func writeFileAtomically(
    _ path: String, _ bytes: [UInt8], mode: UInt32 = 0o600
) throws(SystemCallError) {
    let suffix = randomBytes(6).map { String($0, radix: 16) }.joined()
    let temporary = "\(path).\(suffix).tmp"
    let number = try systemCall("open", on: temporary) {
        unsafe clinux_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode)
    }
    let descriptor = Descriptor(owning: number)
    do throws(SystemCallError) {
        // The umask may have taken bits away.
        try systemCall("fchmod", on: temporary) { fchmod(descriptor.number, mode_t(mode)) }
        try writeAll(descriptor.number, bytes, temporary)
        try systemCall("fsync", on: temporary) { fsync(descriptor.number) }
        try systemCall("rename", on: path) { unsafe rename(temporary, path) }
    } catch {
        unsafe unlink(temporary)
        throw error
    }
    // The rename itself survives a crash once the directory is on the disk.
    let directory = parentDirectory(of: path)
    let parent = unsafe clinux_open(directory, O_RDONLY | O_DIRECTORY, 0)
    if parent >= 0 {
        _ = fsync(parent)
        close(parent)
    }
}

func writeAll(_ number: Int32, _ bytes: [UInt8], _ path: String) throws(SystemCallError) {
    var written = 0
    while written < bytes.count {
        let count = unsafe bytes.withUnsafeBytes { all in
            unsafe write(number, all.baseAddress.map { unsafe $0 + written }, all.count - written)
        }
        if count >= 0 {
            written += count
        } else if errno != EINTR {
            throw SystemCallError(call: "write", subject: path, number: errno)
        }
    }
}

/// Removes a file; one that is not there is no error.
public func removeFile(_ path: String) throws(SystemCallError) {
    guard unsafe unlink(path) != 0, errno != ENOENT else { return }
    throw SystemCallError(call: "unlink", subject: path, number: errno)
}

/// Removes a directory with everything in it, links themselves and not what they point to; one that is not there is no
/// error.
public func removeDirectory(_ path: String) throws(SystemCallError) {
    guard FileKind(of: path) != nil else { return }
    for name in try listDirectory(path) {
        let entry = "\(path)/\(name)"
        if FileKind(of: entry) == .directory { try removeDirectory(entry) } else { try removeFile(entry) }
    }
    guard unsafe rmdir(path) != 0, errno != ENOENT else { return }
    throw SystemCallError(call: "rmdir", subject: path, number: errno)
}

/// Makes a directory with its parents; one that is there already is no error and keeps its mode.
public func makeDirectory(_ path: String, mode: UInt32 = 0o700) throws(SystemCallError) {
    if unsafe mkdir(path, mode_t(mode)) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, parentDirectory(of: path) != path else {
        throw SystemCallError(call: "mkdir", subject: path, number: errno)
    }
    try makeDirectory(parentDirectory(of: path), mode: mode)
    guard unsafe mkdir(path, mode_t(mode)) == 0 || errno == EEXIST else {
        throw SystemCallError(call: "mkdir", subject: path, number: errno)
    }
}

/// Gives a file or directory to another user; a symbolic link itself, not what it leads to. Needs CAP_CHOWN.
public func changeOwner(of path: String, uid: UInt32, gid: UInt32) throws(SystemCallError) {
    try systemCall("lchown", on: path) { unsafe lchown(path, uid, gid) }
}

/// Sets the permission bits of a file or directory.
public func changeMode(of path: String, to mode: UInt32) throws(SystemCallError) {
    try systemCall("chmod", on: path) { unsafe chmod(path, mode_t(mode)) }
}

/// The names in a directory, sorted, without `.` and `..`.
public func listDirectory(_ path: String) throws(SystemCallError) -> [String] {
    guard let directory = unsafe opendir(path) else {
        throw SystemCallError(call: "opendir", subject: path, number: errno)
    }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
        let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// What `path` lies in: `/a/b` gives `/a`, `b` gives `.`.
public func parentDirectory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.utf8.startIndex ? "/" : String(path[..<slash])
}

/// A name without a slash that stays in its directory.
public func isPlainFileName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains { $0 == UInt8(ascii: "/") || $0 == 0 }
}

/// Writes a file under /proc/sys in one call, as the kernel wants it.
public func writeKernelSetting(_ path: String, _ text: String) throws(SystemCallError) {
    let number = try systemCall("open", on: path) { unsafe clinux_open(path, O_WRONLY, 0) }
    let descriptor = Descriptor(owning: number)
    let bytes = Array(text.utf8)
    try systemCall("write", on: path) {
        unsafe bytes.withUnsafeBytes {
            unsafe Int32(truncatingIfNeeded: write(descriptor.number, $0.baseAddress, $0.count))
        }
    }
}
