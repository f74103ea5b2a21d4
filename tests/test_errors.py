from satjax.errors import SatjaxError, first_line, some, unknown_name


def test_near_names_first_and_some_names_where_none_is_near():
    known = ["gpt-4o", "gemini-1.5-pro", "llama-3-70b", "llama-3-8b", "phi-3", "yi-34b"]
    near = unknown_name("candidate", "llama-3-70", known)
    assert isinstance(near, SatjaxError)
    assert str(near).startswith("unknown candidate 'llama-3-70': did you mean 'llama-3-70b'")
    assert "'yi-34b'" not in str(near)
    far = str(unknown_name("candidate", "zzz", known))
    assert (
        far == "unknown candidate 'zzz'; there are: gemini-1.5-pro, gpt-4o, llama-3-70b, llama-3-8b, phi-3 and 1 more."
    )
    assert str(unknown_name("column", "zzz", ["b", "a"])) == "unknown column 'zzz'; there are: a, b."


def test_the_first_of_many_names_are_said_and_how_many_there_are_beside_them():
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert some(["a", "b"], 1) == "a and 1 more"


def test_of_an_error_the_first_line_is_said_or_its_kind():
    assert first_line(ValueError("\nno such file\nand a long story")) == "no such file"
    assert first_line(ValueError("x" * 500), 7) == "x" * 7
    assert first_line(MemoryError()) == "MemoryError"
