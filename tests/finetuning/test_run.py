import json

from electra_jax.config.files import typed
from electra_jax.finetuning import run
from electra_jax.progress import QuietLine
from tests.configs import preset


def test_a_run_goes_on_with_the_batches_it_was_begun_with(tmp_path):
    config = typed(preset("finetune.text"))

    def goes_on(recorded):
        (tmp_path / "config.json").write_text(json.dumps(recorded))
        return run.as_begun(config, str(tmp_path), QuietLine()).last_batch

    assert run.as_begun(config, str(tmp_path / "new"), QuietLine()) == config
    assert goes_on({"task": "finetuning"}) == "drop"
    assert goes_on({"task": "finetuning", "last_batch": "train"}) == "train"
    assert goes_on({"task": "pretraining"}) == "train"


def test_a_run_goes_on_without_windows_if_it_was_begun_so(tmp_path):
    config = typed(preset("finetune.tagging"))

    def goes_on(**fields):
        recorded = {"task": "finetuning", "last_batch": "train", "tasks": {"tagging": {"kind": "tagging"} | fields}}
        (tmp_path / "config.json").write_text(json.dumps(recorded))
        return run.as_begun(config, str(tmp_path), QuietLine()).tasks["tagging"].windows

    assert not goes_on()
    assert goes_on(windows=True)
