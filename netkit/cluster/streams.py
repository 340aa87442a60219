"""Connect python-ovs by `ssl:` with our certificates, and keep the reason of a failure.

python-ovs itself keeps the reason to itself, raises where a file cannot be read, and spins while a
server is slow to answer the handshake.
"""

from __future__ import annotations

import errno
import ssl
from typing import Any, ClassVar

import ovs.stream

from netkit.cluster.tls import Certificates, why
from netkit.errors import KernelError


class TlsStream(ovs.stream.SSLStream):  # type: ignore[misc]
    """One connection; made by python-ovs, which knows it by the name `ssl`."""

    trouble: ClassVar[str] = ""  # why the last attempt in this process failed; "" when it did not

    @staticmethod
    def _open(suffix: str, dscp: int) -> tuple[int, Any]:
        try:
            opened: tuple[int, Any] = ovs.stream.SSLStream._open(suffix, dscp)
        except (OSError, ValueError) as error:  # files that are just being replaced
            return _failed(error), None
        return opened

    @staticmethod
    def check_connection_completion(sock: ssl.SSLSocket) -> int:
        done: int = ovs.stream.SSLStream.check_connection_completion(sock)
        if done not in {0, errno.EAGAIN, errno.EINPROGRESS}:
            TlsStream.trouble = ""  # it is not TLS that fails
        return done

    def connect(self) -> int:
        done: int = ovs.stream.Stream.connect(self)
        if done:
            return done
        try:
            self.socket.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return errno.EAGAIN
        except OSError as error:
            return _failed(error)
        return 0

    def recv(self, n: int) -> tuple[int, bytes | str]:
        try:
            got: tuple[int, bytes | str] = self._recv(n)
        except ssl.SSLWantReadError:
            return errno.EAGAIN, ""
        except ssl.SSLZeroReturnError:
            return 0, ""
        except OSError as error:  # with TLS 1.3 a certificate is refused only now
            return _failed(error), ""
        if got[1]:
            TlsStream.trouble = ""
        return got

    def wait(self, poller: Any, wait: int) -> None:
        if self.socket.version() is None:  # it is the server's turn
            wait = self.W_RECV
        elif wait == self.W_RECV and self.socket.pending():
            poller.immediate_wake()  # what is decrypted already, poll(2) does not know of
        super().wait(poller, wait)


def enable(certificates: Certificates) -> None:
    """Enable `ssl:` in this process, with these certificates.

    KernelError where python-ovs lacks it, InvalidSpec names the file that does not do.
    """
    if not ovs.stream.Stream.is_valid_name("ssl:"):
        raise KernelError(
            "the Open vSwitch library of this Python is without SSL, which --cluster-tls-cert "
            "needs: use a Python with the module ssl, and ovs from PyPI"
        )
    certificates.load()
    stream = ovs.stream.Stream
    stream.ssl_set_ca_cert_file(str(certificates.ca))
    stream.ssl_set_certificate_file(str(certificates.cert))
    stream.ssl_set_private_key_file(str(certificates.key))
    stream.register_method("ssl", TlsStream)


def _failed(error: Exception) -> int:
    TlsStream.trouble = why(error)
    return error.errno if isinstance(error, OSError) and error.errno else errno.EPROTO
