"""What can go wrong in the devkit, as sentences that name the way out."""


class DevkitError(Exception):
    """Something the devkit needs is missing or did not start; the message says what to do."""


class PortTakenError(DevkitError):
    """Another process took the port between choosing and binding it; starting again on another port helps."""
