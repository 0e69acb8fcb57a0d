import CLinux
import Glibc

/// Bytes that malloc has handed out and not got back (mallinfo2(3)), large mappings included: for metrics, and for tests of
/// what an idle connection costs.
public func allocatedByteCount() -> Int {
    Int(clamping: clinux_allocated_bytes())
}

/// Bytes that malloc keeps for later (mallinfo2(3)), whether or not the system still backs them with memory.
public func freeByteCount() -> Int {
    Int(clamping: clinux_free_bytes())
}

/// Gives the system back the memory behind what malloc keeps (malloc_trim(3)). Other threads' allocations wait meanwhile,
/// about a millisecond for some 10 MiB.
public func returnFreeMemory() {
    clinux_trim()
}

/// The size of a page of memory.
public let pageByteCount = sysconf(Int32(_SC_PAGESIZE))

/// Gives the system back the memory behind bytes that nobody needs any more (madvise(2), MADV_DONTNEED): what is used again
/// comes back, a page at a time, as zeros. Of the bytes at the ends only whole pages go.
public func releaseContents(_ area: UnsafeMutableRawBufferPointer) {
    guard let start = area.baseAddress else { return }
    let first = unsafe start.alignedUp(toMultipleOf: pageByteCount)
    let end = unsafe (start + area.count).alignedDown(toMultipleOf: pageByteCount)
    guard unsafe first < end else { return }
    _ = unsafe madvise(first, end - first, MADV_DONTNEED)
}

/// Gives up the pages of program text that are in memory because something ran once, as a start does (madvise(2),
/// MADV_DONTNEED). What runs again comes back from the file's cache, at a microsecond for 64 KiB. Text is never written to,
/// so nothing is lost.
public func releaseProgramText() {
    guard let maps = try? readFile("/proc/self/maps") else { return }
    // `55d0a000-55d0b000 r-xp 00000000 fe:01 1234   /path`; the kernel's own, such as [vdso], have no path.
    for line in maps.split(separator: UInt8(ascii: "\n")) where line.contains(UInt8(ascii: "/")) {
        let fields = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
        guard fields.count == 3, fields[1].elementsEqual("r-xp".utf8) else { continue }
        let ends = fields[0].split(separator: UInt8(ascii: "-"))
            .compactMap { UInt(String(decoding: $0, as: UTF8.self), radix: 16) }
        guard ends.count == 2, ends[0] < ends[1] else { continue }
        _ = unsafe madvise(
            UnsafeMutableRawPointer(bitPattern: ends[0]), Int(ends[1] - ends[0]), MADV_DONTNEED)
    }
}
