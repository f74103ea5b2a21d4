import itertools
import json
import random
import unicodedata
from pathlib import Path

import gguf
import numpy as np
import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from satjax.errors import SatjaxError
from satjax.weights.gguf import GGUFFile
from tests.base_models import smollm2
from tests.tiny import tiny_tokenizer

HEADS, KV_HEADS, HEAD_WIDTH, WIDTH, MLP = 4, 2, 16, 64, 96
TOKENIZER = tiny_tokenizer()
VOCAB = [token for token, _ in sorted(TOKENIZER.get_vocab().items(), key=lambda pair: pair[1])]


def interleaved(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """llama.cpp's order of a head's rows: pair i of its rotary embedding, rows i and i + half, side by side."""
    out, head_width = np.empty_like(rows), len(rows) // num_heads
    for row in range(len(rows)):
        head, within = divmod(row, head_width)
        half, pair = divmod(within, head_width // 2)
        out[head * head_width + 2 * pair + half] = rows[row]
    return out


def hugging_face_tensors(biases: bool = False) -> dict[str, np.ndarray]:
    rng, at = np.random.default_rng(0), "model.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (len(VOCAB), WIDTH),
        "model.norm.weight": (WIDTH,),
        f"{at}input_layernorm.weight": (WIDTH,),
        f"{at}post_attention_layernorm.weight": (WIDTH,),
        f"{at}self_attn.o_proj.weight": (WIDTH, HEADS * HEAD_WIDTH),
        f"{at}mlp.gate_proj.weight": (MLP, WIDTH),
        f"{at}mlp.up_proj.weight": (MLP, WIDTH),
        f"{at}mlp.down_proj.weight": (WIDTH, MLP),
    }
    for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
        shapes[f"{at}self_attn.{name}_proj.weight"] = (heads * HEAD_WIDTH, WIDTH)
        if biases:
            shapes[f"{at}self_attn.{name}_proj.bias"] = (heads * HEAD_WIDTH,)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.0.": "blk.0.",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    file: Path,
    tensors: dict[str, np.ndarray],
    quantized: dict[str, gguf.GGMLQuantizationType] | None = None,
    architecture: str = "llama",
    leave_out: str = "",
    **changes: object,
) -> Path:
    """A model of one layer as llama.cpp's converter would write it; `changes` are further metadata, `__` for `.`."""
    writer = gguf.GGUFWriter(file, architecture)
    metadata: dict[str, object] = {
        f"{architecture}.block_count": 1,
        f"{architecture}.context_length": 128,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.feed_forward_length": MLP,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": KV_HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 0.5,
        f"{architecture}.rope.freq_base": 5000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": VOCAB,
        "tokenizer.ggml.token_type": [3 if token == "<s>" else 1 for token in VOCAB],
        "tokenizer.ggml.merges": merges_of_the_tiny_tokenizer(),
        "tokenizer.ggml.bos_token_id": 0,
    } | {name.replace("__", "."): value for name, value in changes.items()}
    for name, value in metadata.items():
        if name == leave_out:
            continue
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)](name, value)
    for name, value in tensors.items():
        if architecture == "llama" and ".q_proj." in name:
            value = interleaved(value, HEADS)
        if architecture == "llama" and ".k_proj." in name:
            value = interleaved(value, KV_HEADS)
        kind = (quantized or {}).get(name)
        for long, short in GGUF_NAMES.items():
            name = name.replace(long, short)
        if kind is None:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def merges_of_the_tiny_tokenizer() -> list[str]:
    return [" ".join(merge) for merge in json.loads(TOKENIZER.to_str())["model"]["merges"]]


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_names_orientation_and_permutation_are_hugging_faces(tmp_path, architecture, biases):
    tensors = hugging_face_tensors(biases)
    read = GGUFFile(write_gguf(tmp_path / "model.gguf", tensors, architecture=architecture))
    assert set(read) == set(tensors)
    assert len(read) == len(tensors)
    for name, value in tensors.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name][...], value, err_msg=name)
    assert read.config()["attention_bias"] == biases
    with pytest.raises(KeyError):
        read["model.layers.1.mlp.up_proj.weight"]


