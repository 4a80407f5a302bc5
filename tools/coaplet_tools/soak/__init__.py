"""make soak: what takes longer than `make test` may: mutation testing, and the fuzz at ten million datagrams."""
