# Discovery: what a server offers, in the CoRE link format (RFC 6690), at /.well-known/core (RFC 7252 7.2).


def link_attributes(rt=None, if_=None, title=None, ct=None, sz=None, obs=False):
    """Render what discovery says of a resource (RFC 6690 3, RFC 7252 7.2.1, RFC 7641 6).

    rt, if_: space-separated types; title: text; ct: a Content-Format or a tuple of them; sz: bytes; obs: bool.
    Returns str such as ';rt="temperature";ct=0'. An empty text or tuple is as good as None.
    """
    if isinstance(ct, tuple):
        ct = " ".join([str(n) for n in ct])
    text = ""
    for name, value in (("rt", rt), ("if", if_), ("title", title), ("ct", ct), ("sz", sz)):
        if isinstance(value, int):
            text += ";%s=%d" % (name, value)
        elif value:
            text += ';%s="%s"' % (name, value.replace("\\", "\\\\").replace('"', '\\"'))  # RFC 2616 2.2
    return text + ";obs" if obs else text


def well_known(server):
    """Make the handler of /.well-known/core. Resources without attributes (None) are not listed."""

    def handler(request, response):
        resources = server.resources
        query = request.query
        matches = None
        if query:
            try:
                from .linkfilter import matches
            except ImportError:  # RFC 6690 4.1: who does not filter ignores the query, and is silent to a group
                if request.multicast:
                    resources = ()
        comma = "<"
        try:
            for resource in resources:
                if resource.attributes is not None and not resource.below:
                    href = "/" + quote(resource.path)
                    if matches is None or matches(query, href, resource.attributes):
                        response.write(comma + href + ">")
                        response.write(resource.attributes)
                        comma = ",<"
        except ValueError as error:
            raise ValueError("%s: ask for fewer links (?rt=), or raise mtu" % error)
        if request.multicast and comma == "<":
            response.code = 132  # nothing to say: no answer to a group's request (RFC 6690 4.1, RFC 7252 8.2)
        response.option(12, 40)

    return handler


def quote(path):
    """Percent-encode what may not stand in a path (RFC 3986 3.3). Returns str."""
    data = path.encode()
    text = data.replace(b"%", b"%25")
    for b in data:  # bytes: MicroPython would keep each character of a str that is looked at, for ever
        c = chr(b)
        if c not in "-._~!$&'()*+,;=:@/%" and (b > 127 or not (c.isalpha() or c.isdigit())):
            text = text.replace(bytes((b,)), b"%%%02X" % b)
    return text.decode()
