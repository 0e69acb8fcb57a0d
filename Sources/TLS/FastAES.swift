import CIPSecMB

/// libipsec-mb's AES-GCM, where the processor has the instructions that make it the faster one.
@safe
struct FastAES: @unchecked Sendable {
    // @unchecked: functions without state.
    let aes128: GCMFunctions
    let aes256: GCMFunctions

    /// Asks the library what it makes of this processor. It tests itself by that, with known answers.
    ///
    /// - Parameter flags: instructions to be taken for missing (`IMB_FLAG_…_OFF`).
    /// - Returns: nil where it would not take its VAES code, or has failed its own test.
    static func find(without flags: UInt64 = 0) -> FastAES? {
        guard let manager = unsafe alloc_mb_mgr(flags) else { return nil }
        // Only functions are taken from it, and they need it no more.
        defer { unsafe free_mb_mgr(manager) }
        var architecture = IMB_ARCH_NONE
        unsafe init_mb_mgr_auto(manager, &architecture)
        guard unsafe imb_get_errno(manager) == 0,
            unsafe isFast(architecture, features: manager.pointee.features),
            let aes128 = unsafe GCMFunctions(
                keyByteCount: Int(IMB_GCM_128_KEY_LEN), prepare: manager.pointee.gcm128_pre,
                begin: manager.pointee.gcm128_init, seal: manager.pointee.gcm128_enc_update,
                endSealing: manager.pointee.gcm128_enc_finalize, open: manager.pointee.gcm128_dec_update,
                endOpening: manager.pointee.gcm128_dec_finalize),
            let aes256 = unsafe GCMFunctions(
                keyByteCount: Int(IMB_GCM_256_KEY_LEN), prepare: manager.pointee.gcm256_pre,
                begin: manager.pointee.gcm256_init, seal: manager.pointee.gcm256_enc_update,
                endSealing: manager.pointee.gcm256_enc_finalize, open: manager.pointee.gcm256_dec_update,
                endOpening: manager.pointee.gcm256_dec_finalize)
        else { return nil }
        return FastAES(aes128: aes128, aes256: aes256)
    }

    /// Whether the library takes its VAES code, which is the faster one; its others are not.
    static func isFast(_ architecture: IMB_ARCH, features: UInt64) -> Bool {
        architecture == IMB_ARCH_AVX512 && features & cipsecmb_vaes_features == cipsecmb_vaes_features
    }
}

/// The functions for one length of key.
@safe
struct GCMFunctions {
    let keyByteCount: Int
    let prepare: aes_gcm_pre_t
    let begin: aes_gcm_init_t
    let seal: aes_gcm_enc_dec_update_t
    let endSealing: aes_gcm_enc_dec_finalize_t
    let open: aes_gcm_enc_dec_update_t
    let endOpening: aes_gcm_enc_dec_finalize_t

    init?(
        keyByteCount: Int, prepare: aes_gcm_pre_t?, begin: aes_gcm_init_t?, seal: aes_gcm_enc_dec_update_t?,
        endSealing: aes_gcm_enc_dec_finalize_t?, open: aes_gcm_enc_dec_update_t?,
        endOpening: aes_gcm_enc_dec_finalize_t?
    ) {
        guard let prepare = unsafe prepare, let begin = unsafe begin, let seal = unsafe seal,
            let endSealing = unsafe endSealing, let open = unsafe open, let endOpening = unsafe endOpening
        else { return nil }
        self.keyByteCount = keyByteCount
        unsafe self.prepare = unsafe prepare
        unsafe self.begin = unsafe begin
        unsafe self.seal = unsafe seal
        unsafe self.endSealing = unsafe endSealing
        unsafe self.open = unsafe open
        unsafe self.endOpening = unsafe endOpening
    }
}
