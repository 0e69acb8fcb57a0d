import COpenSSL

@testable import TLS

/// Certificates that our authority does not make, signed by it all the same: what a hostile or odd peer may bring.
enum Foreign {
    /// A workload's chain whose leaf has these URI names.
    static func leaf(_ realm: Realm, uris: [String]) throws -> CertificateBundle {
        let key = try PrivateKey.generate()
        let names = uris.map { "URI:\($0)" }.joined(separator: ",")
        let certificate = try sign(
            realm, key,
            [
                (NID_basic_constraints, "critical,CA:FALSE"), (NID_ext_key_usage, "serverAuth,clientAuth"),
                (NID_subject_alt_name, "critical," + names),
            ])
        return try CertificateBundle(key: key, chain: [certificate])
    }

    static func intermediate(_ realm: Realm, _ key: PrivateKey) throws -> Certificate {
        try sign(
            realm, key,
            [(NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign,cRLSign")],
            subject: "intermediate")
    }

    private static func sign(
        _ realm: Realm, _ key: PrivateKey, _ extensions: [(Int32, String)], subject: String? = nil
    ) throws -> Certificate {
        let issuer = unsafe realm.authority.certificate.handle.pointer
        let draft = unsafe X509_new_ex(Library.shared.context, nil)
        defer { unsafe X509_free(draft) }
        unsafe X509_set_version(draft, 2)
        unsafe ASN1_INTEGER_set(X509_get_serialNumber(draft), 77)
        unsafe X509_gmtime_adj(X509_getm_notBefore(draft), -60)
        unsafe X509_gmtime_adj(X509_getm_notAfter(draft), 3600)
        unsafe X509_set_pubkey(draft, key.handle.pointer)
        unsafe X509_set_issuer_name(draft, X509_get_subject_name(issuer))
        if let subject {
            let isNamed = unsafe X509_NAME_add_entry_by_txt(
                X509_get_subject_name(draft), "CN", MBSTRING_UTF8, Array(subject.utf8),
                Int32(subject.utf8.count), -1, 0)
            precondition(isNamed == 1, "the name was not taken")
        }
        for (kind, value) in extensions {
            let made = unsafe X509V3_EXT_conf_nid(nil, nil, kind, value)
            unsafe X509_add_ext(draft, made, -1)
            unsafe X509_EXTENSION_free(made)
        }
        unsafe X509_sign(draft, realm.authority.key.handle.pointer, EVP_sha256())
        return try Certificate(der: unsafe encoded { unsafe i2d_X509(draft, $0) })
    }

    /// A revocation list of the realm's authority.
    static func revocations(_ realm: Realm, of certificates: [Certificate], signedBy key: PrivateKey? = nil)
        throws
        -> RevocationList
    {
        let list = unsafe X509_CRL_new_ex(Library.shared.context, nil)
        defer { unsafe X509_CRL_free(list) }
        unsafe X509_CRL_set_version(list, 1)
        unsafe X509_CRL_set_issuer_name(
            list, X509_get_subject_name(realm.authority.certificate.handle.pointer))
        let time = unsafe X509_gmtime_adj(nil, -3600)
        defer { unsafe ASN1_TIME_free(time) }
        unsafe X509_CRL_set1_lastUpdate(list, time)
        // Already past: an old list still revokes.
        unsafe X509_CRL_set1_nextUpdate(list, time)
        for certificate in certificates {
            let entry = unsafe X509_REVOKED_new()
            unsafe X509_REVOKED_set_serialNumber(
                entry, X509_get_serialNumber(certificate.handle.pointer))
            unsafe X509_REVOKED_set_revocationDate(entry, time)
            unsafe X509_CRL_add0_revoked(list, entry)
        }
        unsafe X509_CRL_sort(list)
        unsafe X509_CRL_sign(list, (key ?? realm.authority.key).handle.pointer, EVP_sha256())
        return try RevocationList(der: [unsafe encoded { unsafe i2d_X509_CRL(list, $0) }])
    }
}
