"""Judges: one file each behind ``controller.core.shadow.judgement.Judge``. ``loading`` makes them from a file."""
