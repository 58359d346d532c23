"""The programs of docs/serving.md, on an exported classifier."""

import asyncio
import pathlib
import re
import sys
import types

import numpy as np
import pytest

import electra_jax
from electra_jax.interop import export
from electra_jax.interop.onnx_network import OnnxNetwork
from tests.interop.made_finetuned import with_head
from tests.running import ROOT

pytestmark = pytest.mark.interop

PAGE = (ROOT / "docs" / "serving.md").read_text("utf-8")
TEXTS = ["ab cd ef", "gh", "a b c d e f g"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "reviews"
    export.write(with_head("classification", "paper"), str(path), "onnx", ("fp32",))
    return path


def program(heading, exported, monkeypatch):
    """The module that a section of the page shows."""
    monkeypatch.setenv("MODEL", str(exported))
    source = re.search(rf"## {heading}\n.*?```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    module = types.ModuleType("serve")
    monkeypatch.setitem(sys.modules, "serve", module)
    exec(compile(source, "docs/serving.md", "exec"), module.__dict__)
    return module


async def posted(app, *requests):
    """The answers to requests that arrive at the same time."""
    import httpx

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://serve") as client:
        return await asyncio.gather(*(client.post("/classify", **request) for request in requests))


def test_the_endpoint_answers_as_the_model_does(exported, monkeypatch):
    app = program("FastAPI", exported, monkeypatch).app
    answer, refused = asyncio.run(posted(app, {"json": {"texts": [*TEXTS, ""]}}, {"json": {"texts": ["a"] * 65}}))
    assert (answer.status_code, refused.status_code) == (200, 422)
    *labels, problem = answer.json()
    expected = electra_jax.load(exported).classify(TEXTS)
    assert [one["label"] for one in labels] == [one.label for one in expected]
    assert [one["probability"] for one in labels] == pytest.approx([one.probability for one in expected], abs=1e-5)
    assert set(problem) == {"error"}


def test_requests_of_the_same_moment_are_one_batch(exported, monkeypatch):
    serve = program("Batches of many requests", exported, monkeypatch)
    batches, stream = [], serve.model.stream
    monkeypatch.setattr(serve.model, "stream", lambda task, texts: batches.append(len(texts)) or stream(task, texts))

    async def ask():
        async with serve.lifespan(serve.app):
            return await posted(serve.app, *({"params": {"text": text}} for text in [*TEXTS, ""]))

    *answers, refused = asyncio.run(ask())
    expected = electra_jax.load(exported).classify(TEXTS)
    assert [answer.json()["label"] for answer in answers] == [one.label for one in expected]
    assert refused.status_code == 422
    assert batches == [4]


def test_tritons_file_has_the_inputs_and_outputs_of_an_export(exported):
    described = re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ -1 \]', PAGE)
    network = OnnxNetwork(str(exported / "onnx" / "model.onnx"))
    assert [name for name, kind in described if kind == "INT64"] == list(network.inputs)
    assert [name for name, kind in described if kind == "FP32"] == list(network.outputs)
    source = pathlib.Path(exported, re.search(r"cp exported/reviews/(\S+)", PAGE).group(1))
    assert source.is_file()
    # As Triton calls it: padded rows, the other inputs 0 on padding.
    row = np.array([[2, 7, 8, 3, 0, 0]])
    rows = {"input_ids": row, "attention_mask": row > 0, "token_type_ids": 0 * row}
    (alone,) = network({name: values[:, :4] for name, values in rows.items()}).values()
    (padded,) = network(rows).values()
    np.testing.assert_allclose(padded, alone, atol=1e-5)
