# Discovery: what a server offers, in the CoRE link format (RFC 6690), at /.well-known/core (RFC 7252 7.2).


def link_attributes(rt=None, if_=None, title=None, ct=None, sz=None, obs=False):
    """Render what discovery says of a resource (RFC 6690 3, RFC 7252 7.2.1, RFC 7641 6).

    rt, if_: space-separated types; title: text; ct: a Content-Format or a tuple of them; sz: bytes; obs: bool.
    Returns str such as ';rt="temperature";ct=0'. Raises ValueError for a quotation mark or a backslash.
    """
    text = ""
    for name, value in (("rt", rt), ("if", if_), ("title", title)):
        if value is not None:
            if '"' in value or "\\" in value:
                raise ValueError(name + ": quotation marks and backslashes are not possible")
            text += ';%s="%s"' % (name, value)
    if isinstance(ct, tuple):
        text += ';ct="%s"' % " ".join([str(n) for n in ct])
    elif ct is not None:
        text += ";ct=%d" % ct
    if sz is not None:
        text += ";sz=%d" % sz
    return text + ";obs" if obs else text


def core(server):
    """Make the handler of /.well-known/core. Resources without attributes (None) are not listed."""

    def handler(request, response):
        if request.multicast and request.query:  # RFC 6690 4.1: who does not filter is silent then
            response.code = 132
            return
        comma = ""
        for resource in server.resources:
            if resource.attributes is not None and not resource.below:
                response.write(comma)
                response.write("</")
                response.write(quote(resource.path))
                response.write(">")
                response.write(resource.attributes)
                comma = ","
        response.option(12, 40)

    return handler


def quote(path):
    """Percent-encode what may not stand in a path (RFC 3986 3.3)."""
    text = ""
    for b in path.encode():
        c = chr(b)
        if c in "-._~!$&'()*+,;=:@/" or (b < 128 and (c.isalpha() or c.isdigit())):
            text += c
        else:
            text += "%%%02X" % b
    return text
