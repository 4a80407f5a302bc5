"""AES as MicroPython's cryptolib has it: that itself, or on CPython one of the package cryptography; and CCM and GHASH
written block by block and bit by bit, for tests alone."""

try:
    from cryptolib import aes
except ImportError:
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
    except ImportError:  # a bare machine
        AES = None

    class aes:
        """One direction; in and out may overlap as they may in cryptolib."""

        def __init__(self, key, mode, iv=None):
            self.encryptor = Cipher(AES(bytes(key)), ECB() if mode == 1 else CBC(bytes(iv))).encryptor()

        def encrypt(self, data, out=None):
            if len(data) % 16:
                raise ValueError("blksize % 16")
            done = self.encryptor.update(bytes(data))
            if out is None:
                return done
            if len(out) < len(done):
                raise ValueError("output too small")
            out[: len(done)] = done
            return out


def _xor(a, b):
    return bytes(a[i] ^ b[i] for i in range(min(len(a), len(b))))


def _padded(data):
    return bytes(data) + bytes(-len(data) % 16)


def ccm(key, nonce, aad, plain, tag_bytes):
    """Ciphertext and tag (RFC 3610 2.2 to 2.4)."""
    block = aes(key, 1).encrypt
    size = 15 - len(nonce)
    flags = (64 if aad else 0) | (tag_bytes - 2) // 2 << 3 | size - 1
    text = bytes((flags,)) + nonce + len(plain).to_bytes(size, "big")
    if aad:
        text += _padded(len(aad).to_bytes(2, "big") + aad)
    text += _padded(plain)
    mac = bytes(16)
    for i in range(0, len(text), 16):
        mac = block(_xor(mac, text[i : i + 16]))
    out = b""
    for i in range((len(plain) + 15) // 16):
        stream = block(bytes((size - 1,)) + nonce + (i + 1).to_bytes(size, "big"))
        out += _xor(plain[16 * i : 16 * i + 16], stream)
    return out + _xor(mac, block(bytes((size - 1,)) + nonce + bytes(size)))[:tag_bytes]


def times(x, y):
    """The product in the field of GHASH (NIST SP 800-38D 6.3)."""
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def ghash(h, aad, text):
    """SP 800-38D 6.4, of what is authenticated in GCM. h: an int. Returns 16 bytes."""
    data = _padded(aad) + _padded(text) + (8 * len(aad)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big")
    y = 0
    for i in range(0, len(data), 16):
        y = times(y ^ int.from_bytes(data[i : i + 16], "big"), h)
    return y.to_bytes(16, "big")


def gcm(key, nonce, aad, plain):
    """Ciphertext and tag (SP 800-38D 7.1), the nonce of 12 bytes."""
    block = aes(key, 1).encrypt
    out = b""
    for i in range((len(plain) + 15) // 16):
        out += _xor(plain[16 * i : 16 * i + 16], block(nonce + (i + 2).to_bytes(4, "big")))
    mac = ghash(int.from_bytes(block(bytes(16)), "big"), aad, out)
    return out + _xor(mac, block(nonce + b"\0\0\0\1"))
