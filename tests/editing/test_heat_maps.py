"""Word heat maps: the probabilities of cross-attention, of each token, over the frames."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from tav_core.editing.heat_maps import heat_maps, word_heat_maps, word_mask
from tav_core.models.base import load_model
from tav_core.models.codec import prompt_words
from tav_core.unet.inflate import inflate
from tests.conftest import EPSILON, MakeUNet, draw

SIZE = (6, 10)


class Scores:
    """An attention processor of diffusers that keeps the probabilities of cross-attention, (n, s, tokens)."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None, attention_mask: None
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(p) for p in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        )
        probabilities = attn.get_attention_scores(query, key)
        if encoder_hidden_states is not None:
            self.found.append(probabilities.unflatten(0, (len(hidden_states), attn.heads)).mean(dim=1))
        return attn.to_out[0](attn.batch_to_head_dim(probabilities @ value))


def test_maps_of_a_frame_are_the_scores_of_the_image_model(make_unet: MakeUNet) -> None:
    """Of one noise level; a clip of one frame is an image."""
    latents, text, image_unet, scores = draw(1, 4, 1, *SIZE), draw(1, 5, 12, seed=1), make_unet("sd2"), Scores()
    (step,) = heat_maps(inflate(make_unet("sd2")), latents, text, EPSILON, num_levels=1, seed=3)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    alpha = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[step.timestep]
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    image_unet.set_attn_processor(scores)
    with torch.no_grad():
        image_unet(noisy[:, :, 0], step.timestep, text)
    sizes = {60: (6, 10), 15: (3, 5), 6: (2, 3)}
    maps = [found.transpose(1, 2).unflatten(-1, sizes[found.shape[1]]) for found in scores.found]
    enlarged = [F.interpolate(found, SIZE, mode="bilinear") for found in maps]
    torch.testing.assert_close(step.maps[:, :, 0], torch.stack(enlarged).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_maps_sum_to_one_over_tokens_and_average_levels(make_unet: MakeUNet) -> None:
    unet, latents, text = inflate(make_unet("sd1")), draw(1, 4, 3, 8, 8), draw(1, 5, 12, seed=1)
    steps = list(heat_maps(unet, latents, text, EPSILON, num_levels=4))
    assert [step.timestep for step in steps] == sorted((step.timestep for step in steps), reverse=True)
    for step in steps:
        torch.testing.assert_close(step.maps.sum(dim=1), torch.ones(1, 3, 8, 8))
    assert not torch.equal(steps[0].maps, steps[-1].maps)
    again = list(heat_maps(unet, latents, text, EPSILON, num_levels=4))
    assert torch.equal(steps[-1].maps, again[-1].maps)


def test_words_take_the_mean_of_their_tokens_and_their_own_scale() -> None:
    maps = torch.tensor([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1, 1, 1) * torch.tensor([0.5, 0.75, 1.0]).reshape(
        1, 1, 1, 1, 3
    )
    (one, first), (two, second) = word_heat_maps(maps, [("one", [1]), ("two", [2, 3])])
    assert (one, two) == ("one", "two")
    assert first.flatten().tolist() == second.flatten().tolist() == [0.0, 0.5, 1.0]
    ((_, even),) = word_heat_maps(torch.ones(1, 4, 1, 1, 3), [("one", [1])])
    assert even.flatten().tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="Maps of one clip"):
        word_heat_maps(maps[0], [("one", [1])])


def test_mask_covers_the_words_that_are_named() -> None:
    left, right = torch.tensor([[[1.0, 0.1]]]), torch.tensor([[[0.2, 1.0]]])
    maps = [("Star", left), ("sea", right)]
    assert word_mask(maps, ["star"], (1, 2), 0.5).tolist() == [[[1, 0]]]
    assert word_mask(maps, ["star", "SEA"], (1, 2), 0.5).tolist() == [[[1, 1]]]
    torch.testing.assert_close(word_mask(maps, ["sea"], (1, 2), 0), right)
    assert word_mask(maps, [], (4, 6), 0.5).tolist() == torch.ones(1, 4, 6).tolist()
    with pytest.raises(ValueError, match="no word 'moon'; it has sea, star"):
        word_mask(maps, ["moon"], (1, 2), 0.5)


def test_places_of_words_are_those_of_their_tokens() -> None:
    model = load_model()
    prompt = 'a "red" person, jumps on a navy-blue beach'
    words = prompt_words(model, prompt)
    assert [word for word, _ in words] == ["a", "red", "person", "jumps", "on", "a", "navy-blue", "beach"]
    ids = model.tokenizer(prompt).input_ids
    for word, places in words:
        tokens = model.tokenizer.decode([ids[place] for place in places]).replace(" ", "")
        assert tokens == word


def test_places_of_words_in_later_chunks() -> None:
    words = prompt_words(load_model(), " ".join(["dog"] * 200))
    places = [place for _, (place,) in words]
    assert places == [*range(1, 76), *range(78, 153), *range(155, 205)]  # between the start and end tokens of chunks


@pytest.mark.parametrize("places", [[], [9], [-1]])
def test_a_word_without_a_place_among_the_tokens_is_refused(places: list[int]) -> None:
    with pytest.raises(ValueError, match="'coat' stands at .* the maps have 9 tokens"):
        word_heat_maps(torch.rand(1, 9, 2, 3, 3), [("coat", places)])
