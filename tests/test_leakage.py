"""Questions of the training split that are measured on are not passed over."""

from dataclasses import replace

from satjax.evaluation.leakage import warn_of_leakage
from satjax.outcomes import synthetic_zoo

TABLE = synthetic_zoo(seed=4, num_items=300, num_candidates=4)


def leaky(table, number: int):
    """The first `number` test items ask what training items ask, with other blanks."""
    known = [f" {item.text}\n" for item in table.items if item.split == "train"][:number]
    texts = {item.id: text for item, text in zip(table.split("test").items, known, strict=False)}
    return replace(table, items=tuple(replace(item, text=texts.get(item.id, item.text)) for item in table.items))


def test_instructions_of_the_training_split_are_counted(caplog):
    warn_of_leakage(leaky(TABLE, 7), "test")
    (said,) = caplog.messages
    assert said.startswith(
        f"7 of {len(TABLE.split('test').items)} instructions of the split 'test' stand in the training"
    )


def test_a_clean_table_and_the_training_split_itself_say_nothing(caplog):
    warn_of_leakage(TABLE, "test")
    warn_of_leakage(leaky(TABLE, 7), "val")
    warn_of_leakage(leaky(TABLE, 7), "train")
    assert caplog.messages == []
