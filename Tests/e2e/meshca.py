"""A mesh CA of the tests' own: plugged into warren-control, and signing whatever certificate a test wants to try."""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN = "cluster.local"


def pem(thing):
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def spiffe(namespace, account, trust_domain=TRUST_DOMAIN):
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def _host(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class MeshCA:
    """A root and an intermediate under it; the intermediate signs."""

    def __init__(self, organization="warren tests"):
        self.root_key, self.root = self._authority(organization + " root", None, None)
        self.key, self.certificate = self._authority(organization, self.root_key, self.root)

    @staticmethod
    def _authority(name, issuer_key, issuer):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        return key, builder.sign(issuer_key or key, hashes.SHA256())

    def write(self, directory):
        """The four files of Istio's `cacerts`."""
        directory = pathlib.Path(directory)
        directory.mkdir(exist_ok=True)
        (directory / "root-cert.pem").write_bytes(pem(self.root))
        (directory / "ca-cert.pem").write_bytes(pem(self.certificate))
        (directory / "cert-chain.pem").write_bytes(pem(self.certificate) + pem(self.root))
        (directory / "ca-key.pem").touch(mode=0o600)
        (directory / "ca-key.pem").write_bytes(pem(self.key))
        return directory

    def issue(self, *uris, by=None, **options):
        """(key, certificate) of a new key; options as for `sign`."""
        key = ec.generate_private_key(ec.SECP256R1())
        return key, (by or self).sign(key.public_key(), *uris, **options)

    def sign(self, public_key, *uris, begins=-1.0, ends=24.0, usages=("client", "server"), hosts=()):
        """A certificate with these URI and host names, valid between `begins` and `ends` hours from now."""
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.certificate.subject)
            .public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(hours=begins))
            .not_valid_after(now + datetime.timedelta(hours=ends))
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True))
        known = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage([known[usage] for usage in usages]), False)
        if names := [x509.UniformResourceIdentifier(uri) for uri in uris] + [_host(host) for host in hosts]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
        return builder.sign(self.key, hashes.SHA256())

    def files(self, directory, name, *uris, **options):
        """Issues, and writes NAME-key.pem and NAME-chain.pem (leaf and intermediate); their paths."""
        key, certificate = self.issue(*uris, **options)
        signer = options.get("by") or self
        key_file, chain_file = (pathlib.Path(directory) / f"{name}-{part}.pem" for part in ("key", "chain"))
        key_file.write_bytes(pem(key))
        chain_file.write_bytes(pem(certificate) + pem(signer.certificate))
        return key_file, chain_file
