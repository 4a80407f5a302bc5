"""Facts of RFC 7959: the exchanges of its section 3, figures 2 to 13, and values of Block options.

Blocks are written as the figures have them, kind:number/more/size. Two Message IDs of figure 9 are those of the
erratum. Taken from blockwise_rfc7959.json, the vectors that this project was given.
"""

GET, POST, PUT = 1, 2, 3
CONTINUE, CHANGED, CONTENT = 95, 68, 69
LOST_REQUEST, LOST_ANSWER = "request", "answer"

# Each step: (MID, blocks of the request, code of the answer, its blocks[, which of the two is lost the first time])
FIGURES = {
    2: (GET, "status", (
        (1234, "", CONTENT, "2:0/1/128"), (1235, "2:1/0/128", CONTENT, "2:1/1/128"),
        (1236, "2:2/0/128", CONTENT, "2:2/0/128"),
    )),
    3: (GET, "status", (
        (1234, "2:0/0/64", CONTENT, "2:0/1/64"), (1235, "2:1/0/64", CONTENT, "2:1/1/64"),
        (1236, "2:2/0/64", CONTENT, "2:2/1/64"), (1237, "2:3/0/64", CONTENT, "2:3/1/64"),
        (1238, "2:4/0/64", CONTENT, "2:4/1/64"), (1239, "2:5/0/64", CONTENT, "2:5/0/64"),
    )),
    4: (GET, "status", (
        (1234, "", CONTENT, "2:0/1/128"), (1235, "2:2/0/64", CONTENT, "2:2/1/64"),
        (1236, "2:3/0/64", CONTENT, "2:3/1/64"), (1237, "2:4/0/64", CONTENT, "2:4/1/64"),
        (1238, "2:5/0/64", CONTENT, "2:5/0/64"),
    )),
    5: (GET, "status", (
        (1234, "", CONTENT, "2:0/1/128"), (1235, "2:2/0/64", CONTENT, "2:2/1/64", LOST_REQUEST),
        (1236, "2:3/0/64", CONTENT, "2:3/1/64"), (1237, "2:4/0/64", CONTENT, "2:4/1/64"),  # "..." in the figure
        (1238, "2:5/0/64", CONTENT, "2:5/0/64"),
    )),
    6: (GET, "status", (
        (1234, "", CONTENT, "2:0/1/128"), (1235, "2:2/0/64", CONTENT, "2:2/1/64", LOST_ANSWER),
        (1236, "2:3/0/64", CONTENT, "2:3/1/64"), (1237, "2:4/0/64", CONTENT, "2:4/1/64"),  # "..." in the figure
        (1238, "2:5/0/64", CONTENT, "2:5/0/64"),
    )),
    7: (PUT, "options", (
        (1234, "1:0/1/128", CONTINUE, "1:0/1/128"), (1235, "1:1/1/128", CONTINUE, "1:1/1/128"),
        (1236, "1:2/0/128", CHANGED, "1:2/0/128"),
    )),
    8: (PUT, "options", (
        (1234, "1:0/1/128", CHANGED, "1:0/0/128"), (1235, "1:1/1/128", CHANGED, "1:1/0/128"),
        (1236, "1:2/0/128", CHANGED, "1:2/0/128"),
    )),
    9: (PUT, "options", (
        (1234, "1:0/1/128", CONTINUE, "1:0/1/32"), (1235, "1:4/1/32", CONTINUE, "1:4/1/32"),
        (1236, "1:5/1/32", CONTINUE, "1:5/1/32"), (1237, "1:6/0/32", CHANGED, "1:6/0/32"),
    )),
    10: (POST, "soap", (
        (1234, "1:0/1/128", CONTINUE, "1:0/1/128"), (1235, "1:1/1/128", CONTINUE, "1:1/1/128"),
        (1236, "1:2/0/128", CHANGED, "2:0/1/128 1:2/0/128"), (1237, "2:1/0/128", CHANGED, "2:1/1/128"),
        (1238, "2:2/0/128", CHANGED, "2:2/1/128"), (1239, "2:3/0/128", CHANGED, "2:3/0/128"),
    )),
    11: (POST, "soap", (
        (1234, "1:0/1/128", CONTINUE, "1:0/1/128"), (1235, "1:1/1/128", CONTINUE, "1:1/1/128"),
        (1236, "2:0/0/64 1:2/0/128", CHANGED, "2:0/1/64 1:2/0/128"), (1237, "2:1/0/64", CHANGED, "2:1/1/64"),
        (1238, "2:2/0/64", CHANGED, "2:2/1/64"), (1239, "2:3/0/64", CHANGED, "2:3/0/64"),
    )),
}  # fmt: skip

# Of figures 12 and 13: the size of a block, and of each answer the block, how many bytes it has, and its ETag; the
# sequence numbers of the first answer and of the notification
OBSERVED = {
    12: (128, (62350, 62354), "6f00f38e", "6f00f392", ((1, "1/1/128", 128), (2, "2/0/128", 53))),
    13: (64, (62350, 62354), "6f00f38e", "6f00f392", ((1, "1/1/64", 64), (4, "4/0/64", 53))),
}

# (value, number, whether there are more, size)
OPTIONS = (
    (b"", 0, 0, 16), (b"\x08", 0, 1, 16), (b"\x21", 2, 0, 32), (b"\x3b", 3, 1, 128), (b"\x06", 0, 0, 1024),
    (b"\x1e", 1, 1, 1024), (b"\xfe", 15, 1, 1024), (b"\x01\x0e", 16, 1, 1024), (b"\x08\x26", 130, 0, 1024),
    (b"\xff\xf8", 4095, 1, 16), (b"\x01\x00\x08", 4096, 1, 16), (b"\xff\xff\xf6", 1048575, 0, 1024),
    (b"\xff\xff\xf8", 1048575, 1, 16),
)  # fmt: skip
RESERVED, TOO_LONG = b"\x07", b"\x01\x02\x03\x04"
