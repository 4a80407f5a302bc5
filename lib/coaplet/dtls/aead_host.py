# The classes of aead.py and gcm.py on CPython, which has no cryptolib: AES-128-CCM and -GCM (RFC 5116 5.1, 5.3) of the
# package cryptography, which need not be installed for anything but coaps. No board gets this file.

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
except ImportError:
    AESCCM = None


class Work:
    """The scratch of one DTLS layer, of which there is none here. size: bytes of plaintext of a record at most."""

    def __init__(self, size):
        pass


class Ccm:
    """As aead.Ccm; all that it is given may be any bytes-like object. Raises ImportError without cryptography."""

    def __init__(self, key, tag_bytes, nonce_bytes=12):
        if AESCCM is None:
            raise ImportError("coaps needs the package cryptography: pip install cryptography")
        self.tag = tag_bytes
        self._cipher = AESCCM(key, tag_bytes)

    def seal(self, work, nonce, aad, aad_len, buf, pos, n):
        if aad_len > 62:  # as on a board
            raise ValueError("additional data")
        sealed = self._cipher.encrypt(nonce, memoryview(buf)[pos : pos + n], memoryview(aad)[:aad_len])
        memoryview(buf)[pos : pos + n + self.tag] = sealed

    def open(self, work, nonce, aad, aad_len, data, pos, n, out):
        try:
            opened = self._cipher.decrypt(nonce, memoryview(data)[pos : pos + n + self.tag], memoryview(aad)[:aad_len])
        except InvalidTag:
            opened = None
        memoryview(out)[:n] = opened or bytes(n)
        return opened is not None


class Gcm(Ccm):
    """As gcm.Gcm. Raises ImportError without cryptography."""

    def __init__(self, key):
        super().__init__(key, 16)
        self._cipher = AESGCM(key)

    def wipe(self):
        """There are no words of ours."""
