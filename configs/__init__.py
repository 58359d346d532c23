"""Presets: pre-training configs, and fine-tuning configs in `finetune/`."""
