"""The engine and those it is compared with: all compute the logits of the same GPT-2 for the same token sequences.

Random weights of the published 124M shape, drawn once by transformers and given to everyone: speed does not depend on what they
are, and whether all compute the same can be seen. ONNX Runtime and OpenVINO get our own graph, last block at the read position
only and batches sorted by length, so that they are as fast as they can be. A peer that is not installed is left out with a
sentence. Called by `engine.py`.
"""

import copy
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spamd.inference.dividing import budgeted
from spamd.inference.engine import Engine
from spamd.mail.text import TEXT_VERSION
from spamd.model.card import BaseNote, CheckpointCard
from spamd.model.checkpoint import Checkpoint
from spamd.model.classifier import Classifier, pad
from spamd.model.gpt2 import GPT2, PUBLISHED, GPT2Config
from spamd.model.heads import LastToken
from spamd.model.int8 import is_exact
from spamd.model.tokenizer import Tokenizer, vocabulary_bytes

MEDIAN_TOKENS, SPREAD, CUT = 280, 0.7, 512
BATCH_MESSAGES = 8
PEER_BATCH_TOKENS = 1024
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")

Ids = Sequence[list[int]]
Contestant = Callable[[Ids], Tensor]
"""Token sequences, N of them, to logits, (N, 2), in their order."""


def length_mix(num_messages: int, vocab_size: int, seed: int = 123) -> list[list[int]]:
    """Draw token sequences whose lengths are log-normal (median 280, sigma 0.7) and cut at 512."""
    draw = random.Random(seed)  # noqa: S311  no secret
    lengths = [max(1, min(CUT, round(draw.lognormvariate(log(MEDIAN_TOKENS), SPREAD)))) for _ in range(num_messages)]
    return [[draw.randrange(vocab_size) for _ in range(length)] for length in lengths]


def transformers_model(config: GPT2Config) -> Any:
    """Make GPT2ForSequenceClassification with random weights."""
    from transformers import GPT2Config as TheirConfig
    from transformers import GPT2ForSequenceClassification

    torch.manual_seed(123)
    sizes = {"n_embd": config.n_embd, "n_layer": config.n_layer, "n_head": config.n_head}
    return GPT2ForSequenceClassification(TheirConfig(**sizes, num_labels=2, pad_token_id=config.vocab_size - 1)).eval()


def our_classifier(theirs: Any, config: GPT2Config) -> Classifier:
    """Make our classifier with the weights of transformers' model."""
    classifier = Classifier(GPT2(config), LastToken(config.n_embd, 2)).eval()
    trunk = {
        name: (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()
        for name, tensor in theirs.transformer.state_dict().items()
        if name in classifier.trunk.state_dict()
    }
    classifier.trunk.load_state_dict(trunk)
    classifier.head.load_state_dict({"linear.weight": theirs.score.weight.detach(), "linear.bias": torch.zeros(2)})
    return classifier


def our_engine(
    classifier: Classifier, config: GPT2Config, device: torch.device, arithmetic: Any = "float", **options: Any
) -> Engine:
    """Put our classifier into the engine that the daemon uses."""
    notes = {"text_version": TEXT_VERSION, "max_tokens": CUT, "arithmetic": arithmetic}
    card = CheckpointCard(trunk=config, base=BaseNote(name="random"), **notes)
    vocabulary = Tokenizer(vocabulary_bytes({bytes([value]): value for value in range(256)}), "bytes")
    return Engine(Checkpoint(card, classifier, vocabulary), device=device, **options)


def as_documented(model: Any, pad_id: int) -> Contestant:
    """Transformers as its documentation shows it: padded batches of 8, in the order in which they come."""

    @torch.no_grad()
    def run(sequences: Ids) -> Tensor:
        found = []
        for start in range(0, len(sequences), BATCH_MESSAGES):
            ids, lengths = pad(sequences[start : start + BATCH_MESSAGES], pad_id)
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            found.append(model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits.float().cpu())
        return torch.cat(found)

    return run


def sorted_by_length(inner: Contestant) -> Contestant:
    """The same, with the messages sorted by length first."""

    def run(sequences: Ids) -> Tensor:
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        found = torch.empty(len(sequences), 2)
        found[order] = inner([sequences[index] for index in order])
        return found

    return run


def in_batches(step: Callable[[Any, Any], Any], pad_id: int) -> Contestant:
    """A graph that takes ids and lengths, fed with batches of similar length of at most 1,024 tokens."""

    def run(sequences: Ids) -> Tensor:
        found = torch.empty(len(sequences), 2)
        for batch in budgeted([len(sequence) for sequence in sequences], PEER_BATCH_TOKENS):
            ids, lengths = pad([sequences[index] for index in batch], pad_id)
            found[batch] = torch.from_numpy(np.array(step(ids.numpy(), lengths.numpy())))
        return found

    return run


def exported(classifier: Classifier, folder: Path) -> Path:
    """Write our classifier as an ONNX graph that takes any number of sequences of any length."""
    file = folder / "classifier.onnx"
    ids = torch.randint(0, 1000, (3, 20))
    shapes = {"ids": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}, "lengths": {0: torch.export.Dim.DYNAMIC}}
    arguments = (ids, torch.tensor([20, 11, 5]))
    torch.onnx.export(
        classifier, arguments, file, dynamo=True, dynamic_shapes=shapes, input_names=["ids", "lengths"], verbose=False
    )
    return file


