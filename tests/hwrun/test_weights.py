from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hwrun.models.weights
from hwrun.errors import BadUsageError, PeerGoneError
from hwrun.models.catalogue import build_model, sample_input
from hwrun.models.cut import BlockChain
from hwrun.models.state_dict import named_tensors
from hwrun.models.weights import WeightsError, WeightStore, default_weights_directory, load_stage, put_model


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "weights")


def files(store: WeightStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


def test_what_is_put_is_loaded_again(store: WeightStore) -> None:
    tensors = {"a.weight": torch.randn(3, 5).t(), "a.steps": torch.tensor(7), "b": torch.zeros(2, dtype=torch.int8)}
    digest = store.put(tensors)
    assert store.has(digest)
    assert digest == hashlib.sha256(store.path(digest).read_bytes()).hexdigest()
    loaded = store.load(digest)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)


def test_tensors_that_share_memory_are_stored_each_in_full(store: WeightStore) -> None:
    shared = torch.randn(4)
    loaded = store.load(store.put({"one": shared, "other": shared, "part": shared[1:3]}))
    assert torch.equal(loaded["other"], shared)
    assert torch.equal(loaded["part"], shared[1:3])


def test_equal_content_is_written_once_and_has_one_digest(store: WeightStore) -> None:
    first = store.put({"w": torch.ones(3), "v": torch.zeros(2)})
    written = store.path(first).stat().st_mtime_ns
    assert store.put({"v": torch.zeros(2), "w": torch.ones(3)}) == first
    assert store.path(first).stat().st_mtime_ns == written
    assert store.put({"w": torch.ones(3), "v": torch.ones(2)}) != first
    assert len(files(store)) == 2


def test_a_block_without_tensors_is_stored_too(store: WeightStore) -> None:
    assert store.load(store.put({})) == {}


def test_bytes_received_in_pieces_are_kept_once_they_match(store: WeightStore, tmp_path: Path) -> None:
    sender = WeightStore(tmp_path / "sender")
    digest = sender.put({"w": torch.randn(100)})
    content = sender.path(digest).read_bytes()
    assert not store.has(digest)
    store.receive(digest, 0, [content[:10], bytearray(content[10:200]), memoryview(content)[200:]])
    assert torch.equal(store.load(digest)["w"], sender.load(digest)["w"])


def test_received_bytes_of_another_digest_are_refused_and_not_kept(store: WeightStore) -> None:
    with pytest.raises(WeightsError, match=r"received 5 bytes with digest .*, expected 0{64}; send them again"):
        store.receive("0" * 64, 0, [b"wrong"])
    assert files(store) == []


def breaking_off(content: bytes) -> Iterator[bytes]:
    yield content
    raise PeerGoneError("left")


def test_a_transfer_that_breaks_off_goes_on_from_where_it_stopped(store: WeightStore, tmp_path: Path) -> None:
    sender = WeightStore(tmp_path / "sender")
    digest = sender.put({"w": torch.randn(1000)})
    content = sender.path(digest).read_bytes()
    for start, end in ((0, 700), (700, 701), (701, 3000)):
        assert store.held_bytes(digest) == start
        with pytest.raises(PeerGoneError):
            store.receive(digest, start, breaking_off(content[start:end]))
    assert not store.has(digest)
    store.receive(digest, 3000, [content[3000:]])
    assert store.held_bytes(digest) == 0
    assert torch.equal(store.load(digest)["w"], sender.load(digest)["w"])
    assert files(store) == [f"{digest}.safetensors"]


def test_what_was_kept_of_a_broken_transfer_is_hashed_again(store: WeightStore) -> None:
    content = b"a block of many bytes"
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(PeerGoneError):
        store.receive(digest, 0, breaking_off(b"a BLOCK"))
    with pytest.raises(WeightsError, match="send them again"):
        store.receive(digest, 7, [content[7:]])
    assert store.held_bytes(digest) == 0
    store.receive(digest, 0, [content])
    assert store.has(digest)


def test_a_sender_may_start_earlier_and_not_later_than_what_is_held(store: WeightStore) -> None:
    content = b"a block of many bytes"
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(PeerGoneError):
        store.receive(digest, 0, breaking_off(content[:9]))
    for offset in (10, -1):
        with pytest.raises(WeightsError, match=rf"from {offset} on, of which 9 are here"):
            store.receive(digest, offset, [])
    store.receive(digest, 4, [content[4:]])
    assert store.path(digest).read_bytes() == content


