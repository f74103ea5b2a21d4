"""python benchmarks/streaming.py --checkpoint DIR --out benchmarks/results/streaming.json

What a host holds while base weights go onto the mesh. Generates a checkpoint of Phi-3.5-mini's shape (3.8B parameters, bfloat16, random
values) as safetensors shards, if DIR is empty, then places it parameter by parameter on simulated devices as training does
(`satjax.weights.lazy.place_tensor`), in a process of its own for each mesh. On a CPU the memory of a device is the host's, so each parameter
is let go once it lies on all devices: peak memory over that before the first one, less the parameter that lay there, is what placing itself
needs. A share that JAX takes over without a copy counts as device memory here and would be the host's beside an accelerator, so what a host
holds there is at most one device's share of a parameter more.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SHARD_BYTES = 10**9
PHI35 = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 8192,
    "vocab_size": 32064,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width)}
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        shapes |= {
            f"{at}.input_layernorm.weight": (width,),
            f"{at}.self_attn.qkv_proj.weight": (3 * width, width),
            f"{at}.self_attn.o_proj.weight": (width, width),
            f"{at}.post_attention_layernorm.weight": (width,),
            f"{at}.mlp.gate_up_proj.weight": (2 * mlp, width),
            f"{at}.mlp.down_proj.weight": (width, mlp),
        }
    return shapes | {"model.norm.weight": (width,), "lm_head.weight": (vocab, width)}


def generate(directory: Path, config: dict[str, Any]) -> None:
    """Random values, one shard in memory at a time."""
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file

    rng, held, number = np.random.default_rng(0), {}, 0

    def flush() -> None:
        nonlocal held, number
        number += 1
        save_file(held, str(directory / f"model-{number:05d}.safetensors"), metadata={"format": "pt"})
        held = {}

    directory.mkdir(parents=True, exist_ok=True)
    for name, shape in tensor_shapes(config).items():
        bits = rng.integers(0, 2**16, shape, np.uint16)
        # Sign and fraction at random, the exponent that of 1/128 to 1/64.
        held[name] = ((bits & 0x807F) | (120 << 7)).view(ml_dtypes.bfloat16)
        if sum(value.nbytes for value in held.values()) > SHARD_BYTES:
            flush()
    flush()
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")


def resident() -> dict[str, int]:
    """Bytes of this process in memory: its own, and pages of files that it has mapped."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[key].split()[0]) * 1024 for name, key in (("own", "RssAnon"), ("mapped", "RssFile"))}


class Peak:
    """The largest `resident` seen, looked at every two milliseconds by a thread."""

    def __init__(self) -> None:
        self.own = self.both = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.is_set():
            now = resident()
            self.own, self.both = max(self.own, now["own"]), max(self.both, sum(now.values()))
            time.sleep(0.002)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def measure(directory: Path, fsdp: int) -> dict[str, Any]:
    """Places every parameter on a mesh of `fsdp` devices, in bfloat16, and lets it go."""
    import jax
    import ml_dtypes

    from satjax.config import MeshConfig
    from satjax.sharding import make_mesh, param_shardings
    from satjax.weights.lazy import place_tensor
    from satjax.weights.names import decoder_config, decoder_params
    from satjax.weights.safetensors_dir import SafetensorsDir

    mesh = make_mesh(MeshConfig(data=1, fsdp=fsdp), jax.devices()[:fsdp])
    config = json.loads((directory / "config.json").read_text("utf-8"))
    params = decoder_params(SafetensorsDir(directory), decoder_config(config), ml_dtypes.bfloat16)
    shardings = param_shardings({f"llm/{path}": value for path, value in params.items()}, mesh)
    jax.block_until_ready(jax.numpy.ones(8))
    # One baseline for all: what an allocator keeps of a parameter that was let go would hide part of the next one's peak.
    start, rows, began = resident(), [], time.perf_counter()
    for path, tensor in params.items():
        with Peak() as peak:
            array = place_tensor(tensor, shardings[f"llm/{path}"])
        shard = max(part.data.nbytes for part in array.addressable_shards)
        assert array.nbytes == tensor.nbytes
        del array
        rows.append(
            {
                "parameter": path,
                "bytes": tensor.nbytes,
                "bytes_per_device": shard,
                "peak_over_start": peak.own - start["own"],
                "peak_with_mapped_files_over_start": peak.both - sum(start.values()),
            }
        )
    model = sum(row["bytes"] for row in rows)
    placing = max(row["peak_over_start"] - row["bytes"] for row in rows)
    mapped = max(row["peak_with_mapped_files_over_start"] - row["bytes"] for row in rows)
    share = max(row["bytes_per_device"] for row in rows)
    return {
        "devices": fsdp,
        "seconds": round(time.perf_counter() - began, 1),
        "model_bytes": model,
        "largest_parameter_bytes": max(row["bytes"] for row in rows),
        "largest_share_of_a_device_bytes": share,
        "peak_beside_the_parameter_bytes": placing,
        "peak_beside_the_parameter_with_mapped_files_bytes": mapped,
        "share_of_the_model": round(mapped / model, 4),
        "share_of_the_model_beside_an_accelerator_at_most": round((mapped + share) / model, 4),
        "parameters": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path, help="where the generated model lies or goes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--layers", type=int, default=PHI35["num_hidden_layers"], help="fewer for a trial")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.checkpoint, options.measure)))
        return
    if not (options.checkpoint / "config.json").is_file():
        generate(options.checkpoint, {**PHI35, "num_hidden_layers": options.layers})
    meshes = []
    for devices in (1, 8):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        command = [sys.executable, __file__, "--checkpoint", str(options.checkpoint), "--measure", str(devices)]
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        meshes.append(json.loads(found.stdout))
        print({key: value for key, value in meshes[-1].items() if key != "parameters"})
    if options.out:
        files = sorted(options.checkpoint.glob("*.safetensors"))
        report = {
            "date": datetime.date.today().isoformat(),
            "command": "python benchmarks/streaming.py --checkpoint DIR --out benchmarks/results/streaming.json",
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "platform": "cpu"},
            "checkpoint": {
                "files": len(files),
                "bytes": sum(file.stat().st_size for file in files),
                "dtype": "bfloat16",
            },
            "meshes": meshes,
        }
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
