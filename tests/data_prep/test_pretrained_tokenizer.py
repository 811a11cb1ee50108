"""`tokenizer` of the pictures with texts: the ids are those of the tokenizer that a model was trained with."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.command_line import invoke, tree
from support.image_text_trees import TOKENS, make_food101, make_mvsa, save_tokenizer
from support.models_of_others import CONFIGS, config_folder
from support.preparing import prepared_with

from data_prep.food101 import Food101
from data_prep.mvsa import MvsaSingle
from data_prep.texts.pretrained import Pretrained
from drcli.data.prepared import open_dataset
from drcli.errors import DataError, UsageError

pytest.importorskip("tokenizers")

food = partial(prepared_with, Food101, {"picture_size": 16, "max_length": 8, "val_share": 0.25})


def test_a_text_has_the_tokenizers_own_tokens_around_it_and_is_cut_between_them(tmp_path: Path) -> None:
    made = Pretrained(str(save_tokenizer(tmp_path / "t")), 6)
    ids, lengths, cut = made.token_ids(["Beef TARTARE!", "", "the best apple pie, the best"])
    pad, unknown, start, end = (TOKENS.index(token) for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
    assert ids.tolist() == [
        [start, 5, 6, 7, unknown, end],
        [start, end, pad, pad, pad, pad],
        [start, 10, 11, 8, 9, end],
    ]
    assert (ids.dtype.name, lengths, cut) == ("int32", [6, 2, 6], 1)
    assert (made.vocabulary, made.pad) == (len(TOKENS), pad)


@pytest.mark.parametrize(
    ("config", "pad"), [({"pad_token": {"content": "[SEP]"}}, 2), ({"pad_token": {}}, 0), ({}, 0), (None, 0)]
)
def test_the_padding_is_what_the_configuration_says_or_0(tmp_path: Path, config: object, pad: int) -> None:
    path = save_tokenizer(tmp_path / "t") / "tokenizer_config.json"
    path.unlink()
    if config is not None:
        path.write_text(json.dumps(config))
    assert Pretrained(str(tmp_path / "t"), 8).pad == pad


def test_the_padding_of_the_tokenizers_own_file_comes_first_and_pads_no_text(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    path = save_tokenizer(tmp_path / "t") / "tokenizer.json"
    made = Tokenizer.from_file(str(path))
    made.enable_padding(pad_id=9, length=20)
    made.save(str(path))
    found = Pretrained(str(tmp_path / "t"), 8)
    assert (found.pad, found.token_ids(["pie"])[1]) == (9, [3])
    made.enable_padding(pad_id=2**32 - 1, length=20)
    made.save(str(path))
    with pytest.raises(DataError, match="gives the id 4294967295, those of its tokens end at"):
        Pretrained(str(tmp_path / "t"), 8)


def test_dishes_get_the_ids_of_the_tokenizer_and_its_digest_twice_the_same(tmp_path: Path) -> None:
    make_food101(tmp_path / "food")
    name = str(save_tokenizer(tmp_path / "t"))
    info = food(tmp_path / "food", tmp_path / "one", tokenizer=name)
    text = info.modalities["text"]
    assert (text.kind, text.shape, text.vocabulary, text.pad) == ("tokens", (8,), 13, 12)
    assert info.source["cut_texts"] == {"train": 27, "val": 9, "test": 12}
    assert len(info.source["tokenizer"]) == 64
    assert "tokenizers" in info.source["decoders"]
    names = (tmp_path / "one" / "test" / "ids.txt").read_text().split()
    row = np.load(tmp_path / "one" / "test" / "text.npy")[names.index("beef_tartare_501")]
    assert row.tolist() == [1, 3, 0, 4, 5, 6, 7, 2]  # [CLS] grandma ’ s beef tart ##are [SEP]
    food(tmp_path / "food", tmp_path / "two", tokenizer=name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    open_dataset(tmp_path / "one", name="food101")
    save_tokenizer(tmp_path / "t", tokens=(*TOKENS, "more"))
    with pytest.raises(DataError, match=r"holds another prepared dataset \(contents of --source"):
        food(tmp_path / "food", tmp_path / "one", tokenizer=name)


def test_tweets_take_it_too(tmp_path: Path) -> None:
    make_mvsa(tmp_path / "mvsa")
    settings = {"picture_size": 16, "max_length": 8, "tokenizer": str(save_tokenizer(tmp_path / "t"))}
    info = prepared_with(MvsaSingle, settings, tmp_path / "mvsa", tmp_path / "out")
    assert info.modalities["text"].vocabulary == 13


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "none",
            r"tokenizer: none: no folder, and tokenizer\.json of a model .*: hf download none; hashing needs no file",
        ),
        ("empty", r"empty/tokenizer\.json: no such file; name a folder that a fast tokenizer was saved in"),
        ("n" * 5000, r"n: no folder, and tokenizer\.json of a model of this name is not in the cache; fetch it"),
        ("damaged", r"damaged/tokenizer\.json: is no fast tokenizer that can be used \(.*\); save the tokenizer again"),
    ],
)
def test_a_tokenizer_that_is_not_there_is_refused_before_any_picture_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    make_food101(tmp_path / "food")
    for folder in ("empty", "damaged"):
        (tmp_path / folder).mkdir()
    (tmp_path / "damaged" / "tokenizer.json").write_text('{"model": 1}')
    monkeypatch.setattr("data_prep.image_text.read_image", lambda _: pytest.fail("a picture was read"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        food(tmp_path / "food", tmp_path / "out", tokenizer=name)


def test_a_length_without_room_for_a_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"max_length = 2: the tokenizer adds 2 tokens of its own; set it to 3 at least"
    ):
        Pretrained(str(save_tokenizer(tmp_path / "t")), 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"[UNK]": "[UKN]"}, r"can be used \(.*Missing \[UNK\] token from the vocabulary\); save the tokenizer again"),
        ({'"pie": 9': '"pie": 4294967295'}, r"has 4294967296 ids, 16777216 may be; is it damaged\?"),
        ({"[\n          1\n": "[\n          99\n"}, r"gives the id 99, those of its tokens end at \d+; save the"),
        ({"[\n          1\n": "[\n          4294967295\n"}, r"is no fast tokenizer that can be used \(.*4294967295"),
        ({'"[CLS]": {': '"[CLX]": {'}, r"is no fast tokenizer that can be used"),  # on which its Rust part panics
    ],
)
def test_a_file_that_is_damaged_inside_is_refused(tmp_path: Path, damage: dict[str, str], message: str) -> None:
    path = save_tokenizer(tmp_path / "t") / "tokenizer.json"
    ((old, new),) = damage.items()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        Pretrained(str(tmp_path / "t"), 8).token_ids(["lasagne"])


def test_without_the_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UsageError, match=r"tokenizer = x: needs tokenizers; run pip install 'drcli\[transformers\]'"):
        Pretrained("x", 8)


@pytest.mark.slow
def test_ids_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = str(save_tokenizer(tmp_path / "t"))
    texts = ["Grandma's beef tartare", "", "pie pie pie pie pie pie pie pie pie"]
    expected = transformers.AutoTokenizer.from_pretrained(folder)(
        texts, padding="max_length", max_length=8, truncation=True, return_tensors="np"
    )
    ids, lengths, _ = Pretrained(folder, 8).token_ids(texts)
    np.testing.assert_array_equal(ids, expected["input_ids"])
    assert lengths == expected["attention_mask"].sum(1).tolist()


@pytest.mark.slow
def test_an_encoder_doubts_the_ids_of_another_tokenizer_and_refuses_more_than_it_knows(tmp_path: Path) -> None:
    from drcli.models.transformers_encoder import Transformers

    model = config_folder(tmp_path / "bert", "bert")
    settings = Transformers.Settings(model=model)
    other = str(save_tokenizer(tmp_path / "t"))
    expected = (
        f"the token ids were made by tokenizer: {other}, and {model} was trained with its own; prepare the dataset "
        f"again with dataset.prepare.tokenizer={model}"
    )
    assert Transformers.doubt_tokenizer(settings, other) == expected
    assert Transformers.doubt_tokenizer(settings, model) is None
    save_tokenizer(tmp_path / "bert")
    assert Transformers.doubt_tokenizer(settings, other) is None  # the same file under another name
    assert "made by tokenizer: hashing, and" in str(Transformers.doubt_tokenizer(settings, "hashing"))
    assert Transformers.doubt_tokenizer(settings.model_copy(update={"pretrained": False}), "hashing") is None
    picture = Transformers.Settings(model=config_folder(tmp_path / "vit", "vit"))
    assert Transformers.doubt_tokenizer(picture, other) is None
    known = CONFIGS["bert"]["vocab_size"]
    with pytest.raises(UsageError, match=rf"knows {known} token ids, the dataset has {known + 1}; prepare it with the"):
        Transformers(settings, (8,), known + 1)


@pytest.mark.slow
def test_a_pre_trained_bert_gets_its_own_ids_from_prepare_to_the_number(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = save_tokenizer(Path(config_folder(tmp_path / "bert", "bert")))
    transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**CONFIGS["bert"])).save_pretrained(model)
    make_mvsa(tmp_path / "mvsa")
    prepare = ["dataset.prepare.picture_size=32", "dataset.prepare.max_length=8"]
    text = {"backbone": "transformers", "model": str(model), "pooling": "cls"}
    changed = [
        f"modalities.text={json.dumps(text)}",
        *(f"modalities.visual.{key}" for key in ("backbone=resnet_small", "stem_stride=4", "size=32")),
        *("training.epochs=2", "training.batch_size=8", "methods.diagnose_relearn.every=1", "seeds=[0]"),
    ]
    warned = dict[str, bool]()
    for name in (str(model), "hashing"):
        own = [*prepare, f"dataset.prepare.tokenizer={name}", "dataset.prepare.vocabulary=24"]
        own.append(f"dataset.root={tmp_path / f'data{len(warned)}'}")
        invoke("prepare", "mvsa_single", *own, "--source", tmp_path / "mvsa")
        runs = tmp_path / f"runs{len(warned)}"
        outcome = invoke("train", "mvsa_single", *own, *changed, "--out", runs, "--device", "cpu", "--json")
        assert len(json.loads(outcome.stdout)["runs"]) == 1
        warned[name] = "were made by tokenizer: hashing, and" in outcome.stderr
    assert warned == {str(model): False, "hashing": True}
