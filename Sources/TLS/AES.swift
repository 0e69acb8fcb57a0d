import Synchronization

/// Whose AES-GCM seals and opens the records of every session in this process.
///
/// libipsec-mb's costs half of libcrypto 3.0's a byte where the processor has VAES, VPCLMULQDQ and AVX-512, and about
/// 3.5 MiB of resident memory (its self-test touches most of the library). Elsewhere libcrypto's is used. Where the
/// processor has instructions for AES and carry-less multiplication, neither looks anything up in memory by keys or
/// content.
public enum AES {
    public enum Choice: String, Sendable, CaseIterable {
        /// libipsec-mb where the processor is made for it.
        case auto
        case libcrypto
    }

    public enum Implementation: String, Sendable {
        case ipsecMB = "ipsec-mb"
        case libcrypto
    }

    private struct Selection {
        var choice = Choice.auto
        /// Instructions of the processor that are taken for missing.
        var missing: UInt64 = 0
        var isSettled = false
    }

    private static let selection = Mutex(Selection())

    /// Makes the choice for this process, which must not have used this module before: whatever key it had made
    /// would live with the other implementation.
    public static func use(_ choice: Choice) { use(choice, without: 0) }

    /// As on a processor without some instructions (`IMB_FLAG_…_OFF`).
    static func use(_ choice: Choice, without missing: UInt64) {
        selection.withLock { selection in
            precondition(!selection.isSettled, "AES is in use already")
            (selection.choice, selection.missing) = (choice, missing)
        }
    }

    /// What is used. To ask settles it.
    public static var inUse: Implementation { Library.shared.aes }

    /// Ends the time of choice.
    static func settle() -> FastAES? {
        let selection = selection.withLock { selection in
            selection.isSettled = true
            return selection
        }
        return selection.choice == .libcrypto ? nil : FastAES.find(without: selection.missing)
    }
}