def test_two_processes_do_not_receive_one_block_into_each_other(store: WeightStore) -> None:
    content = b"a block of many bytes"
    digest = hashlib.sha256(content).hexdigest()

    def meddling() -> Iterator[bytes]:
        yield content[:5]
        with pytest.raises(WeightsError, match="being received by another process"):
            store.receive(digest, 0, [content])
        yield content[5:]

    store.receive(digest, 0, meddling())
    assert store.path(digest).read_bytes() == content


def test_a_full_disk_is_an_error_that_frees_what_was_written(
    store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> Iterator[bytes]:
        yield bytes(100)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WeightsError, match="cannot be written: No space left on device; make room there"):
        store.receive("0" * 64, 0, full())
    assert files(store) == []


def test_a_damaged_file_is_reported_and_removed(store: WeightStore) -> None:
    digest = store.put({"w": torch.ones(50)})
    content = bytearray(store.path(digest).read_bytes())
    content[-1] ^= 1
    store.path(digest).write_bytes(content)
    with pytest.raises(WeightsError, match=r"was damaged .* has been removed; send it again"):
        store.load(digest)
    assert not store.has(digest)
    with pytest.raises(WeightsError, match="is not in"):
        store.load(digest)


def test_a_file_that_is_whole_but_no_safetensors_is_refused(store: WeightStore) -> None:
    digest = hashlib.sha256(b"something else").hexdigest()
    store.receive(digest, 0, [b"something else"])
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        store.load(digest)


@pytest.mark.parametrize("digest", ["", "../" * 10, "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_digest_cannot_name_a_path(store: WeightStore, digest: str) -> None:
    with pytest.raises(BadUsageError, match="expected 64 lower-case hexadecimal digits"):
        store.path(digest)


def test_the_default_directory_follows_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_weights_directory() == tmp_path / "paretosim/weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert WeightStore().root == tmp_path / ".cache/paretosim/weights"


def test_a_loaded_stage_holds_just_its_blocks_and_computes_the_same(store: WeightStore) -> None:
    model = build_model("mobilenet_v2", seed=3)
    chain = BlockChain.of("mobilenet_v2", model)
    digests = put_model(chain, store)
    x = sample_input("mobilenet_v2", 1)
    with torch.inference_mode():
        expected = model(x)
        first = load_stage("mobilenet_v2", 0, 8, digests[:8], store)
        second = load_stage("mobilenet_v2", 8, 21, digests[8:], store)
        assert torch.equal(second(*first(x))[0], expected)
    assert named_tensors(first).keys() == named_tensors(chain.stage(0, 8)).keys()
    assert not any(tensor.is_meta or tensor.requires_grad for tensor in named_tensors(first).values())
    assert not first.training


def test_a_stage_is_loaded_without_the_rest_of_its_model_ever_taking_memory(
    store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = put_model(BlockChain.of("mobilenet_v2", build_model("mobilenet_v2")), store)
    built: list[torch.nn.Module] = []

    def watched(name: str, **how: Any) -> torch.nn.Module:
        built.append(build_model(name, **how))
        return built[-1]

    monkeypatch.setattr("hwrun.models.weights.build_model", watched)
    stage = load_stage("mobilenet_v2", 0, 8, digests[:8], store)
    assert not any(tensor.is_meta for tensor in stage.state_dict().values())
    (whole,) = built
    ours = {tensor.data_ptr() for tensor in stage.state_dict().values()}
    assert all(tensor.is_meta or tensor.data_ptr() in ours for tensor in whole.state_dict().values())


def test_buffers_outside_the_state_dict_are_loaded_too(store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_buffer(name: str, meta: bool = False) -> torch.nn.Module:
        model = build_model(name, meta=meta)
        model.get_submodule("fc").register_buffer(
            "scale", torch.ones(3, device="meta") if meta else torch.rand(3), persistent=False
        )
        return model

    chain = BlockChain.of("resnet18", with_buffer("resnet18"))
    digest = store.put(chain.block_tensors(13))
    monkeypatch.setattr(hwrun.models.weights, "build_model", with_buffer)
    stage = load_stage("resnet18", 13, 14, [digest], store)
    assert torch.equal(stage.get_buffer("fc.scale"), chain.block_tensors(13)["fc.scale"])
    assert "fc.scale" not in stage.state_dict()


def test_blocks_of_another_place_or_number_are_refused(store: WeightStore) -> None:
    digests = put_model(BlockChain.of("mobilenet_v2", build_model("mobilenet_v2")), store)
    with pytest.raises(BadUsageError, match=r"digests: got 3, expected 2, one a block of \[0:2\]"):
        load_stage("mobilenet_v2", 0, 2, digests[:3], store)
    with pytest.raises(WeightsError, match=r"mobilenet_v2\[1:2\]: missing features.1.conv.0.0.weight.*and 22 more"):
        load_stage("mobilenet_v2", 1, 2, digests[2:3], store)
