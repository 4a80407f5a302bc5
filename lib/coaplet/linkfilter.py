# Which links a query of /.well-known/core asks for (RFC 6690 4.1).
#
# linkformat.py imports this when the first query comes; a build without this file does not filter. Beyond the RFC,
# which knows one parameter of the form name=value: of several, all have to match; one without "=" has the empty value,
# as an attribute without a value has, so that ?obs finds what can be observed; the empty one of a bare "?" matches.


def matches(query, href, attributes):
    """Tell whether a link is among those that a query asks for (RFC 6690 4.1).

    query: list of str, percent-decoded as Uri-Query options are; href: the target, percent-encoded, which is compared
    with what the query asks for as a path would be written; attributes: from link_attributes().
    """
    # Quoted pairs (RFC 2616 2.2) become control characters: each quotation mark left begins or ends a value
    text = (';href="%s"%s;' % (href, attributes)).replace("\\\\", "\0").replace('\\"', "\1")
    for parameter in query:
        name, _, wanted = parameter.partition("=")
        if name == "href":
            from .linkformat import quote

            wanted = quote(wanted)
        name = ";" + name
        found = False
        at = text.find(name)
        while at >= 0:
            end = at + len(name)
            if text[end : end + 1] in ";=" and not text.count('"', 0, at) & 1:  # no longer name, nor within quotes
                if text[end : end + 2] == '="':
                    value = text[end + 2 : text.find('"', end + 2)].replace("\1", '"').replace("\0", "\\")
                else:
                    value = text[end + 1 : text.find(";", end)]
                # each relation type counts as an attribute of its own, and each format (RFC 7252 7.2.1)
                for part in value.split(" ") if name + ";" in ";rt;if;rel;rev;ct;" else (value,):
                    if part == wanted or wanted[-1:] == "*" and part.startswith(wanted[:-1]):
                        found = True
            at = text.find(name, end)
        if not found:
            return False
    return True
