"""Facts of RFC 7641: the messages of its appendix A, figures 3 to 6, as bytes, and cases of section 3.4.

Figures 7 and 8 are those of a proxy. The bytes were composed from what the figures print, Max-Age 15 and the tokens
included. Taken from observe_rfc7641.json, the vectors that this project was given.
"""

# (from, hexadecimal): c: the client, s: the server
FIGURE_3 = (
    ("c", "410116334a605b74656d7065726174757265"),
    ("s", "614516334a6109810fff31382e352043656c"),
    ("s", "51457b504a6110810fff31392e322043656c"),
)
FIGURE_4 = (
    ("s", "51457b514a6119810fff31392e372043656c"),  # is lost
    ("c", "41011634b2605b74656d7065726174757265"),
    ("s", "61451634b24578797a7a79212c810fff31392e372043656c"),
)
FIGURE_5 = (  # the server has forgotten all
    ("c", "41011635f94578797a7a79205b74656d7065726174757265"),
    ("s", "61451635f9614a810fff32302e302043656c"),
    ("s", "5143aa0cf94578797a7a792151810f"),
)
FIGURE_6 = (
    ("s", "4145aa0ff9615b810fff31392e332043656c"),
    ("c", "7000aa0f"),
)

# (V1, V2, seconds between them, whether V2 is the newer one)
FRESHNESS = (
    (1, 2, 1, True),
    (2, 1, 1, False),
    (5, 5, 1, False),
    (16777215, 0, 1, True),
    (0, 16777215, 1, False),
    (0, 8388607, 1, True),
    (0, 8388608, 1, False),
    (8388608, 0, 1, False),
    (8388609, 0, 1, True),
    (100, 50, 129, True),
    (100, 50, 128, False),
    (7, 7, 129, True),
)


def of(figure):
    """The messages of a figure: (from, bytes)."""
    return [(who, bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])) for who, text in figure]
