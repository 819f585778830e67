"""Signed names: cookies and links that show who an annotator is, and that nobody can forge.

A signed name is ``BASE64(name).HMAC`` (HMAC-SHA256, RFC 2104). The key is random, and in a file
next to the store, so that cookies stay valid when the server is started again. Without it nobody
can sign: delete the file to make all cookies and links invalid.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from pathlib import Path

from textgym.errors import StorageError

_KEY_BYTES = 32


class Signer:
    """Signs names with the key of a store.

    Args:
        store: The file of the store; the key is in ``FILE.key``, and made if it does not exist.

    Attributes:
        access: The token that grants access to a server that other machines can reach.
        suffix: Identifies the store in the names of cookies, which all servers of a host share.

    Raises:
        StorageError: If the key cannot be read or written.
    """

    def __init__(self, store: Path) -> None:
        self._key = _key(store.with_name(store.name + ".key"))
        self.access = self._hmac("access", "")
        self.suffix = self._hmac("cookie", "")[:8].replace("-", "x").replace("_", "y")

    def sign(self, purpose: str, name: str) -> str:
        """Sign a name.

        Args:
            purpose: The use of the signature, which is not valid for another use.
            name: The name.
        """
        text = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        return f"{text}.{self._hmac(purpose, text)}"

    def verify(self, purpose: str, signed: str | None) -> str | None:
        """Return the name of a signature, or None if it is not valid."""
        text, dot, code = (signed or "").partition(".")
        if not dot or not hmac.compare_digest(code.encode(), self._hmac(purpose, text).encode()):
            return None
        # Only valid names are signed, so this cannot fail.
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()

    def grants_access(self, token: str) -> bool:
        """Whether a token is the one that grants access."""
        return hmac.compare_digest(token.encode(), self.access.encode())

    def _hmac(self, purpose: str, text: str) -> str:
        code = hmac.digest(self._key, f"{purpose}\0{text}".encode("utf-8", "replace"), "sha256")
        return base64.urlsafe_b64encode(code).decode().rstrip("=")


def _key(path: Path) -> bytes:
    try:
        # Only the first of several servers makes the file, complete and readable for its owner.
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        if not path.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"the key {path} could not be read or written: {error.strerror}; check the rights of "
            "the file and its folder"
        ) from error
    if len(key) != _KEY_BYTES:
        raise StorageError(
            f"the key {path} has {len(key)} bytes instead of {_KEY_BYTES}; delete it, and give "
            "all annotators their links again"
        )
    return key
