import pyarrow.parquet as pq

from satjax.aptitude.mmlu_keywords import MMLU_KEYWORDS


def test_every_curated_subject_has_five_distinct_words():
    assert len(MMLU_KEYWORDS) == 57
    for task, words in MMLU_KEYWORDS.items():
        assert task.startswith("mmlu/")
        assert len({word.lower() for word in words}) == len(words) == 5, task
        assert all(word.strip() == word != "" for word in words), task


def test_every_mmlu_subject_of_the_real_outcomes_is_curated(shared_data):
    tasks = pq.read_table(shared_data / "mmlu_pro" / "items.parquet", columns=["task"])["task"].unique().to_pylist()
    subjects = {task for task in tasks if task.startswith("mmlu/")}
    assert len(subjects) > 50
    assert subjects <= MMLU_KEYWORDS.keys()
