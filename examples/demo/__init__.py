"""`python -m examples.demo`: three versions of an agent are delivered, and two of them taken back."""
