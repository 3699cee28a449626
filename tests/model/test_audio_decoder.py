"""Text to mel: alignment, durations, prosody, voices."""

from typing import Any

import pytest
import torch
from support.small_models import perturb, seeded

from xoron_core.contract.config.audio_decoder import AudioDecoderConfig, SpeakerEncoderConfig
from xoron_core.model.initialise import init_module
from xoron_core.model.speech.audio_decoder import AudioDecoder, AudioDecoderOutput, Recording
from xoron_core.model.speech.speaker_encoder import SpeakerEncoder
from xoron_core.model.speech.variance import Prosody

TEXT, AUDIO, VOICE = 24, 16, 12
TOKENS, FRAMES = (5, 9), (20, 33)


def make_decoder(seed: int = 0, **changes: Any) -> AudioDecoder:
    values: dict[str, Any] = {
        "hidden_size": 32,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "feed_forward_size": 48,
        "conv_kernel_size": 3,
        "alignment_size": 16,
        "predictor_size": 16,
    }
    decoder = AudioDecoder(AudioDecoderConfig(**(values | changes)), TEXT, AUDIO, VOICE, features_per_frame=4)
    init_module(decoder, seeded(seed))
    return decoder


def lengths_mask(lengths: tuple[int, ...], spare: int = 0) -> torch.Tensor:
    return torch.arange(max(lengths) + spare) < torch.tensor(lengths).unsqueeze(1)


def inputs(tokens: tuple[int, ...] = TOKENS, frames: tuple[int, ...] = FRAMES, spare: int = 0) -> dict[str, Any]:
    """Texts and recordings whose values do not depend on how far they are padded."""
    token_mask, frame_mask = lengths_mask(tokens, spare), lengths_mask(frames, spare)

    def rows(mask: torch.Tensor, lengths: tuple[int, ...], width: int, seed: int) -> torch.Tensor:
        made = torch.full((*mask.shape, width), 7.0)
        for row, length in enumerate(lengths):
            made[row, :length] = torch.randn(length, width, generator=seeded(seed + row))
        return made

    recording = Recording(
        rows(frame_mask, frames, AUDIO, 20),
        frame_mask,
        rows(frame_mask, frames, 80, 30),
        rows(frame_mask, frames, 1, 40).squeeze(-1),
        (rows(frame_mask, frames, 1, 50).squeeze(-1) > 0).float(),
    )
    return {
        "text_BNG": rows(token_mask, tokens, TEXT, 10),
        "token_mask_BN": token_mask,
        "speaker_BS": torch.randn(len(tokens), VOICE, generator=seeded(60)),
        "recording": recording,
    }


def total(output: AudioDecoderOutput) -> torch.Tensor:
    """Something that every prediction has a part in."""
    assert output.alignment_loss_B is not None
    predictions = (output.mel_BFM, output.log_durations_BN, *output.predicted)
    return torch.stack([x.square().mean() for x in predictions]).sum() + output.alignment_loss_B.mean()


def test_every_parameter_gets_a_gradient() -> None:
    decoder = make_decoder()
    perturb(decoder)
    total(decoder.predict(**inputs(), has_speaker_B=torch.tensor([True, False]))).backward()
    silent = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_tokens_are_given_the_frames_of_the_recording() -> None:
    output = make_decoder().predict(**inputs())
    assert output.mel_BFM.shape == (2, 33, 80)
    assert output.durations_BN.sum(1).tolist() == list(FRAMES)
    assert ((output.durations_BN > 0) == inputs()["token_mask_BN"]).all(), "every token, and no padding"
    alignment = output.alignment()
    assert torch.equal(alignment.sum(2).long(), output.durations_BN)
    assert torch.equal(alignment.sum(1), output.frame_mask_BF.float())
    assert ((output.path_BF.diff(dim=1) == 0) | (output.path_BF.diff(dim=1) == 1)).all()
    assert not output.mel_BFM[0, 20:].any()


