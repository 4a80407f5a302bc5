"""Any CoAP server: each record is a request with `cloud_method` to `cloud_path`, and nothing is watched.

`cloud_path` is a path, or with a query, percent-encoded where needed, in which {node}, {kind} and {name} stand for what
clouds.filled() says: `data/{node}/{kind}/{name}`. The payload is the record, JSON.
"""

from . import JSON, POST, PUT, Base, filled


class Cloud(Base):
    """A server of its own kind: see clouds.Base."""

    def request(self, records):
        """Return (method, path, payload, Content-Format) of one record."""
        path, body = records[0]
        config = self.config
        method = POST if config["cloud_method"] == "POST" else PUT
        return method, filled(config["cloud_path"], config["name"], path, body), body, JSON