def onnx_session(file: Path, threads: int) -> Callable[[Any, Any], Any]:
    """Run a graph with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda ids, lengths: session.run(None, {"ids": ids, "lengths": lengths})[0]


def openvino_model(file: Path, threads: int) -> Callable[[Any, Any], Any]:
    """Run a graph with OpenVINO."""
    import openvino

    model = openvino.Core().compile_model(file, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
    return lambda ids, lengths: model([ids, lengths])[0]


def quantised(file: Path) -> Path:
    """Write an int8 copy of a graph, as ONNX Runtime's documentation shows for transformers on x86 without VNNI."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    int8 = file.with_name("classifier_int8.onnx")
    quantize_dynamic(file, int8, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    return int8


def contestants(threads: int, has_bfloat16: bool) -> Iterator[tuple[str, Contestant]]:
    """Make everyone ready, ours first.

    Yields:
        Name and contestant. What is left out is told on standard output.
    """
    config = PUBLISHED["gpt2"]
    pad_id = config.vocab_size - 1
    theirs = transformers_model(config)
    ours = our_classifier(theirs, config)
    # Engines change the classifier that they get; what is exported below is whole.
    yield "spamd", our_engine(copy.deepcopy(ours), config, torch.device("cpu"), precision="auto").logits
    if is_exact():
        yield "spamd int8", our_engine(copy.deepcopy(ours), config, torch.device("cpu"), arithmetic="int8").logits
    yield "transformers, as documented", as_documented(theirs, pad_id)
    if has_bfloat16:
        half = transformers_model(config).bfloat16()
        yield "transformers bf16, sorted", sorted_by_length(as_documented(half, pad_id))
    else:
        yield "transformers fp32, sorted", sorted_by_length(as_documented(theirs, pad_id))
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
    if missing:
        print(
            f"Left out: ONNX Runtime and OpenVINO, because {' and '.join(missing)} are missing; pip install --group benchmarks."
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        file = exported(ours, Path(folder))
        yield "onnxruntime fp32", in_batches(onnx_session(file, threads), pad_id)
        yield "onnxruntime int8", in_batches(onnx_session(quantised(file), threads), pad_id)
        if find_spec("openvino"):
            yield "openvino", in_batches(openvino_model(file, threads), pad_id)
        else:
            print("Left out: OpenVINO, because it is not installed; pip install --group benchmarks.")
