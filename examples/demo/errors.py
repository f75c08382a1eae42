"""What can go wrong in the demo, as a sentence."""


class DemoError(Exception):
    """Something did not happen as it should; the message says what."""
