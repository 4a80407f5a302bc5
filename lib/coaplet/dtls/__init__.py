# DTLS 1.2 with a pre-shared key (RFC 6347, 4279, 7925). What is used is imported from its module.
