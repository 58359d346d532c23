"""The config of a run: every field with its type, default, range, unit and reason, as frozen dataclasses."""
