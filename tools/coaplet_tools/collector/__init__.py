"""The collector: takes what sensor nodes send over CoAP, keeps it in SQLite, shows it.

    __main__.py cli.py     commands, exit codes
    serve.py               one run of the collector, from listening to the last commit
    limits.py              how much is taken of whoever sends, in one place
    rate.py                4.29: so many requests a second of a device, before all resources
    resources.py           `logs`, `.s` and `.s/*` as Golioth answers them: codes, ETags
    uploads.py             bodies that come in blocks
    payloads.py            JSON and CBOR, which may be hostile, as values
    records.py batch.py    what a record is; several in one request
    writer.py schema.py    one thread owns the database; records are committed in batches; how they lie in SQLite
    devices.py             the keys of devices that come over coaps
    services.py            what is kept for each of them beside its records, as Golioth has it:
      settings.py state.py rpc.py updates.py greetings.py
      golioth.py values.py    how each of these answers, in JSON and CBOR; who is told of changes
      artifacts.py            files of updates
      kept.py store.py        how it is written, and how commands tell a running collector
    device_commands.py     commands that are about one device
    history.py sessions.py the sessions that devices had, and the command that shows them
    query.py tail.py       reading a database, also one that is being written; following it
    display.py show.py watch.py text.py    events, counts; the terminal
    errors.py etag.py

An answer promises that the record is on the disk: nothing is answered before its commit.
"""
