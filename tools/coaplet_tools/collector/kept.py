"""What is kept for each device beside its records and its key, as it lies in SQLite; tools/README.md explains it.

The tables are made where they are needed (store.py), and what is in them goes with the device (devices.py).
"""

from coaplet_tools.collector.schema import SETTINGS

STATE = "state"
CALLS = "calls"
DESIRED = "desired"
UPDATES = "updates"
NOTICES = "notices"

OF_DEVICES = (SETTINGS, STATE, CALLS, DESIRED, UPDATES, NOTICES)

# Times are ms since 1970 but for `sequence`, in s; values are JSON.
#   settings  of one device; reported, errors: version and errors of its last report
#   state     a tree, of one device
#   calls     to be made to a device until a time; told: when it was; status, detail: what it answered, and when
#   desired   an artifact that a device is to run; etag: Golioth's, of its bytes
#   updates   what a device has reported of a package
#   notices   changes that a running collector is to tell of
KEPT = (
    f"CREATE TABLE IF NOT EXISTS {SETTINGS} (identity TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " settings TEXT NOT NULL, reported INTEGER, errors TEXT) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {STATE} (identity TEXT PRIMARY KEY, tree TEXT NOT NULL, changed INTEGER NOT NULL)"
    " WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {CALLS} (id INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL,"
    " name TEXT NOT NULL, method TEXT NOT NULL, params TEXT NOT NULL, made INTEGER NOT NULL, until INTEGER NOT NULL,"
    " met TEXT, told INTEGER, answered INTEGER, status INTEGER, detail TEXT, UNIQUE (identity, name))",
    f"CREATE TABLE IF NOT EXISTS {DESIRED} (identity TEXT NOT NULL, package TEXT NOT NULL, version TEXT NOT NULL,"
    " hash TEXT NOT NULL, size INTEGER NOT NULL, type TEXT NOT NULL, etag BLOB NOT NULL, sequence INTEGER NOT NULL,"
    " PRIMARY KEY (identity, package)) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {UPDATES} (identity TEXT NOT NULL, package TEXT NOT NULL, state INTEGER NOT NULL,"
    " reason INTEGER NOT NULL, version TEXT, target TEXT, reported INTEGER NOT NULL, PRIMARY KEY (identity, package))"
    " WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS {NOTICES} (id INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL,"
    " identity TEXT NOT NULL, path TEXT NOT NULL)",
)
