import json
import zipfile

from electra_jax import storage
from electra_jax.finetuning import outputs
from electra_jax.finetuning.data.labelled_file import LeftOut


def test_predictions_are_one_json_object_a_line(tmp_path):
    records = [{"key": "0", "prediction": "é"}, {"key": "1", "prediction": "a\nb"}]
    outputs.write_predictions(tmp_path, "rte", "dev", iter(records))
    lines = (tmp_path / "predictions" / "rte.dev.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records
    assert "é" in lines[0]


def test_examples_that_were_left_out_are_listed(tmp_path):
    outputs.write_left_out(tmp_path, {"rte": []})
    assert not (tmp_path / "skipped.jsonl").exists()
    outputs.write_left_out(tmp_path, {"rte": [LeftOut("train.tsv:3", "'text' is empty")], "cola": []})
    assert [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == [
        {"task": "rte", "place": "train.tsv:3", "reason": "'text' is empty"}
    ]


def test_a_submission_numbers_the_examples_and_keeps_grades_in_their_range():
    assert outputs.submission_lines([{"prediction": "entailment"}, {"prediction": "not_entailment"}]) == (
        "index\tprediction\n0\tentailment\n1\tnot_entailment\n"
    )
    grades = [{"prediction": value} for value in (-0.5, 2.34567, 5.5)]
    assert outputs.submission_lines(grades, 5.0) == "index\tprediction\n0\t0.000\n1\t2.346\n2\t5.000\n"


def test_a_submission_is_a_zip_of_glue_s_files_and_the_same_each_time(tmp_path):
    path = outputs.write_submission(tmp_path, {"RTE": "r\n", "CoLA": "c\n"})
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["CoLA.tsv", "RTE.tsv"]
        assert archive.read("RTE.tsv") == b"r\n"
    before = storage.read(path)
    assert storage.read(outputs.write_submission(tmp_path, {"CoLA": "c\n", "RTE": "r\n"})) == before


def test_squad_s_files_are_json(tmp_path):
    outputs.write_answer_files(
        tmp_path, "squad", "dev", {"predictions.json": {"q1": "Paris"}, "null_odds.json": {"q1": -3.5}}
    )
    folder = tmp_path / "predictions"
    assert json.loads((folder / "squad.dev.predictions.json").read_text()) == {"q1": "Paris"}
    assert json.loads((folder / "squad.dev.null_odds.json").read_text()) == {"q1": -3.5}