@pytest.mark.parametrize("with_recording", [True, False])
def test_padding_changes_nothing(with_recording: bool) -> None:
    decoder = make_decoder().eval()
    perturb(decoder)
    wide = inputs(spare=7)
    if not with_recording:
        wide["recording"] = None
    both = decoder.predict(**wide)
    for row in range(2):
        own = inputs(TOKENS[row : row + 1], FRAMES[row : row + 1]) | {"speaker_BS": wide["speaker_BS"][row : row + 1]}
        values = _row(wide, row) | ({} if with_recording else {"recording": None}) | {"speaker_BS": own["speaker_BS"]}
        alone = decoder.predict(**values)
        frames = int(alone.durations_BN.sum())
        tokens = TOKENS[row]
        torch.testing.assert_close(both.mel_BFM[row, :frames], alone.mel_BFM[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(both.durations_BN[row, :tokens], alone.durations_BN[0])
        torch.testing.assert_close(both.log_durations_BN[row, :tokens], alone.log_durations_BN[0])
        if with_recording:
            torch.testing.assert_close(both.alignment_loss_B[row], alone.alignment_loss_B[0])


def _row(values: dict[str, Any], row: int) -> dict[str, Any]:
    """One of the texts and its recording, cut to their own lengths."""
    tokens, frames = TOKENS[row], FRAMES[row]
    made = {"text_BNG": values["text_BNG"][row : row + 1, :tokens], "token_mask_BN": None}
    if values["recording"] is not None:
        made["recording"] = Recording(*(part[row : row + 1, :frames] for part in values["recording"]))
    return made


def test_the_mel_knows_the_recording_by_durations_pitch_and_energy_alone() -> None:
    """Its content must not leak: in synthesis there is none."""
    decoder = make_decoder().eval()
    perturb(decoder)
    values = inputs()
    before = decoder.predict(**values)
    recording = values["recording"]
    mel = recording.mel_BFM.clone()
    mel[..., :40] += 0.01
    mel[..., 40:] -= 0.01
    same_energy = recording._replace(mel_BFM=mel, features_BFA=recording.features_BFA + 0.01)
    after = decoder.predict(**values | {"recording": same_energy})
    assert torch.equal(after.durations_BN, before.durations_BN), "small enough a change for the same alignment"
    torch.testing.assert_close(after.mel_BFM, before.mel_BFM, rtol=1e-4, atol=1e-5)
    higher = decoder.predict(**values | {"recording": recording._replace(pitch_BF=recording.pitch_BF + 1)})
    assert not torch.allclose(higher.mel_BFM, before.mel_BFM, atol=1e-3)
    louder = decoder.predict(**values | {"recording": recording._replace(mel_BFM=recording.mel_BFM + 0.001)})
    assert not torch.equal(louder.mel_BFM, before.mel_BFM)


def test_a_token_is_aligned_by_itself_and_its_neighbours() -> None:
    """States that know how far into the text they are would be aligned by that, along a straight line."""
    decoder, values = make_decoder(), inputs()
    recording = values["recording"]

    def likelihood(text: torch.Tensor) -> torch.Tensor:
        return decoder.aligner(
            text, values["token_mask_BN"], recording.features_BFA, recording.mask_BF, recording.mel_BFM
        )

    text = decoder.text_proj(values["text_BNG"])
    changed = text.clone()
    changed[1, 0] += 1.0
    before, after = likelihood(text)[1], likelihood(changed)[1]
    assert not torch.allclose(after[1], before[1], atol=1e-3)
    torch.testing.assert_close(after[2:9].diff(dim=0), before[2:9].diff(dim=0), rtol=1e-4, atol=1e-4)


def test_duration_predictions_teach_the_states_nothing() -> None:
    decoder = make_decoder()
    decoder.predict(**inputs()).log_durations_BN.sum().backward()
    taught = {name.split(".")[0] for name, p in decoder.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"variance"}


def test_without_a_recording_durations_are_predicted_within_bounds() -> None:
    decoder = make_decoder(max_frames_per_token=3)
    values = inputs() | {"recording": None}
    with torch.no_grad():
        decoder.variance.duration.out_proj.bias.fill_(9.0)
        long = decoder.predict(**values)
        decoder.variance.duration.out_proj.bias.fill_(-9.0)
        short = decoder.predict(**values)
        decoder.variance.duration.out_proj.bias.fill_(float("nan"))
        astray = decoder.predict(**values)
    assert torch.equal(long.durations_BN, 3 * values["token_mask_BN"].long())
    assert torch.equal(short.durations_BN, values["token_mask_BN"].long())
    assert torch.equal(astray.durations_BN, short.durations_BN)
    assert long.mel_BFM.shape == (2, 27, 80)
    assert not long.mel_BFM[0, 15:].any()
    assert long.spoken is None


def test_a_voice_counts_where_it_is_given() -> None:
    decoder = make_decoder().eval()
    perturb(decoder)
    values = inputs()
    told = decoder.predict(**values, has_speaker_B=torch.tensor([True, False])).mel_BFM
    null = decoder.predict(**values | {"speaker_BS": None}).mel_BFM
    always = decoder.predict(**values).mel_BFM
    torch.testing.assert_close(told[1], null[1])
    torch.testing.assert_close(told[0], always[0])
    assert not torch.allclose(told[0], null[0], atol=1e-3)


def test_the_call_of_the_reference() -> None:
    decoder = make_decoder().eval()
    text, features = torch.randn(1, 6, TEXT, generator=seeded(1)), torch.randn(1, 90, AUDIO, generator=seeded(2))
    mel, durations, alignment = decoder(text, speaker_embedding=None, audio_features=features, use_mas=True)
    assert mel.shape == (1, 23, 80), "four features a frame, the last frame begun"
    assert durations.sum() == 23
    assert alignment.shape == (1, 6, 23)
    free_mel, free_durations, _ = decoder(text, audio_features=features, use_mas=False)
    assert free_mel.shape[1] == free_durations.sum()
    with pytest.raises(ValueError, match="5 frames for 6 tokens"):
        decoder(text, audio_features=features[:, :20])


def test_prosody_of_tokens_is_the_mean_over_their_frames() -> None:
    path = torch.tensor([[0, 0, 1, 1, 1, 2, 2]])
    mask = torch.tensor([[True] * 6 + [False]])
    frames = Prosody(
        torch.tensor([[1.0, 3.0, 9.0, 5.0, 7.0, 2.0, 50.0]]),
        torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]]),
        torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0]]),
    )
    tokens = frames.of_tokens(path, mask, 4)
    assert tokens.pitch_BN.tolist() == [[2.0, 6.0, 0.0, 0.0]], "over voiced frames only"
    torch.testing.assert_close(tokens.voicing_BN, torch.tensor([[1.0, 2 / 3, 0.0, 0.0]]))
    assert tokens.energy_BN.tolist() == [[1.5, 4.0, 6.0, 0.0]]


def make_speaker_encoder() -> SpeakerEncoder:
    encoder = SpeakerEncoder(SpeakerEncoderConfig(conv_size=16, gru_size=16, embedding_size=VOICE))
    init_module(encoder, seeded())
    return encoder


def test_a_voice_is_a_vector_of_length_one_that_padding_does_not_change() -> None:
    encoder = make_speaker_encoder()
    mel = torch.randn(2, 30, 80, generator=seeded(1))
    mask = lengths_mask((30, 18))
    voices = encoder(mel, mask)
    torch.testing.assert_close(voices.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(encoder(mel[1:, :18], mask[1:, :18])[0], voices[1])
    assert not torch.allclose(voices[0], voices[1], atol=1e-3)
    voices[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_size": 36, "num_heads": 8}, "multiple of 2 × num_heads 8"), ({"conv_kernel_size": 4}, "is even")],
)
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioDecoderConfig(**changes)