@pytest.mark.parametrize(
    ("kind", "levels"), [("F16", None), ("BF16", None), ("Q8_0", 254), ("Q4_1", 15), ("Q4_0", 14), ("Q5_1", 31)]
)
def test_quantized_tensors_come_back_to_within_their_step(tmp_path, kind, levels):
    tensors = hugging_face_tensors()
    chosen = [f"model.layers.0.{name}.weight" for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")]
    quantized = dict.fromkeys(chosen, gguf.GGMLQuantizationType[kind])
    read = GGUFFile(write_gguf(tmp_path / "model.gguf", tensors, quantized))
    for name in chosen:
        value = tensors[name]
        blocks = value.reshape(-1, 32)
        # Half a step of the block of 32 (a whole one at the short end of a signed range), and float16's error of the scale.
        span = 2 * np.abs(blocks).max(1) if kind in ("Q8_0", "Q4_0") else np.ptp(blocks, 1)
        step = span / levels if levels else np.abs(blocks).max(1) * 2**-7
        error = np.abs(read[name][...] - value).reshape(-1, 32).max(1)
        assert read[name].dtype == np.float32
        assert np.all(error <= step * (1.1 if kind == "Q4_0" else 0.55) + 2e-3)
        assert error.max() > 0


def test_config_from_metadata(tmp_path):
    config = GGUFFile(write_gguf(tmp_path / "model.gguf", hugging_face_tensors())).config()
    assert config == {
        "model_type": "llama",
        "vocab_size": len(VOCAB),
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_WIDTH,
        "intermediate_size": MLP,
        "rms_norm_eps": 0.5,
        "rope_theta": 5000.0,
        "partial_rotary_factor": 1.0,
        "attention_bias": False,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": None,
    }


def test_an_output_matrix_means_an_untied_head(tmp_path):
    head = {"lm_head.weight": np.ones((len(VOCAB), WIDTH), np.float32)}
    read = GGUFFile(write_gguf(tmp_path / "model.gguf", {**hugging_face_tensors(), **head}))
    assert not read.config()["tie_word_embeddings"]
    np.testing.assert_array_equal(read["lm_head.weight"][...], head["lm_head.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "phi3"}, "GGUF architecture 'phi3' is not supported; llama, qwen2 are"),
        ({"llama__rope__scaling__type": "yarn"}, "rope scaling in a GGUF file is not supported"),
        ({"llama__rope__scaling__factor": 4.0}, "rope scaling in a GGUF file is not supported"),
        ({"llama__rope__scale_linear": 4.0}, "rope scaling in a GGUF file is not supported"),
        ({"llama__attention__head_count": [4]}, r"head_count is \[4\], not one number above 0; layers of different"),
        ({"llama__attention__head_count_kv": [2]}, r"head_count_kv is \[2\], not one number above 0"),
        ({"llama__feed_forward_length": [96]}, r"feed_forward_length is \[96\], not one number above 0"),
        ({"llama__attention__head_count": 0}, "head_count is 0, not one number above 0"),
        ({"tokenizer__ggml__model": "llama"}, "tokenizer model 'llama' is not supported"),
        ({"tokenizer__ggml__pre": "llama-bpe"}, "pre-tokenizer 'llama-bpe' is not supported"),
        ({"tokenizer__ggml__merges": ["no such"]}, "truncated or no GGUF file"),
        ({"tokenizer__ggml__token_type": [3, 1]}, "truncated or no GGUF file"),
        ({"leave_out": "tokenizer.ggml.merges"}, "truncated or no GGUF file"),
        ({"leave_out": "llama.block_count"}, "llama.block_count is missing"),
    ],
)
def test_what_is_not_read_is_refused_in_one_line(tmp_path, changes, message):
    file = write_gguf(tmp_path / "model.gguf", hugging_face_tensors(), **changes)

    def read() -> None:
        opened = GGUFFile(file)
        opened.config()
        opened.tokenizer()

    with pytest.raises(SatjaxError, match=message) as raised:
        read()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"llama__rope__scaling__factor": 1.0},
        {"llama__rope__scale_linear": 0.0},
        {"llama__rope__scaling__type": "none", "llama__rope__scaling__factor": 4.0},
    ],
)
def test_a_factor_that_scales_nothing_is_read(tmp_path, changes):
    assert GGUFFile(write_gguf(tmp_path / "model.gguf", hugging_face_tensors(), **changes)).config()["head_dim"] == 16


def test_frequencies_of_a_scaled_rotary_embedding_are_not_dropped_silently(tmp_path):
    tensors = {**hugging_face_tensors(), "rope_freqs.weight": np.ones(HEAD_WIDTH // 2, np.float32)}
    with pytest.raises(SatjaxError, match="rope scaling"):
        GGUFFile(write_gguf(tmp_path / "model.gguf", tensors))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("whole") / "model.gguf", hugging_face_tensors()).read_bytes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_one_line(whole, tmp_path_factory, share):
    file = tmp_path_factory.mktemp("cut") / "model.gguf"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SatjaxError, match=r"truncated or no GGUF file|not supported") as raised:
        GGUFFile(file)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_goes_into_the_metadata_and_comes_back(tmp_path):
    read = GGUFFile(write_gguf(tmp_path / "model.gguf", hugging_face_tensors())).tokenizer()
    assert read.get_vocab() == TOKENIZER.get_vocab()
    for text in [*texts(100), "<s>list the words<s>"]:
        assert read.encode(text).ids == TOKENIZER.encode(text).ids
        assert read.decode(read.encode(text).ids) == text.replace("<s>", "")


