# What a proxy and a cache must know of options that they do not understand (RFC 7252 5.4.2, 5.4.6, 5.6).
#
# For a gateway; an endpoint does not need it.

from .wire import HEAD


def is_critical(number):
    """Tell whether an option must be understood (RFC 7252 5.4.1)."""
    return number & 1 != 0


def is_safe_to_forward(number):
    """Tell whether a proxy may forward an option that it does not understand (RFC 7252 5.4.2)."""
    return number & 2 == 0


def is_cache_key(number):
    """Tell whether an option is part of the cache key (RFC 7252 5.4.6)."""
    return number & 0x1E != 0x1C


def cache_key(request, interpreted=(4,)):
    """Make the cache key of a request, a Message: requests that share it may share a response (RFC 7252 5.6).

    interpreted: numbers of options that the cache itself acts on, as on ETag, and leaves out.
    Returns bytes: each option that is part of the key as number, length and value, then a 0 in the number's place, the
    method, and of a FETCH, PATCH or iPATCH the payload (RFC 8132 2).
    """
    table = request.table
    key = b""
    for k in range(HEAD, HEAD + 3 * table[1], 3):
        if is_cache_key(table[k]) and table[k] not in interpreted:
            n = table[k + 2]
            key += bytes((table[k] >> 8, table[k] & 0xFF, n >> 8, n & 0xFF))
            key += bytes(request.data[table[k + 1] : table[k + 1] + n])
    key += bytes((0, 0, request.code))
    return key + request.payload if request.code > 4 else key
