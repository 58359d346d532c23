"""Writes tests/golden/huggingface.npz: weights of two tiny networks and what transformers makes of some rows.

    ./launch/test.sh --interop  # installs PyTorch and transformers
    .venv/bin/python -m tests.interop.make_golden

Needed only when the shapes in `peer.py` change; the file in the repository is from transformers 5.23.0.
"""

import numpy as np

from tests.interop import peer


def main():
    models = peer.huggingface_models(peer.TINY_PAIR)
    generator, discriminator = map(peer.get_state, models)
    inputs = tokens, segments, document_ids = peer.rows(peer.TINY, 20)
    generator_logits, discriminator_logits = peer.huggingface_logits(models, inputs)
    np.savez_compressed(
        peer.GOLDEN,
        tokens=tokens,
        segments=segments,
        document_ids=document_ids,
        generator_logits=generator_logits,
        discriminator_logits=discriminator_logits,
        **{f"generator/{name}": array for name, array in generator.items()},
        **{f"discriminator/{name}": array for name, array in discriminator.items()},
    )
    print(f"{peer.GOLDEN}: {peer.GOLDEN.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
