from hypothesis import given
from hypothesis import strategies as st

from satjax.policy.conversation import LONGEST, STANDS_ALONE, input_bytes, scored_text

LONG = "Explain the second law of thermodynamics. " * 6


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def test_one_message_is_scored_as_it_is():
    assert scored_text([{"role": "system", "content": "Be brief."}, user(" What is 2 + 2? ")]) == "What is 2 + 2?"


def test_a_long_last_message_stands_alone():
    assert scored_text([user("An earlier question."), assistant("4"), user(LONG)]) == LONG.strip()


def test_a_short_one_is_scored_with_what_it_follows():
    assert scored_text([user("Translate 'dog' into German."), assistant("Hund"), user("and French?")]) == (
        "Translate 'dog' into German.\n\nand French?"
    )
    assert (
        scored_text([user("Long ago."), user(LONG), assistant("…"), user("Shorter!")]) == f"{LONG.strip()}\n\nShorter!"
    )


def test_while_tools_are_called_the_text_stays_the_same():
    asked = [user("What is the weather in Lima?")]
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lima"}'}}
    later = [*asked, assistant(None, tool_calls=[call]), {"role": "tool", "tool_call_id": "c", "content": "19 degrees"}]
    assert scored_text(later) == scored_text(asked) == "What is the weather in Lima?"


def test_text_parts_count_and_images_do_not():
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    assert scored_text([user(parts)]) == "What is this?"
    assert input_bytes([user(parts)]) == len("What is this?")


def test_without_text_of_a_user_there_is_nothing_to_score():
    assert scored_text([{"role": "system", "content": "Be brief."}]) == ""
    assert scored_text([user(None), user([]), user({"a": 1}), {}]) == ""


def test_what_candidates_read_is_counted_as_utf8():
    assert input_bytes([user("é")]) == 2
    assert input_bytes([user("é"), assistant(None, tool_calls=[{"a": 1}])], [{"b": 2}]) == 2 + 10 + 8


content = st.one_of(
    st.text(max_size=300), st.none(), st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=20)), max_size=3)
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": content}),
    max_size=8,
)


@given(messages)
def test_any_conversation_is_short_and_ends_with_the_users_last_words(conversation):
    text = scored_text(conversation)
    assert len(text) <= LONGEST
    said = [
        m["content"].strip()
        for m in conversation
        if m["role"] == "user" and isinstance(m["content"], str) and m["content"].strip()
    ]
    if said and not any(isinstance(m["content"], list) for m in conversation):
        assert text.endswith(said[-1])
        assert len(text) >= min(STANDS_ALONE, sum(map(len, said)))


def test_a_book_loses_its_middle():
    text = scored_text([user("a" * LONGEST + "b" * LONGEST)])
    assert len(text) == LONGEST
    assert text[0] == "a"
    assert text[-1] == "b"
