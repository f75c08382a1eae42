"""The plan's rules, one a file. Each is ``rule(view) -> Outcome | None``; the first that answers decides."""
