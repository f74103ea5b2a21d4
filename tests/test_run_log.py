import itertools
import json

from satjax.training.run_log import RunLog, Silent, read_metrics


def write_steps(workdir, first, last, total=6):
    with RunLog(workdir, first_step=first, total_steps=total) as log:
        for step in range(first + 1, last + 1):
            log.write(step, "all", {"loss": 1.0 / step, "gradient_norm": 2.0})


def test_a_resumed_run_has_every_step_once(tmp_path):
    write_steps(tmp_path, 0, 5)
    write_steps(tmp_path, 3, 6)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[1] == {"step": 2, "stage": "all", "loss": 0.5, "gradient_norm": 2.0}
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_line_that_a_kill_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1}]
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_other_hosts_write_nothing(tmp_path):
    with Silent(0) as log:
        log.write(1, "all", {"loss": 1.0})
        log.say("hello")
        log.save()
        log.counter("reading")(1, 2)
    assert log.step == 1
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_closes_what_was_written(tmp_path):
    """A bucket has a file when it is closed; a kill later on is to lose no more than the steps since then."""
    with RunLog(tmp_path, first_step=0, total_steps=6) as log:
        log.save()
        for step in (1, 2):
            log.write(step, "all", {"loss": 1.0})
        lines, events = log.file, log.board.file._writer
        log.save()
        assert lines.closed
        assert events.closed
        lines = log.file
        log.save()
        assert log.file is lines, "nothing was written since"
        log.write(3, "all", {"loss": 1.0})
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    first, second = sorted((tmp_path / "tensorboard").iterdir())
    assert first.name.endswith(".000000000"), "TensorBoard reads them in the order of their names"
    assert second.name.endswith(".000000002")
    assert b"loss" in first.read_bytes()
    assert b"loss" in second.read_bytes()


def test_people_hear_about_progress_and_time_left_once_that_is_known(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("satjax.progress.SECONDS_BETWEEN_LINES", -1.0)
    seconds = itertools.count(0, 10)
    monkeypatch.setattr("satjax.progress.time.monotonic", lambda: next(seconds))
    write_steps(tmp_path, 2, 6)
    assert capsys.readouterr().err.splitlines() == [
        "all: step 3 of 6, loss 0.3333",
        "all: step 4 of 6, loss 0.2500, about 20 s left",
        "all: step 5 of 6, loss 0.2000, about 10 s left",
        "all: step 6 of 6, loss 0.1667",
    ]


def test_what_goes_before_the_steps_is_counted_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("satjax.progress.SECONDS_BETWEEN_LINES", -1.0)
    with RunLog(tmp_path, first_step=0, total_steps=6) as log:
        count = log.counter("reading")
        for done in (2, 4, 6):
            count(done, 8)
        count(8, 8)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("reading")]
    assert [line.split(",")[0] for line in lines] == ["reading: 4 of 8", "reading: 6 of 8", "reading: 8 of 8"]
    assert all(line.endswith("left") for line in lines)
