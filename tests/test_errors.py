from satjax.errors import SatjaxError, unknown_name


def test_near_names_first_and_some_names_where_none_is_near():
    known = ["gpt-4o", "gemini-1.5-pro", "llama-3-70b", "llama-3-8b", "phi-3", "yi-34b"]
    near = unknown_name("candidate", "llama-3-70", known)
    assert isinstance(near, SatjaxError)
    assert str(near).startswith("unknown candidate 'llama-3-70': did you mean 'llama-3-70b'")
    assert "'yi-34b'" not in str(near)
    far = str(unknown_name("candidate", "zzz", known))
    assert far == "unknown candidate 'zzz'; there are: gemini-1.5-pro, gpt-4o, llama-3-70b, llama-3-8b, phi-3, … (6)."
    assert str(unknown_name("column", "zzz", ["b", "a"])) == "unknown column 'zzz'; there are: a, b."
