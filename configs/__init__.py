"""Presets: configs of pre-training, and of fine-tuning in `finetune/`."""
