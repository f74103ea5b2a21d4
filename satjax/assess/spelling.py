"""One spelling of what keyboards and writing systems have several of: full-width forms, brackets and quotes of East Asia, composed accents."""

import unicodedata

_BRACKETS = str.maketrans("【〔《〈「『】〕》〉」』", "[[[[[[]]]]]]")
_OWN_MEANING = ("<super>", "<sub>", "<fraction>")
"""Characters that are another thing than what they are composed of: 10² is not 102."""


def plainly(text: str) -> str:
    """The text in its plain spelling (NFKC, but for powers, indices and fractions): `（Ａ）` is `(A)`, and so is `【A】` but for the kind of brackets."""
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_FORMS))


class _Forms(dict[int, str]):
    """The plain form of each character, found when it is first met."""

    def __missing__(self, code: int) -> str:
        form = character = chr(code)
        if not unicodedata.decomposition(character).startswith(_OWN_MEANING):
            form = unicodedata.normalize("NFKC", character).translate(_BRACKETS)
        self[code] = form
        return form


_FORMS = _Forms()