def test_user_defined_tokens_are_matched_whole_but_are_not_special(tmp_path):
    tokens = [*VOCAB, "<think>"]
    tensors = {**hugging_face_tensors(), "model.embed_tokens.weight": np.ones((len(tokens), WIDTH), np.float32)}
    types = [3, *[1] * (len(VOCAB) - 1), 4]
    changes = {"tokenizer__ggml__tokens": tokens, "tokenizer__ggml__token_type": types}
    read = GGUFFile(write_gguf(tmp_path / "model.gguf", tensors, **changes)).tokenizer()
    assert read.encode("<think>").ids == [len(VOCAB)]
    assert read.decode([0, len(VOCAB)]) == "<think>"


@pytest.mark.parametrize(("style", "whole"), [("smollm", False), ("gpt-2", True)])
def test_smollm_keeps_digits_apart_even_where_a_merge_would_join_them(tmp_path, style, whole):
    tensors = {**hugging_face_tensors(), "model.embed_tokens.weight": np.ones((len(VOCAB) + 1, WIDTH), np.float32)}
    changes = {
        "tokenizer__ggml__pre": style,
        "tokenizer__ggml__tokens": [*VOCAB, "12"],
        "tokenizer__ggml__token_type": [3, *[1] * len(VOCAB)],
        "tokenizer__ggml__merges": [*merges_of_the_tiny_tokenizer(), "1 2"],
    }
    read = GGUFFile(write_gguf(tmp_path / "model.gguf", tensors, **changes)).tokenizer()
    assert read.encode("12").tokens == (["12"] if whole else ["1", "2"])


def test_qwen2_words_are_those_of_its_own_tokenizer(tmp_path):
    from transformers import Qwen2Tokenizer

    merges = [tuple(merge.split(" ")) for merge in merges_of_the_tiny_tokenizer()]
    reference = Qwen2Tokenizer(vocab=TOKENIZER.get_vocab(), merges=merges)
    file = write_gguf(
        tmp_path / "model.gguf", hugging_face_tensors(), architecture="qwen2", tokenizer__ggml__pre="qwen2"
    )
    read = GGUFFile(file).tokenizer()
    # <|endoftext|> is a control token of that class whatever the vocabulary, and none of this file.
    for text in (text.replace("<|endoftext|>", "") for text in texts(300)):
        assert read.encode(text).ids == reference(text, add_special_tokens=False)["input_ids"], text


# --- the tokenizer of the real file ---

SCRIPTS = "abcxyzÄßéñçøŁžİıﬁ中文字漢语日本語ひらがなカタカナ한국어русскийελληνικάעבריתالعربيةहिन्दीไทยភាសាᚠ𝕏𐍈"
FRAGMENTS = [
    *("0", "7", "42", "2024", "3.14159", "1,000,000", "0xFF", "1e-9", "²", "½", "Ⅷ", "٣٤", "१२", "四", "12th", "v2.0.1"),
    *(" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\u00a0", "\u2003", "\u3000", "\u200b", "        ", "\x0b", "\x0c"),
    *("it's", "WE'LL", "I'd", "they've", "'S", "’s", "don't", "'", "''", "rock'n'roll"),
    *("def f(x):\n    return x[0] ** 2  # why", "for (int i=0;i<n;++i) {", "}\n", "&&", "||", "->", "::", "</p>", "\\n", "==="),
    *("SELECT * FROM t WHERE a<>'b';", "https://example.org/a?b=1&c=%20", "user@example.org", "C:\\path\\to", "`code`", "$x_{i}^2$"),
    *("😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇺🇸", "❤️", "✨✨", "🤷‍♂️", "🫠"),
    *("e\u0301", "n\u0303", "\u0301", "\u200d", "\ufe0f", "\u202e", "\ufeff", "ﷺ", "ǅ", "ſ"),
    *("The", " quick", " brown", "fox", "Yes", " Yes", "No", " No", "instruction", "supercalifragilistic", "HTTPServerError"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start", "<gh_stars>", "!?", "...", "—", "«»", "(", ")]", "“"),
]  # fmt: skip


def texts(count: int) -> list[str]:
    """Strings of fragments, letters of many scripts and assigned characters of the basic plane, the same every time."""
    draw = random.Random(0)
    assigned = [chr(i) for i in range(32, 0xFFFE) if unicodedata.category(chr(i)) not in ("Cn", "Cs", "Co", "Cc")]

    def piece() -> str:
        kind = draw.random()
        if kind < 0.75:
            return draw.choice(FRAGMENTS)
        return "".join(draw.choices(SCRIPTS if kind < 0.9 else assigned, k=draw.randint(1, 8)))

    return ["".join(piece() for _ in range(draw.randint(1, 14))) for _ in range(count)]


