# Conditional requests (RFC 7252 5.6.2, 5.10.6, 5.10.8): a request against the ETag of the resource as it is now.
#
# Loaded when a resource with an etag is first asked for; a build without such resources may leave it out.

_VALID = 67
_PRECONDITION_FAILED = 140


def precondition(request, tag):
    """Compare If-Match, If-None-Match and ETag of a request with a tag, bytes of 1 to 8, or None where nothing exists.

    Returns 0 where the handler is to be called, 2.03 (a GET or FETCH whose ETag is still right) or 4.12.
    """
    if tag is not None and not (isinstance(tag, bytes) and 0 < len(tag) < 9):
        raise ValueError("an ETag is bytes, 1 to 8 of them")
    wanted = request.options(1)
    if wanted and (tag is None or tag not in wanted and b"" not in wanted):
        return _PRECONDITION_FAILED
    if tag is not None:
        if request.option(5) is not None:
            return _PRECONDITION_FAILED
        if (request.code == 1 or request.code == 5) and tag in request.options(4):
            return _VALID
    return 0
