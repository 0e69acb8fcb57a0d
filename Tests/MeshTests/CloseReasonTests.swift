import Mesh
import Testing

struct CloseReasonTests {
    @Test func `a connection that has yet to end keeps a word for why it will`() {
        #expect(MemoryLayout<CloseReason?>.size == MemoryLayout<Int>.size)
    }
}
