"""Text and a voice to a mel spectrogram; while it learns, durations come from the recording.

Shapes: B samples, N tokens, F frames (62.5 a second), M mel bins, D width, G width of text embeddings, A width of audio
features, S width of a speaker embedding.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from xoron_core.contract.config.audio_decoder import AudioDecoderConfig
from xoron_core.model.initialise import Initialised, draw_normal
from xoron_core.model.speech.aligner import Aligner
from xoron_core.model.speech.alignment import durations_of, path_of, search_path
from xoron_core.model.speech.audio_encoder import AudioFeatures
from xoron_core.model.speech.fft import FftStack
from xoron_core.model.speech.mel import N_MELS
from xoron_core.model.speech.variance import Prosody, VarianceAdaptor


class Recording(NamedTuple):
    """The sound that a text is aligned with."""

    features_BFA: Tensor
    """Of the audio encoder, averaged to the rate of mels."""
    mask_BF: Tensor
    """True within a recording."""
    mel_BFM: Tensor | None = None
    """Its spectrogram, which helps to align; its mean over bins is the energy."""
    pitch_BF: Tensor | None = None
    """Normalised log F0; with it, tokens are told how they were spoken. Needs `mel_BFM` and `voicing_BF`."""
    voicing_BF: Tensor | None = None
    """1 where a frame is voiced, else 0."""


@dataclass(frozen=True)
class AudioDecoderOutput:
    """A spectrogram and what it was made by; fields about a recording are None without one."""

    mel_BFM: Tensor
    """Normalised log-mel; zero beyond a sample's end."""
    frame_mask_BF: Tensor
    durations_BN: Tensor
    """Frames of every token."""
    path_BF: Tensor
    """The token of every frame."""
    log_durations_BN: Tensor
    """Predicted."""
    predicted: Prosody
    spoken: Prosody | None = None
    """What pitch, voicing and energy the tokens really had."""
    alignment_loss_B: Tensor | None = None
    """The aligner's, per frame."""

    def alignment(self) -> Tensor:
        """[B, N, F], 1 where a frame belongs to a token, else 0."""
        tokens_N1 = torch.arange(self.durations_BN.shape[1], device=self.path_BF.device).unsqueeze(1)
        return ((self.path_BF.unsqueeze(1) == tokens_N1) & self.frame_mask_BF.unsqueeze(1)).to(self.mel_BFM.dtype)


