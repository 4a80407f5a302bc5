"""What firmware the cloud wants: read from its manifest, and reported. Installing it is another file's, by `wanted`.

    manifest    {"sequenceNumber","hash","components":[{"package","version","hash","size","uri","type"}]}
    report      {"state","reason","package","version","target"}: state 0 is idle, reason 0 ready

as Golioth has it. The node's own package is `main`.
"""

PACKAGE = "main"


class Update:
    """version: the one that runs; log: a Log.

    `target`: the version that is wanted, or None; `wanted`: function of that component, a dict, called once for each
    version that is not the one that runs, or None.
    """

    def __init__(self, version, log):
        self._version = version
        self._log = log
        self.target = None
        self.wanted = None

    def take(self, manifest):
        """Note what a manifest wants. Returns whether there is something to report."""
        components = manifest.get("components") if isinstance(manifest, dict) else None
        for component in components if isinstance(components, list) else ():
            if isinstance(component, dict) and component.get("package") == PACKAGE:
                target = str(component.get("version"))[:32]
                if target == self.target:
                    return False
                self.target = target
                if target != self._version:
                    self._log.info("update", "another version is wanted", version=self._version, target=target)
                    if self.wanted:
                        self.wanted(component)
                return True
        return False

    def report(self):
        """Return the report, a new dict."""
        report = {"state": 0, "reason": 0, "package": PACKAGE, "version": self._version}
        if self.target:
            report["target"] = self.target
        return report
