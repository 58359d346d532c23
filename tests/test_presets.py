"""Whole runs of shrunk presets: text, training, evaluation, report.

One of each kind: shrunk, the others differ from these or from `small`, which `test_main.py` runs, in numbers alone.
"""

import json

import numpy as np
import pytest

from tests.running import learned, main, quicktest_flags


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", ["base", *(pytest.param(name, marks=pytest.mark.release) for name in ("mlm_base", "quickstart"))]
)
def test_a_preset_of_each_kind_runs_shrunk_and_is_evaluated(tmp_path, config):
    workdir, flags = tmp_path / "run", quicktest_flags(config, tmp_path / "run", tmp_path)
    main(*flags)
    scores = learned(workdir)[-1]
    assert scores["step"] == 20
    assert np.isfinite(scores["eval/loss"])
    if config == "base":
        again = main(*flags, "--mode=eval")
        assert json.loads(again[again.index("{") :])["eval/loss"] == scores["eval/loss"]
