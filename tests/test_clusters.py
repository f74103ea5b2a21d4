"""Tasks made of the instructions' words."""

from collections import Counter

import numpy as np
import pytest

from satjax.aptitude import sample_aptitude_test
from satjax.errors import SatjaxError
from satjax.outcomes import Candidate, Item, OutcomeTable, cluster_numbers, cluster_tasks
from satjax.outcomes.clusters import _terms

TOPICS = {
    "cooking": "onion garlic soup pan oven flour butter recipe",
    "astronomy": "planet orbit star galaxy telescope comet moon nebula",
    "law": "court judge contract statute appeal jury verdict tort",
}


def mixed(per_topic: int = 20, split: str = "train") -> OutcomeTable:
    """Instructions of three topics under one task, each topic with fewer than the one before."""
    rng = np.random.default_rng(0)
    items = []
    for rank, (topic, words) in enumerate(TOPICS.items()):
        for n in range(per_topic - 3 * rank):
            drawn = rng.choice(words.split(), 5, replace=False)
            items.append(Item(f"{topic}#{n}", f"Explain {' and '.join(drawn)}, case {n}", "mixed", split=split))
    items.append(Item("held", "onion soup", "mixed", split="test"))
    scores = rng.integers(0, 2, (4, len(items))).astype(np.float32)
    return OutcomeTable(tuple(items), tuple(Candidate(f"c{m}") for m in range(4)), scores)


def test_topics_are_found_and_the_largest_comes_first():
    table = cluster_tasks(mixed(), 3, seed=0)
    found = {topic: {item.task for item in table.items if item.id.startswith(topic)} for topic in TOPICS}
    assert found == {"cooking": {"cluster 1"}, "astronomy": {"cluster 2"}, "law": {"cluster 3"}}


WITHOUT_BLANKS = {
    "Chinese": {
        "weather": (
            "今天{}的天气怎么样？",
            "明天{}会下雨吗？",
            "{}这周的气温大概是多少？",
            "请告诉我{}的天气预报",
            "{}现在冷不冷？",
        ),
        "code": (
            "用{}语言写一个排序函数",
            "请帮我修复这段{}代码的错误",
            "如何在{}里读取文件？",
            "{}中怎么写循环？",
            "解释这段{}程序的意思",
        ),
        "translation": (
            "把这句话翻译成{}",
            "请将下面的段落译为{}",
            "{}的谢谢怎么说？",
            "这句{}是什么意思？",
            "帮我润色这段{}翻译",
        ),
    },
    "Japanese": {
        "weather": (
            "今日の{}の天気はどうですか",
            "明日{}で雨が降りますか",
            "今週の{}の気温は何度ですか",
            "{}の天気予報を教えてください",
        ),
        "code": (
            "{}でソート関数を書いてください",
            "この{}コードの間違いを直してください",
            "{}でファイルを読む方法は？",
            "{}でループはどう書きますか",
        ),
        "translation": (
            "この文を{}に翻訳してください",
            "次の段落を{}に訳してください",
            "{}でありがとうは何と言いますか",
            "{}の訳を直してください",
        ),
    },
}


@pytest.mark.parametrize("language", WITHOUT_BLANKS)
def test_topics_are_found_where_no_blanks_stand_between_words(language):
    chance, items = np.random.default_rng(0), []
    for topic, forms in WITHOUT_BLANKS[language].items():
        for n in range(150):
            name = "".join(map(chr, chance.integers(0x4E00, 0x5A00, 3)))
            items.append(Item(f"{n} {topic}", chance.choice(forms).format(name), ""))
    number_N = cluster_numbers(OutcomeTable(tuple(items), (Candidate("a"),), np.ones((1, 450), np.float32)), 10, 0)
    topics = Counter((int(number), item.id.split()[1]) for number, item in zip(number_N, items, strict=True))
    largest = [max(count for (other, _), count in topics.items() if other == number) for number in range(1, 11)]
    assert sum(largest) > 0.7 * len(items)


def test_what_is_written_with_blanks_is_clustered_by_its_words():
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(stop_words="english").build_analyzer()
    text = "The Übung of Наташа, 날씨가 x_1 and don't"
    assert _terms(words)(text) == words(text) == ["übung", "наташа", "날씨가", "x_1", "don"]
    assert _terms(words)("Python是好") == ["python", "是", "好", "是好"]


def test_only_tasks_of_training_items_change():
    before, after = mixed(), cluster_tasks(mixed(), 3, seed=0)
    assert after.items[-1] == before.items[-1]
    assert [(i.id, i.text, i.split) for i in after.items] == [(i.id, i.text, i.split) for i in before.items]
    np.testing.assert_array_equal(after.scores_MN, before.scores_MN)


def test_the_same_seed_makes_the_same_tasks():
    assert cluster_tasks(mixed(), 5, seed=3).items == cluster_tasks(mixed(), 5, seed=3).items
    assert len(Counter(item.task for item in cluster_tasks(mixed(), 5, seed=3).items[:-1])) == 5


def test_an_aptitude_test_is_drawn_from_clusters():
    test = sample_aptitude_test(cluster_tasks(mixed(), 3, seed=0), num_tasks=3, shots=10)
    assert [task.name for task in test.tasks] == ["cluster 1", "cluster 2", "cluster 3"]
    assert set(test.tasks[0].keywords) <= {*TOPICS["cooking"].split(), "explain", "case"}


def one_line(table: OutcomeTable, clusters: int) -> str:
    with pytest.raises(SatjaxError) as caught:
        cluster_tasks(table, clusters, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_more_clusters_than_instructions_is_one_line():
    assert one_line(mixed(), 52).endswith("there are 51 different training instructions; lower it")


def test_instructions_without_words_are_one_line():
    table = mixed()
    items = tuple(Item(i.id, "the " if n % 2 else "of", i.task, split=i.split) for n, i in enumerate(table.items))
    assert "no words to cluster by" in one_line(OutcomeTable(items, table.candidates, table.scores_MN), 2)
