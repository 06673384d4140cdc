"""TLS with a certificate authority of our own: the store opens only where the server proves who it is."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from codegen.postgres import BundledServer, PostgresUnavailable, database, restartable_server
from tests.integration.store.conftest import Desk
from tests.postgres_servers import make_store, unavailable
from tradegw.errors import StoreUnavailable
from tradegw.store.postgres import open_postgres


class Authority:
    """Signs certificates of servers."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file.stem)])
        own = self._sign(
            self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def certify(self, address: str) -> tuple[bytes, bytes]:
        """Return a server's certificate and key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = self._sign(name, key, names, critical=False)
        return (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        *,
        critical: bool,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        day = dt.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(extension, critical=critical)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def server() -> Iterator[BundledServer]:
    try:
        with restartable_server(with_tls=True) as started:
            yield started
    except PostgresUnavailable as e:
        unavailable("Postgres with TLS", e)


def prove_with(server: BundledServer, authority: Authority, address: str) -> None:
    """Have the server speak TLS, and show this from the next connection on."""
    owner = server.directory.stat()
    for name, text in zip(("server.crt", "server.key"), authority.certify(address), strict=True):
        file = server.directory / "data" / name
        file.write_bytes(text)
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
    server.stop()
    with (server.directory / "data" / "postgresql.conf").open("a") as conf:
        conf.write("ssl = on\n")
    server.start()


async def test_a_store_opens_only_where_the_server_proves_who_it_is(
    server: BundledServer, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path / "ours.pem"), Authority(tmp_path / "others.pem")
    prove_with(server, authority, "127.0.0.1")
    with database(server.url) as url:
        make_store(url)
        verified = f"{url}?sslmode=verify-full&sslrootcert="
        store = await open_postgres(f"{verified}{authority.file}")
        await (await Desk.open(store)).place("c1")
        with psycopg.connect(url) as admin:
            row = admin.execute(
                "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                "WHERE application_name LIKE 'tradegw %'"
            ).fetchone()
        assert row is not None
        assert row[0] is True
        assert row[1] >= 2
        await store.close()
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await open_postgres(f"{verified}{other.file}")
        prove_with(server, authority, "127.0.0.2")
        with pytest.raises(StoreUnavailable, match="does not match host name"):
            await open_postgres(f"{verified}{authority.file}")
