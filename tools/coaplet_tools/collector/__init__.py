"""The collector: takes what sensor nodes send over CoAP, keeps it in SQLite, shows it.

    __main__.py cli.py     commands, exit codes
    serve.py               one run of the collector, from listening to the last commit
    resources.py           `logs` and `.s/*` as Golioth answers them: codes, ETags
    writer.py              one thread owns the database; records are committed in batches
    records.py schema.py   what a record is; how it lies in SQLite
    devices.py             the keys of devices that come over coaps
    services.py            what is kept for each of them beside its records, as Golioth has it:
      settings.py state.py rpc.py updates.py greetings.py
      golioth.py values.py    how each of these answers, in JSON and CBOR; who is told of changes
      artifacts.py            files of updates
      kept.py store.py        how it is written, and how commands tell a running collector
    device_commands.py     commands that are about one device
    query.py               reading a database, also one that is being written
    show.py watch.py text.py    the terminal
    errors.py etag.py

An answer promises that the record is on the disk: nothing is answered before its commit.
"""