class BytePairs:
    """Byte-level BPE by the book: digits one by one, GPT-2's words, then always the merge learned first."""

    WORDS = regex.compile(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

    def __init__(self, tokens: list[str], merges: list[str], control: list[str]):
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self.control = regex.compile("(" + "|".join(map(regex.escape, control)) + ")")
        # Printable Latin-1 stands for itself and the other bytes follow from U+0100 on, in order.
        shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
        hidden = [byte for byte in range(256) if byte not in shown]
        self.letter = {byte: chr(byte if byte in shown else 256 + hidden.index(byte)) for byte in range(256)}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self.control.split(text):
            if self.control.fullmatch(part):
                ids.append(self.ids[part])
                continue
            for stretch in regex.split(r"(\p{N})", part):
                for word in self.WORDS.findall(stretch):
                    ids += self.merged(word)
        return ids

    def merged(self, word: str) -> list[int]:
        symbols = [self.letter[byte] for byte in word.encode()]
        symbols = [symbol for symbol in symbols if symbol in self.ids]  # a byte that has no token is lost
        while len(symbols) > 1:
            ranks = [self.ranks.get(pair, len(self.ranks)) for pair in itertools.pairwise(symbols)]
            first = min(ranks)
            if first == len(self.ranks):
                break
            at = ranks.index(first)
            symbols[at : at + 2] = ["".join(symbols[at : at + 2])]
        return [self.ids[symbol] for symbol in symbols]


@pytest.fixture(scope="module")
def real() -> GGUFFile:
    return GGUFFile(next(smollm2().directory.glob("*.gguf")))


def test_the_texts_hold_what_they_should():
    joined = "\n".join(texts(1000))
    assert len(set(texts(1000))) > 980
    for kind in (
        r"\p{Nd}",
        r"\p{No}",
        r"\p{Nl}",
        r"\p{Emoji_Presentation}",
        r"\p{Mn}",
        r"\s{3}",
        r"\p{Han}",
        r"\p{Arabic}",
    ):
        assert len(regex.findall(kind, joined)) > 30, kind


def test_the_tokenizer_equals_bpe_by_the_book_on_a_thousand_texts(real):
    tokens, types = real.metadata["tokenizer.ggml.tokens"], real.metadata["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == 3]
    reference = BytePairs(tokens, real.metadata["tokenizer.ggml.merges"], control)
    tokenizer = real.tokenizer()
    for text in texts(1000):
        assert tokenizer.encode(text).ids == reference.encode(text), repr(text)


def test_the_tokenizer_equals_transformers_between_digits_on_a_thousand_texts(real, torch):
    """transformers converts this file's merges but not its rule that digits stand alone, so it gets the parts between digits."""
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(real.file.parent, gguf_file=real.file.name)
    tokenizer = real.tokenizer()
    for text in texts(1000):
        parts = [part for part in regex.split(r"(\p{N})", text) if part]
        ids = [i for part in parts for i in reference(part, add_special_tokens=False)["input_ids"]]
        assert tokenizer.encode(text).ids == ids, repr(text)


def test_the_real_tokenizer_keeps_answers_and_control_tokens_whole(real):
    tokenizer = real.tokenizer()
    ids = {text: tokenizer.encode(text).ids for text in ("Yes", " Yes", "No", " No", "<|im_start|>", "<|im_end|>")}
    assert ids == {
        "Yes": [10539],
        " Yes": [9230],
        "No": [5230],
        " No": [2838],
        "<|im_start|>": [1],
        "<|im_end|>": [2],
    }
    text = "Is 2024 = 2 * 1012?\n\tJa — 是的 👍🏽"
    assert tokenizer.decode(tokenizer.encode(f"<|im_start|>{text}<|im_end|>").ids) == text
    assert set(ByteLevel.alphabet()) > {token for token in tokenizer.get_vocab() if len(token) == 1}


def test_the_real_file_as_a_config_and_as_numbers(real):
    config = real.config()
    assert (config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]) == (576, 30, 9)
    assert (config["num_key_value_heads"], config["head_dim"], config["intermediate_size"]) == (3, 64, 1536)
    assert (config["rope_theta"], config["max_position_embeddings"], config["vocab_size"]) == (100_000.0, 8192, 49152)
    assert (config["bos_token_id"], config["eos_token_id"], config["tie_word_embeddings"]) == (1, 2, True)
    assert config["rms_norm_eps"] == pytest.approx(1e-5)
    assert len(real) == 272
    values = [real[f"model.layers.29.self_attn.{name}_proj.weight"][...] for name in "qkvo"]
    assert [value.shape for value in values] == [(576, 576), (192, 576), (192, 576), (576, 576)]
    assert all(np.isfinite(value).all() and 0 < value.std() < 1 for value in values)
