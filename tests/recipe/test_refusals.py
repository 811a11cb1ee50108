"""One wrong value a case: the block that is put into a valid recipe, and the line of the message."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

CASES = r"""
dataset: {name: digts}
    dataset.name = digts   unknown dataset; known: digits, avmnist. Did you mean digits?

dataset: {root: x}
    dataset.name   required; known: digits, avmnist.

dataset: {name: [digits]}
    dataset.name = [digits]   must be the name of a dataset; known: digits, avmnist.

dataset: digits
    dataset = digits   must be a mapping, such as {key: value}

dataset: {name: digits, root: ''}
    dataset.root = ""   must have at least 1 character

dataset: {name: digits, path: x}
    dataset.path = x   unknown key; known: name, prepare, root.

dataset: {name: digits, prepare: {noise: '5'}}
    dataset.prepare.noise = "5"   must be a number

dataset: {name: digits, prepare: {noise: true}}
    dataset.prepare.noise = true   must be a number

dataset: {name: digits, prepare: {noise: .nan}}
    dataset.prepare.noise = .nan   must be a finite number

dataset: {name: digits, prepare: {amplitude: [1]}}
    dataset.prepare.amplitude[1]   required

dataset: {name: digits, prepare: {amplitude: [1, -.inf]}}
    dataset.prepare.amplitude[1] = -.inf   must be a finite number

dataset: {name: digits, prepare: {ratio: many}}
    dataset.prepare.ratio = many   must be one of: auto, or must be a number

dataset: {name: digits, prepare: {tone: {kind: tone, rwos: 1}}}
    dataset.prepare.tone.rwos = 1   unknown key; known: kind, rows. Did you mean rows?

dataset: {name: digits, prepare: {audio: {kind: hiss, level: x}}}
    dataset.prepare.audio.level = x   must be a number

dataset: {name: digits, prepare: {audio: {kind: hiss, lvl: 1}}}
    dataset.prepare.audio.lvl = 1   unknown key

dataset: {name: digits, prepare: {audio: {level: 1}}}
    dataset.prepare.audio = {level: 1}   must be a mapping that names its kind

dataset: {name: digits, prepare: {tones: [{kind: tone, rwos: 1}]}}
    dataset.prepare.tones[0].rwos = 1   unknown key; known: kind, rows. Did you mean rows?

dataset: {name: digits, prepare: {parts: {B: 1}}}
    dataset.prepare.parts.B = 1   must match pattern '^[a-z]+$'

modalities:
    modalities   required: at least one, such as {audio: {backbone: resnet_small}}

modalities: [audio]
    modalities = [audio]   must be a mapping, such as {key: value}

modalities: {audio: small}
    modalities.audio = small   must be a mapping, such as {key: value}

modalities: {audio: {width: 3}}
    modalities.audio.backbone   required; known: small, broken.

modalities: {audio: {backbone: smal}}
    modalities.audio.backbone = smal   unknown backbone; known: small, broken. Did you mean small?

modalities: {audio: {backbone: small, widht: 3}}
    modalities.audio.widht = 3   unknown key; known: backbone, frames, size, flip, augment, weights, lr, layer_decay,
    checkpointing, lora, width. Did you mean width?

modalities: {audio: {backbone: broken}}
    modalities.audio.backbone = broken   backbone 'broken' (from other.package) does not load: no such
    module

modalities: {a.b: {backbone: small}}
    modalities.a.b   the name of a modality must have no dot, and must not be 'fusion' or
    'joint'

modalities: {fusion: {backbone: small}}
    modalities.fusion   the name of a modality must have no dot, and must not be 'fusion' or
    'joint'

fusion: 3
    fusion = 3   must be a mapping, such as {key: value}

fusion: {bias: true}
    fusion.bias = true   unknown key; known: name, lr.

method: strng
    method = strng   must be a label of methods; known: relearn, joint, strong. Did you mean strong?

method:
    method = null   must be a string

methods: {}
    methods   required: at least one, such as {joint: {}}

methods: {relearn: , jiont: }
    methods.jiont   unknown method 'jiont'; known: joint, relearn, picky. Did you mean joint?

methods: {relearn: {lambda_: 1}}
    methods.relearn.lambda_ = 1   unknown key; known: method, relearn, training, every, lambda. Did you mean lambda?

methods: {relearn: , all: {method: joint}}
    methods.all   'all' means every label on the command line; choose another label

methods: {relearn: , ../x: {method: joint}}
    methods."../x"   must be a name: letters, digits, _ . and -, a letter or digit first, 100 at most

training: 3
    training = 3   must be a mapping, such as {key: value}

training: {epochs: 0, optimizer: {name: sgd, lr: 1}}
    training.epochs = 0   must be from 1 to 1,000,000

training: {epochs: 5}
    training.optimizer.name   required; known: sgd, adam, adamw.

training: {epochs: 5, optimizer: {name: sgd}}
    training.optimizer.lr   required

training: {epochs: 5, optimizer: sgd}
    training.optimizer = sgd   must be a mapping, such as {key: value}

training: {epochs: 5, optimizer: {name: agam, lr: 1}}
    training.optimizer.name = agam   unknown optimizer; known: sgd, adam, adamw. Did you mean adam?

training: {epochs: 5, optimizer: {name: sgd, lr: 1, betas: [0, 0]}}
    training.optimizer.betas = [0, 0]   unknown key; known: name, lr, momentum, weight_decay, nesterov.

training: {epochs: 5, optimizer: {name: adam, lr: 1, betas: [0, 1]}}
    training.optimizer.betas[1] = 1   must be at least 0 and less than 1

