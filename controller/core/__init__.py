"""The decision: snapshot in, plan out. No I/O, no clock, no log line."""
