"""Fine-tuning presets, one file per kind of task."""
