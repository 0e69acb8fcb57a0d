"""Starts the program grpc-interop and the certificates that it and its peers use."""

import datetime
import ipaddress
import pathlib
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLIENT_URI = "spiffe://cluster.local/ns/shop/sa/client"


def build():
    """The program, built."""
    subprocess.run(["swift", "build", "--product", "grpc-interop"], cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.run(
        ["swift", "build", "--show-bin-path"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return pathlib.Path(shown.stdout.strip()) / "grpc-interop"


class Server:
    """`grpc-interop MODE` on a port of its own, ended with the `with` statement."""

    def __init__(self, program, mode, tls=None):
        command = [program, mode] + (["--tls", tls] if tls else [])
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.address = f"127.0.0.1:{self.port}"

    def wait_for(self, start):
        """The next line that the server says which begins so."""
        for line in self.process.stdout:
            if line.startswith(start):
                return line.strip()
        raise AssertionError(f"the server ended before it said {start!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def run_client(program, port, scenario, argument=0, tls=None, timeout=60):
    """Plays a scenario to its end: (exit status, lines)."""
    command = [program, "client", str(port), scenario, str(argument)] + (["--tls", tls] if tls else [])
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout.splitlines()


def _write(folder, name, data, key):
    folder.mkdir()
    (folder / "cert.pem").write_bytes(data)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def make_certificates(folder):
    """One root; folders `server` and `client` with what `--tls` wants. Returns the root's PEM."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def builder(subject, issuer, key):
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    root_key = ec.generate_private_key(ec.SECP256R1())
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        builder("root", "root", root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(root_id, critical=False)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = root.public_bytes(serialization.Encoding.PEM)
    names = {
        "server": [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
        "client": [x509.UniformResourceIdentifier(CLIENT_URI)],
    }
    for name, alternative in names.items():
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            builder(name, "root", key)
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
            )
            .sign(root_key, hashes.SHA256())
        )
        _write(folder / name, name, certificate.public_bytes(serialization.Encoding.PEM), key)
        (folder / name / "root.pem").write_bytes(pem)
    return pem