class AudioDecoder(Initialised):
    """FFT blocks over tokens, length regulation by alignment or predicted durations, FFT blocks over frames."""

    def __init__(
        self, config: AudioDecoderConfig, text_size: int, audio_size: int, speaker_size: int, features_per_frame: int
    ) -> None:
        super().__init__()
        self.config = config
        self.features_per_frame = features_per_frame
        """Frames of the audio encoder in one of the spectrogram."""
        hidden = config.hidden_size
        self.text_norm = nn.LayerNorm(text_size)
        self.text_proj = nn.Linear(text_size, hidden)
        self.encoder = FftStack(config, config.num_encoder_layers)
        self.null_voice_S = nn.Parameter(torch.empty(speaker_size))
        self.speaker_proj = nn.Linear(speaker_size, hidden)
        self.aligner = Aligner(hidden, audio_size, N_MELS, config.alignment_size)
        self.variance = VarianceAdaptor(config)
        self.place_proj = nn.Linear(4, hidden)
        self.decoder = FftStack(config, config.num_decoder_layers)
        self.mel_proj = nn.Linear(hidden, N_MELS)

    def init_own(self, generator: torch.Generator) -> None:
        """The null voice is about as long as any other; the first prediction is near zero, the mean."""
        draw_normal(self.null_voice_S, len(self.null_voice_S) ** -0.5, generator)
        self.mel_proj.weight.mul_(0.1)

    def forward(
        self,
        text_embeds: Tensor,
        speaker_embedding: Tensor | None = None,
        audio_features: Tensor | None = None,
        use_mas: bool = True,
        mel: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mel [B, F, M], durations [B, N] and alignment [B, N, F] of texts without padding: see `predict`.

        `audio_features` [B, T, A] come from the audio encoder, at its rate; `mel` [B, F, M], the spectrogram of the
        same sound, helps to align. Without features, or without `use_mas`, durations are predicted.

        Raises: ValueError for a recording with fewer frames of a spectrogram than its text has tokens.
        """
        recording = None
        if use_mas and audio_features is not None:
            everywhere_BT = torch.ones(audio_features.shape[:2], dtype=torch.bool, device=audio_features.device)
            slow = AudioFeatures(audio_features, everywhere_BT).averaged(self.features_per_frame)
            recording = Recording(slow.features_BFD, slow.mask_BF, mel)
            frames, tokens = recording.mask_BF.shape[1], text_embeds.shape[1]
            if frames < tokens:
                raise ValueError(f"{frames} frames for {tokens} tokens, each of which has one at least; cut the text")
        output = self.predict(text_embeds, speaker_BS=speaker_embedding, recording=recording)
        return output.mel_BFM, output.durations_BN, output.alignment()

    def predict(
        self,
        text_BNG: Tensor,
        token_mask_BN: Tensor | None = None,
        *,
        speaker_BS: Tensor | None = None,
        has_speaker_B: Tensor | None = None,
        recording: Recording | None = None,
    ) -> AudioDecoderOutput:
        """The spectrogram of texts, aligned with their recordings, or free-running without.

        `token_mask_BN` is True where there is a token (None: everywhere; they stand at the left). `speaker_BS` counts
        where `has_speaker_B` (None: everywhere); without one the voice is the learned null voice. A recording has as
        many frames as its text has tokens, at least.
        """
        if token_mask_BN is None:
            token_mask_BN = torch.ones(text_BNG.shape[:2], dtype=torch.bool, device=text_BNG.device)
        voice_BD = self.speaker_proj(self._voice(len(text_BNG), speaker_BS, has_speaker_B))
        text_BND = self.text_proj(self.text_norm(text_BNG))
        states_BND = self.encoder(text_BND, token_mask_BN) + voice_BD.unsqueeze(1)
        log_durations_BN = self.variance.log_durations(states_BND, token_mask_BN)
        spoken, alignment_loss_B = None, None
        if recording is None:
            durations_BN = self._rounded(log_durations_BN) * token_mask_BN
            num_frames_B = durations_BN.sum(1)
            frames = int(num_frames_B.max())  # synthesis: its length is known to the host only now
            frame_mask_BF = torch.arange(frames, device=text_BNG.device) < num_frames_B.unsqueeze(1)
            path_BF = path_of(durations_BN, frames)
        else:
            frame_mask_BF = recording.mask_BF
            likelihood_BNF = self.aligner(
                text_BND, token_mask_BN, recording.features_BFA, frame_mask_BF, recording.mel_BFM
            )
            num_frames_B = frame_mask_BF.sum(1)
            path_BF = search_path(likelihood_BNF.detach(), token_mask_BN.sum(1), num_frames_B)
            durations_BN = durations_of(path_BF, text_BNG.shape[1], num_frames_B)
            alignment_loss_B = self.aligner.loss(likelihood_BNF, token_mask_BN, frame_mask_BF)
            spoken = _spoken(recording, path_BF, text_BNG.shape[1])
        told_BND, predicted = self.variance(states_BND, token_mask_BN, spoken)
        frames_BFD = self._regulate(told_BND, durations_BN, path_BF)
        mel_BFM = self.mel_proj(self.decoder(frames_BFD, frame_mask_BF)) * frame_mask_BF.unsqueeze(-1)
        return AudioDecoderOutput(
            mel_BFM, frame_mask_BF, durations_BN, path_BF, log_durations_BN, predicted, spoken, alignment_loss_B
        )

    def _voice(self, batch_size: int, speaker_BS: Tensor | None, has_speaker_B: Tensor | None) -> Tensor:
        null_BS = self.null_voice_S.expand(batch_size, -1)
        if speaker_BS is None:
            return null_BS
        if has_speaker_B is None:
            return speaker_BS
        return torch.where(has_speaker_B.unsqueeze(1), speaker_BS, null_BS.to(speaker_BS.dtype))

    def _rounded(self, log_durations_BN: Tensor) -> Tensor:
        """Whole frames, one at least; one, too, where a model that went astray predicts what is no number."""
        durations_BN = log_durations_BN.float().exp().nan_to_num(nan=1.0)
        return durations_BN.round().clamp(1, self.config.max_frames_per_token).long()

    def _regulate(self, x_BND: Tensor, durations_BN: Tensor, path_BF: Tensor) -> Tensor:
        """Every token's state at each of its frames, [B, F, D], told how far into the token the frame lies, and how
        long the token is: without it, frames of one token would differ by their neighbours only."""
        starts_BN = durations_BN.cumsum(1) - durations_BN
        length_BF = durations_BN.gather(1, path_BF).clamp(min=1).to(x_BND.dtype)
        frames_F = torch.arange(path_BF.shape[1], device=path_BF.device)
        place_BF = (frames_F - starts_BN.gather(1, path_BF) + 0.5) / length_BF
        angle_BF = torch.pi * place_BF
        place_BF4 = torch.stack((angle_BF.cos(), angle_BF.sin(), (2 * angle_BF).cos(), length_BF.log()), dim=-1)
        held_BFD = x_BND.gather(1, path_BF.unsqueeze(-1).expand(-1, -1, x_BND.shape[-1]))
        return held_BFD + self.place_proj(place_BF4.to(x_BND.dtype))  # type: ignore[no-any-return]


def _spoken(recording: Recording, path_BF: Tensor, num_tokens: int) -> Prosody | None:
    """Pitch, voicing and energy of the tokens, where the recording comes with them."""
    if recording.mel_BFM is None or recording.pitch_BF is None or recording.voicing_BF is None:
        return None
    of_frames = Prosody(recording.pitch_BF, recording.voicing_BF, recording.mel_BFM.mean(-1))
    return of_frames.of_tokens(path_BF, recording.mask_BF, num_tokens)
