import CLinux
import Glibc

/// Tells that something in a set of directories changed (inotify(7)).
///
/// It says *that*, not *what*: a reader that re-reads the directory is right after lost events, renames and overflows too.
public struct DirectoryWatch: ~Copyable, Sendable, EventSource {
    private let descriptor: Descriptor

    public init() throws(SystemCallError) {
        let number = try systemCall("inotify_init1", on: "directory watch") {
            inotify_init1(Int32(O_CLOEXEC | O_NONBLOCK))
        }
        descriptor = Descriptor(owning: number)
    }

    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }

    /// Watches one directory, not its children. Adding it again changes nothing.
    public func add(_ directory: String) throws(SystemCallError) {
        let mask = UInt32(
            IN_CREATE | IN_DELETE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF
                | IN_MOVE_SELF | IN_ONLYDIR)
        try systemCall("inotify_add_watch", on: directory) {
            unsafe inotify_add_watch(descriptor.number, directory, mask)
        }
    }

    /// Takes all waiting notices; true when there was at least one.
    public func drain() -> Bool {
        var changed = false
        unsafe withUnsafeTemporaryAllocation(byteCount: 16_384, alignment: 8) { buffer in
            while unsafe read(descriptor.number, buffer.baseAddress, buffer.count) > 0 { changed = true }
        }
        return changed
    }

    /// Blocks the calling thread until something changes or the time is over; takes the notices.
    public func wait(milliseconds: Int32) -> Bool {
        DescriptorReference(number: descriptor.number).isReadable(within: milliseconds) && drain()
    }
}