training: {epochs: 5, optimizer: {name: sgd, lr: .inf}}
    training.optimizer.lr = .inf   must be greater than 0 and at most 1,000,000

training: {epochs: 5, optimizer: {name: sgd, lr: 1e999}}
    training.optimizer.lr = .inf   must be greater than 0 and at most 1,000,000

training: {epochs: 5, optimizer: {name: sgd, lr: 1e300}}
    training.optimizer.lr = 1.0e+300   must be greater than 0 and at most 1,000,000

training: {epochs: 5, batch_size: 4611686018427387904, optimizer: {name: sgd, lr: 1}}
    training.batch_size = 4611686018427387904   must be from 1 to 1,000,000

training: {epochs: 5, optimizer: {name: sgd, lr: 1, momentum: 0, nesterov: true}}
    training.optimizer.nesterov = true   needs momentum greater than 0

training: {epochs: 5, optimizer: {name: sgd, lr: 1}, schedule: {name: cosine, warmup_epochs: 5}}
    training.schedule.warmup_epochs = 5   must be less than training.epochs, 5

training: {epochs: 5, optimizer: {name: sgd, lr: 1}, schedule: {name: cosine, final: 2}}
    training.schedule.final = 2   must be from 0 to 1

training: {epochs: 5, optimizer: {name: sgd, lr: 1}, compile: reduce-overhead, accumulate: 2}
    training.compile = reduce-overhead   CUDA graphs write each part's gradients over the last one's; use default

training: {epochs: 5, optimizer: {name: sgd, lr: 1}, deterministic: 1}
    training.deterministic = 1   must be true or false

training: {epochs: 9223372036854775808, optimizer: {name: sgd, lr: 1}}
    training.epochs = 9223372036854775808   must be from 1 to 1,000,000

diagnosis: {gap: abz}
    diagnosis.gap = abz   must be one of: abs, signed. Did you mean abs?

diagnosis: {scalar: per_split}
    diagnosis.scalar = per_split   unknown key; known: scaler, gap, restarts, match_sizes, sample, kmeans,
    lambda, monitor_every. Did you mean scaler?

monitor: yes
    monitor = "yes"   must be one of: none, test

seeds: []
    seeds = []   must name at least one seed

seeds: 3
    seeds = 3   must be a list

seeds: [1, 1]
    seeds = [1, 1]   must not name a seed twice

seeds: [0, -1]
    seeds[1] = -1   must be from 0 to 9,223,372,036,854,775,807

seeds: [-1]
    seeds[0] = -1   must be from 0 to 9,223,372,036,854,775,807

modalities: {training: {backbone: small}}
    modalities.training   reserved by PyTorch; rename the modality

seeds: [true]
    seeds[0] = true   must be a whole number

name: a/b
    name = a/b   must be a name: letters, digits, _ . and -, a letter or digit first, 100 at most

name: "a\n"
    name = "a\n"   must be a name: letters, digits, _ . and -, a letter or digit first, 100 at most

modalities: {audio: {backbone: small, frames: 0}}
    modalities.audio.frames = 0   must be from 1 to 10,000

corrupt: {vidio: {snr_db: 0}}
    corrupt.vidio   not a modality of this recipe; known: audio, visual. Did you mean audio?

corrupt: {audio: {snr_db: loud}}
    corrupt.audio.snr_db = loud   must be a number

corrupt: {audio: {snr_db: 0, splits: [tset]}}
    corrupt.audio.splits[0] = tset   must be one of: train, val, test. Did you mean test?

extends: digits
    extends = digits   unknown key; known: dataset, modalities, corrupt, fusion, methods, training,
    diagnosis, search, name, task, loss, method, selection, monitor, seeds, log. Did you mean seeds?

methods: {joint: {training: {epochs: 0}}, relearn: {}}
    methods.joint.training.epochs = 0   must be from 1 to 1,000,000

methods: {joint: {training: {optimizer: {lrr: 1}}}, relearn: {}}
    methods.joint.training.optimizer.lrr = 1   unknown key; known: name, lr, momentum, weight_decay, nesterov.
    Did you mean lr?

search: {fusion: {name: [concat, film]}}
    search.fusion.name   cannot be searched: only values of training and of a label of methods can be

search: {methods: {jiont: {x: null}}}
    search.methods.jiont   not a label of methods; known: relearn, joint, strong. Did you mean joint?

search: {training: {optimizer: {lr: {low: 1, high: 0.1}}}}
    search.training.optimizer.lr = {low: 1, high: 0.1}   low must be less than high

search: {training: {optimizer: {lr: 0.1}}}
    search.training.optimizer.lr = 0.1   must be a range such as {low: 0.001, high: 0.1, log: true}, a list of values,
    or null for what is not searched
"""


def cases() -> dict[str, str]:
    """The message by block; a message goes on over the indented lines."""
    rows = (case.split("\n    ") for case in CASES.strip("\n").split("\n\n"))
    return {block: " ".join(message) for block, *message in rows}


def put_first(block: str, recipe: str) -> str:
    """The recipe with a block on its first line, instead of its own block of that key."""
    key = block.partition(":")[0]
    blocks = re.split(r"^(?=\w)", recipe, flags=re.MULTILINE)
    return "\n".join([block, *(other for other in blocks if not other.startswith(f"{key}:"))])


@pytest.mark.parametrize(("block", "message"), cases().items())
def test_a_wrong_value_is_named_with_its_line_its_key_and_what_is_allowed(
    refused: Callable[..., str], valid: str, block: str, message: str
) -> None:
    assert refused(put_first(block, valid)) == f"some.yaml: 1 problem\n  line 1  {message}"
