"""The field sensor node: what it reads, what it logs, and how its records reach a collector.

main.py starts it on a board. This package knows no platform (that is boards/<BOARD>/board.py)
and no protocol (that is lib/coaplet); its floors, each knowing only those below it:

    app.py                     start, run, stop: the only file that knows all the others
    resources.py               what CoAP clients may read and set
    clouds/                    each kind of server: how records become requests there, and what is watched
    methods.py                 what every node lets the cloud call
    sender.py   sensors.py     drain the queue towards the collector; read the sensors into it, keep the last readings
    watch.py                   observations at the cloud, and the answers to what they bring
    settings.py rpc.py state.py update.py    what the cloud may change: configuration, calls, values, firmware
    log.py                     levels, and the console
    records.py  config.py      JSON records with node, boot, seq; the configuration and its last good copy
    queue.py store.py schema.py clock.py cbor.py    bounded ring; atomic files; what a configuration may say; time
    climate.py  chip.py wifi.py    for a board.py: a simulated sensor; what chips have in common; joining a network
"""

FIRMWARE = "coaplet-node"
VERSION = "0.1.0"
